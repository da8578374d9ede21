// What the tests of single instructions share: a kernel around a few lines of PTX, inputs, and comparison.
//
// The lines find their inputs in %d0 to %d3 (64 bits), the lower halves of these in %r0 to %r3, the lower 16
// bits in %h0 to %h3, and leave the result in %r9 (or %d9 for check_wide()). `dynamic` names 64 bytes of
// shared memory. %p1 to %p9 and the other registers are free.
#ifndef OCT_TESTS_PTX_CHECKS_H
#define OCT_TESTS_PTX_CHECKS_H

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
}

#include "runtime/elementary.h"

#include "ptx_registry.h"
#include "ptx_tokens.h"

namespace ptx_checks
{

using inputs = std::vector<std::array<uint64_t, 4>>;

// The text of a kernel `name` around the lines. `declarations` stand before the code (shared memory), `functions`
// before the kernel.
std::string kernel_text(const std::string &name, const std::string &lines,
                        const std::string &declarations = "", const std::string &functions = "");

// Runs the lines once for each input, in blocks of `block` threads, and gives what they leave in %d9.
std::vector<uint64_t> run(const std::string &lines, const inputs &in, unsigned block = 32,
                          const std::string &declarations = "", const std::string &functions = "");

// Runs in a child process that is expected to end with code 86, and gives what it wrote to stderr.
std::string run_to_death(const std::string &lines, const inputs &in, const std::string &declarations = "");

// The message with which the text is refused; fails the test if it is not.
std::string refusal(const std::string &text);

// Random words (a fresh seed for every process, printed; OCT_TEST_SEED sets it).
uint64_t random_word();

// n inputs whose words are random or, every third, from `special`, sign and neighbours varied.
inputs mixed_inputs(size_t n, const std::vector<uint64_t> &special);

// Words that floats are sensitive to: zeros, infinities, NaN, denormals, ties, powers of two around the
// integers' ends.
std::vector<uint64_t> special_floats();
std::vector<uint64_t> special_doubles();
std::vector<uint64_t> special_integers();

inline float as_float(uint64_t bits)
{
    return oct_bits_float(static_cast<uint32_t>(bits));
}
inline double as_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline uint32_t bits_of(float value)
{
    return oct_float_bits(value);
}
inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

[[noreturn]] void fail_case(const std::string &lines, const std::array<uint64_t, 4> &in, uint64_t found,
                            uint64_t expected);

// Compares the lower 32 bits of what the lines leave in %r9 with expected(a, b, c, d).
template <class Expected> void check(const std::string &lines, const inputs &in, Expected expected)
{
    std::vector<uint64_t> found = run(lines + "\n\tcvt.u64.u32 %d9, %r9;", in);
    for (size_t i = 0; i < in.size(); i++) {
        uint32_t want = static_cast<uint32_t>(expected(in[i][0], in[i][1], in[i][2], in[i][3]));
        if (static_cast<uint32_t>(found[i]) != want)
            fail_case(lines, in[i], found[i], want);
    }
}

// The same for %d9 and 64 bits.
template <class Expected> void check_wide(const std::string &lines, const inputs &in, Expected expected)
{
    std::vector<uint64_t> found = run(lines, in);
    for (size_t i = 0; i < in.size(); i++) {
        uint64_t want = static_cast<uint64_t>(expected(in[i][0], in[i][1], in[i][2], in[i][3]));
        if (found[i] != want)
            fail_case(lines, in[i], found[i], want);
    }
}

// The same for floats in %r9, where every NaN is as good as another.
template <class Expected> void check_float(const std::string &lines, const inputs &in, Expected expected)
{
    std::vector<uint64_t> found = run(lines + "\n\tcvt.u64.u32 %d9, %r9;", in);
    for (size_t i = 0; i < in.size(); i++) {
        float want = expected(as_float(in[i][0]), as_float(in[i][1]), as_float(in[i][2]));
        bool both_nan = want != want && as_float(found[i]) != as_float(found[i]);
        if (!both_nan && static_cast<uint32_t>(found[i]) != bits_of(want))
            fail_case(lines, in[i], static_cast<uint32_t>(found[i]), bits_of(want));
    }
}

} // namespace ptx_checks

#endif
