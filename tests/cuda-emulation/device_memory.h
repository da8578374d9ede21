// Which memory is the device's, for the checks of copies and of NCCL's buffers.
#ifndef OCT_TESTS_CUDA_EMULATION_DEVICE_MEMORY_H
#define OCT_TESTS_CUDA_EMULATION_DEVICE_MEMORY_H

#include <cstddef>
#include <vector>

namespace cuda_emulation
{
enum class Memory { PAGEABLE, DEVICE, PINNED };
// What [at, at + bytes) lies in; memory that is only partly the device's or pinned is an error (die).
Memory memory_of(const void *at, size_t bytes);
// Memory from elsewhere (NCCL's symmetric memory) that is the device's from now on, and no more.
void device_memory_add(void *at, size_t bytes);
void device_memory_remove(void *at);
// All of it, and pinned memory, in the order of addresses.
struct MemoryRange {
    void *at;
    size_t bytes;
    bool owned; // not from elsewhere: nothing else lies between two of these
};
std::vector<MemoryRange> device_memory_ranges();
// Each has whole pages to itself.
size_t round_up_to_pages(size_t bytes);
} // namespace cuda_emulation

#endif
