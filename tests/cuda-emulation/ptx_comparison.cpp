// Saves the device's memory, runs the compiled kernel, puts the memory back, runs the PTX, compares.
#include "ptx_comparison.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda_emulation.h"
#include "device_memory.h"
#include "grid.h"

namespace ptx
{

using cuda_emulation::MemoryRange;

void compared_body::operator()() const
{
    cuda_emulation::die("%s: a comparison needs two runs of the grid", kernel.c_str());
}

namespace
{

using memory_image = std::vector<std::vector<unsigned char>>;

std::vector<MemoryRange> comparable_memory(const compared_body &body)
{
    std::vector<MemoryRange> ranges = cuda_emulation::device_memory_ranges();
    for (const MemoryRange &range : ranges)
        if (!range.owned)
            cuda_emulation::die("%s: cannot be compared: other processes write the device's memory too",
                                body.kernel.c_str());
    return ranges;
}

memory_image save(const std::vector<MemoryRange> &ranges)
{
    memory_image image;
    for (const MemoryRange &range : ranges) {
        const unsigned char *at = static_cast<const unsigned char *>(range.at);
        image.emplace_back(at, at + range.bytes);
    }
    return image;
}

void restore(const std::vector<MemoryRange> &ranges, const memory_image &image)
{
    for (size_t i = 0; i < ranges.size(); i++)
        memcpy(ranges[i].at, image[i].data(), ranges[i].bytes);
}

void run(const cuda_emulation::Grid &grid, const std::function<void()> &body)
{
    cuda_emulation::Grid copy = grid;
    copy.body = body;
    cuda_emulation::grid_run(&copy);
}

bool is_half_nan(uint32_t bits)
{
    return (bits & 0x7f80) == 0x7f80 && bits & 0x7f;
}

// The same bits, or NaN in both as a float or as one of two bf16: which NaN an operation gives is left open
// by C++ (and on a GPU it is another one).
bool same(uint32_t a, uint32_t b)
{
    auto is_nan = [](uint32_t bits) { return (bits & 0x7fffffff) > 0x7f800000; };
    if (a == b || (is_nan(a) && is_nan(b)))
        return true;
    auto same_half = [](uint32_t x, uint32_t y) { return x == y || (is_half_nan(x) && is_half_nan(y)); };
    return same_half(a & 0xffff, b & 0xffff) && same_half(a >> 16, b >> 16);
}

// The first word of a range that differs; its end if none does.
size_t first_difference(const unsigned char *found, const std::vector<unsigned char> &compiled,
                        uint32_t words[2])
{
    for (size_t at = 0; at < compiled.size(); at += 4) {
        size_t bytes = std::min<size_t>(4, compiled.size() - at);
        words[0] = words[1] = 0;
        memcpy(&words[0], compiled.data() + at, bytes);
        memcpy(&words[1], found + at, bytes);
        if (!same(words[0], words[1]))
            return at;
    }
    return compiled.size();
}

void expect_equal(const compared_body &body, const std::vector<MemoryRange> &ranges,
                  const memory_image &compiled)
{
    for (size_t i = 0; i < ranges.size(); i++) {
        const unsigned char *found = static_cast<const unsigned char *>(ranges[i].at);
        if (memcmp(found, compiled[i].data(), ranges[i].bytes) == 0)
            continue;
        uint32_t words[2];
        size_t first = first_difference(found, compiled[i], words);
        if (first == ranges[i].bytes)
            continue;
        cuda_emulation::die(
            "%s: compiled and as PTX it gives different results, first at byte %zu of an allocation of "
            "%zu: %08x and %08x",
            body.kernel.c_str(), first, ranges[i].bytes, words[0], words[1]);
    }
}

} // namespace

} // namespace ptx

void cuda_emulation::ptx_run(Grid *grid)
{
    const ptx::compared_body *body = grid->body.target<ptx::compared_body>();
    if (!body) {
        grid_run(grid);
        return;
    }
    std::vector<MemoryRange> ranges = ptx::comparable_memory(*body);
    ptx::memory_image before = ptx::save(ranges);
    ptx::run(*grid, body->compiled);
    ptx::memory_image compiled = ptx::save(ranges);
    ptx::restore(ranges, before);
    ptx::run(*grid, body->interpreted);
    ptx::expect_equal(*body, ranges, compiled);
}
