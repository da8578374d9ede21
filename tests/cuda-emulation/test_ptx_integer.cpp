// Single instructions of the PTX interpreter against the host's arithmetic: integers, bits, floats,
// comparisons. Expectations are written another way than the interpreter's executors wherever there is one.
#include <algorithm>
#include <cstdlib>

#include "ptx_checks.h"

using namespace ptx_checks;

static const size_t many = 4000;

static inputs integers()
{
    return mixed_inputs(many, special_integers());
}

// ---- integers ----
// The upper half of a product from four products of halves (Knuth, TAOCP 2, 4.3.1, algorithm M).
static uint64_t high_unsigned(uint64_t a, uint64_t b)
{
    uint64_t al = static_cast<uint32_t>(a), ah = a >> 32, bl = static_cast<uint32_t>(b), bh = b >> 32;
    uint64_t middle = al * bh + (al * bl >> 32), other = ah * bl + static_cast<uint32_t>(middle);
    return ah * bh + (middle >> 32) + (other >> 32);
}
static uint64_t high_signed(uint64_t a, uint64_t b)
{
    return high_unsigned(a, b) - (a >> 63 ? b : 0) - (b >> 63 ? a : 0);
}

static void test_products(void **)
{
    inputs in = integers();
    check("mul.lo.s32 %r9, %r0, %r1;", in, [](uint64_t a, uint64_t b, uint64_t, uint64_t) { return a * b; });
    check("mul.hi.u32 %r9, %r0, %r1;", in,
          [](uint32_t a, uint32_t b, uint64_t, uint64_t) { return static_cast<uint64_t>(a) * b >> 32; });
    check("mul.hi.s32 %r9, %r0, %r1;", in, [](uint32_t a, uint32_t b, uint64_t, uint64_t) {
        return static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(a)) *
                                     static_cast<int32_t>(b)) >>
               32;
    });
    check_wide("mul.hi.u64 %d9, %d0, %d1;", in,
               [](uint64_t a, uint64_t b, uint64_t, uint64_t) { return high_unsigned(a, b); });
    check_wide("mul.hi.s64 %d9, %d0, %d1;", in,
               [](uint64_t a, uint64_t b, uint64_t, uint64_t) { return high_signed(a, b); });
    check_wide("mul.wide.s32 %d9, %r0, %r1;", in,
               [](int32_t a, int32_t b, uint64_t, uint64_t) { return static_cast<int64_t>(a) * b; });
    check_wide("mad.wide.u32 %d9, %r0, %r1, %d2;", in,
               [](uint32_t a, uint32_t b, uint64_t c, uint64_t) { return static_cast<uint64_t>(a) * b + c; });
    check("mul.wide.s16 %r9, %h0, %h1;", in, [](int16_t a, int16_t b, uint64_t, uint64_t) { return a * b; });
    check_wide("mad.lo.s64 %d9, %d0, %d1, %d2;", in,
               [](uint64_t a, uint64_t b, uint64_t c, uint64_t) { return a * b + c; });
    check("dp4a.s32.s32 %r9, %r0, %r1, %r2;", in, [](uint32_t a, uint32_t b, uint32_t c, uint64_t) {
        for (int k = 0; k < 4; k++)
            c += static_cast<uint32_t>(static_cast<int8_t>(a >> (8 * k)) * static_cast<int8_t>(b >> (8 * k)));
        return c;
    });
}

static void test_sums_and_quotients(void **)
{
    inputs in = integers();
    check("sub.s32 %r9, %r0, %r1;", in, [](uint64_t a, uint64_t b, uint64_t, uint64_t) { return a - b; });
    check("add.sat.s32 %r9, %r0, %r1;", in, [](int32_t a, int32_t b, uint64_t, uint64_t) {
        int32_t sum;
        return __builtin_add_overflow(a, b, &sum) ? (a < 0 ? INT32_MIN : INT32_MAX) : sum;
    });
    check("min.s32 %r9, %r0, %r1;", in,
          [](int32_t a, int32_t b, uint64_t, uint64_t) { return std::min(a, b); });
    check("max.u32 %r9, %r0, %r1;", in,
          [](uint32_t a, uint32_t b, uint64_t, uint64_t) { return std::max(a, b); });
    check("abs.s32 %r9, %r0;", in, [](int32_t a, uint64_t, uint64_t, uint64_t) { return std::llabs(a); });
    check("neg.s32 %r9, %r0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) { return 0 - a; });
    check("div.s32 %r9, %r0, %r1;", in,
          [](int32_t a, int32_t b, uint64_t, uint64_t) { return b ? static_cast<int64_t>(a) / b : -1; });
    check("rem.s32 %r9, %r0, %r1;", in,
          [](int32_t a, int32_t b, uint64_t, uint64_t) { return b ? static_cast<int64_t>(a) % b : a; });
    check_wide("div.u64 %d9, %d0, %d1;", in,
               [](uint64_t a, uint64_t b, uint64_t, uint64_t) { return b ? a / b : ~0ull; });
}

// ---- bits ----
static void test_shifts(void **)
{
    inputs in = integers();
    for (size_t k = 0; k < in.size(); k++)
        in[k][2] = k % 40;
    check("shl.b32 %r9, %r0, %r2;", in,
          [](uint32_t a, uint64_t, uint64_t n, uint64_t) { return n > 31 ? 0 : a << n; });
    check("shr.u32 %r9, %r0, %r2;", in,
          [](uint32_t a, uint64_t, uint64_t n, uint64_t) { return n > 31 ? 0 : a >> n; });
    check("shr.s32 %r9, %r0, %r2;", in,
          [](int32_t a, uint64_t, uint64_t n, uint64_t) { return a >> (n > 31 ? 31 : n); });
    check("shf.l.wrap.b32 %r9, %r0, %r1, %r2;", in, [](uint32_t a, uint32_t b, uint64_t n, uint64_t) {
        return n % 32 ? b << n % 32 | a >> (32 - n % 32) : b;
    });
    check("shf.r.wrap.b32 %r9, %r0, %r1, %r2;", in, [](uint32_t a, uint32_t b, uint64_t n, uint64_t) {
        return n % 32 ? a >> n % 32 | b << (32 - n % 32) : a;
    });
    check("shf.l.clamp.b32 %r9, %r0, %r1, %r2;", in, [](uint32_t a, uint32_t b, uint64_t n, uint64_t) {
        return n >= 32 ? a : n ? b << n | a >> (32 - n) : b;
    });
    check("shf.r.clamp.b32 %r9, %r0, %r1, %r2;", in, [](uint32_t a, uint32_t b, uint64_t n, uint64_t) {
        return n >= 32 ? b : n ? a >> n | b << (32 - n) : a;
    });
    for (size_t k = 0; k < in.size(); k++)
        in[k][2] = k % 70;
    check_wide("shr.s64 %d9, %d0, %r2;", in,
               [](int64_t a, uint64_t, uint64_t n, uint64_t) { return a >> (n > 63 ? 63 : n); });
}

// All 256 truth tables.
static void test_lop3(void **)
{
    inputs in = mixed_inputs(64, special_integers());
    for (int table = 0; table < 256; table++)
        check("lop3.b32 %r9, %r0, %r1, %r2, " + std::to_string(table) + ";", in,
              [&](uint32_t a, uint32_t b, uint32_t c, uint64_t) {
                  uint32_t result = 0;
                  for (int bit = 0; bit < 32; bit++)
                      result |= static_cast<uint32_t>(
                                    table >> ((a >> bit & 1) * 4 + (b >> bit & 1) * 2 + (c >> bit & 1)) & 1)
                                << bit;
                  return result;
              });
}

// Fields by shifts in 128 bits: up to the top, and down again.
static void test_fields(void **)
{
    inputs in = integers();
    for (auto &words : in) {
        words[1] = random_word() % 40;
        words[2] = random_word() % 40;
    }
    check("bfe.u32 %r9, %r0, %r1, %r2;", in, [](uint32_t a, uint64_t at, uint64_t length, uint64_t) {
        return (static_cast<uint64_t>(a) >> at) & ((1ull << length) - 1);
    });
    check("bfe.s32 %r9, %r0, %r1, %r2;", in,
          [](uint32_t a, uint64_t at, uint64_t length, uint64_t) -> int64_t {
              if (!length)
                  return 0;
              __int128 extended = static_cast<int32_t>(a); // its sign stands above its last bit
              int up = 128 - static_cast<int>(at + length);
              return static_cast<int64_t>(
                  static_cast<__int128>(static_cast<unsigned __int128>(extended) << up) >>
                  (128 - static_cast<int>(length)));
          });
    check("bfi.b32 %r9, %r0, %r3, %r1, %r2;", in,
          [](uint32_t a, uint64_t at, uint64_t length, uint32_t into) {
              uint64_t mask = (((1ull << length) - 1) << at) & 0xffffffff;
              return (into & ~mask) | (static_cast<uint64_t>(a) << at & mask);
          });
    check("popc.b32 %r9, %r0;", in,
          [](uint32_t a, uint64_t, uint64_t, uint64_t) { return __builtin_popcount(a); });
    check("clz.b32 %r9, %r0;", in,
          [](uint32_t a, uint64_t, uint64_t, uint64_t) { return a ? __builtin_clz(a) : 32; });
    check("brev.b32 %r9, %r0;", in, [](uint32_t a, uint64_t, uint64_t, uint64_t) {
        uint32_t result = 0;
        for (int bit = 0; bit < 32; bit++, a >>= 1)
            result = result << 1 | (a & 1);
        return result;
    });
    check("bfind.u32 %r9, %r0;", in,
          [](uint32_t a, uint64_t, uint64_t, uint64_t) { return a ? 31 - __builtin_clz(a) : -1; });
    check("bfind.s32 %r9, %r0;", in, [](int32_t a, uint64_t, uint64_t, uint64_t) {
        int signs = __builtin_clrsb(a);
        return signs == 31 ? -1 : 30 - signs;
    });
}

static void test_prmt(void **)
{
    inputs in = mixed_inputs(65536, special_integers());
    for (size_t k = 0; k < in.size(); k++)
        in[k][2] = k;
    auto bytes_of = [](uint32_t a, uint32_t b, uint8_t bytes[8]) {
        memcpy(bytes, &a, 4);
        memcpy(bytes + 4, &b, 4);
    };
    check("prmt.b32 %r9, %r0, %r1, %r2;", in, [&](uint32_t a, uint32_t b, uint64_t selector, uint64_t) {
        uint8_t bytes[8], out[4];
        bytes_of(a, b, bytes);
        for (int k = 0; k < 4; k++, selector >>= 4)
            out[k] = selector & 8 ? static_cast<uint8_t>(static_cast<int8_t>(bytes[selector & 7]) >> 7)
                                  : bytes[selector & 7];
        uint32_t result;
        memcpy(&result, out, 4);
        return result;
    });
    // The table of the ISA: for each mode and selector the bytes from the highest to the lowest.
    const struct {
        const char *mode;
        uint32_t nibbles[4];
    } modes[] = {{"f4e", {0x3210, 0x4321, 0x5432, 0x6543}}, {"b4e", {0x5670, 0x6701, 0x7012, 0x0123}},
                 {"rc8", {0x0000, 0x1111, 0x2222, 0x3333}}, {"ecl", {0x3210, 0x3211, 0x3222, 0x3333}},
                 {"ecr", {0x0000, 0x1110, 0x2210, 0x3210}}, {"rc16", {0x1010, 0x3232, 0x1010, 0x3232}}};
    in.resize(200);
    for (const auto &m : modes)
        check(std::string("prmt.b32.") + m.mode + " %r9, %r0, %r1, %r2;", in,
              [&](uint32_t a, uint32_t b, uint64_t selector, uint64_t) {
                  uint8_t bytes[8];
                  bytes_of(a, b, bytes);
                  uint32_t result = 0;
                  for (int k = 3; k >= 0; k--)
                      result = result << 8 | bytes[m.nibbles[selector & 3] >> (4 * k) & 15];
                  return result;
              });
}

static void test_moves(void **)
{
    inputs in = integers();
    check_wide("mov.b64 %d9, {%r1, %r0};", in,
               [](uint32_t a, uint32_t b, uint64_t, uint64_t) { return static_cast<uint64_t>(a) << 32 | b; });
    check("mov.b64 {%r5, %r9}, %d0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) { return a >> 32; });
    check("mov.b64 {_, %r9}, %d0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) { return a >> 32; });
    check_wide("mov.b64 %d9, {%h0, %h1, %h2, %h3};", in, [](uint16_t a, uint16_t b, uint16_t c, uint16_t d) {
        return a | static_cast<uint64_t>(b) << 16 | static_cast<uint64_t>(c) << 32 |
               static_cast<uint64_t>(d) << 48;
    });
    check("setp.lt.s32 %p1, %r0, %r1;\n\tselp.b32 %r9, %r2, %r3, %p1;", in,
          [](int32_t a, int32_t b, uint64_t c, uint64_t d) { return a < b ? c : d; });
    check("setp.lt.s32 %p1, %r0, %r1;\n\t@!%p1 mov.u32 %r9, 7;\n\t@%p1 mov.u32 %r9, -7;", in,
          [](int32_t a, int32_t b, uint64_t, uint64_t) { return a < b ? -7 : 7; });
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products), cmocka_unit_test(test_sums_and_quotients),
        cmocka_unit_test(test_shifts),   cmocka_unit_test(test_lop3),
        cmocka_unit_test(test_fields),   cmocka_unit_test(test_prmt),
        cmocka_unit_test(test_moves),
    };
    return cmocka_run_group_tests_name("PTX: integers and bits", tests, nullptr, nullptr);
}
