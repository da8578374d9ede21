// Saves the device's memory, runs the compiled kernel, puts the memory back, runs the PTX, compares.
#include "ptx_comparison.h"

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

void expect_equal(const compared_body &body, const std::vector<MemoryRange> &ranges,
                  const memory_image &compiled)
{
    for (size_t i = 0; i < ranges.size(); i++) {
        const unsigned char *found = static_cast<const unsigned char *>(ranges[i].at);
        if (memcmp(found, compiled[i].data(), ranges[i].bytes) == 0)
            continue;
        size_t first = 0;
        while (found[first] == compiled[i][first])
            first++;
        uint32_t words[2] = {};
        size_t word = first / 4 * 4, bytes = ranges[i].bytes - word < 4 ? ranges[i].bytes - word : 4;
        memcpy(&words[0], compiled[i].data() + word, bytes);
        memcpy(&words[1], found + word, bytes);
        cuda_emulation::die(
            "%s: compiled and as PTX it gives different results, first at byte %zu of an allocation of "
            "%zu: %08x and %08x",
            body.kernel.c_str(), word, ranges[i].bytes, words[0], words[1]);
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
