// Chained kernels (programmatic dependent launches: "CUDA C++ Programming Guide", Programmatic Dependent Launch and
// Synchronization) may begin while those in front of them in their stream still run, up to the last one that was
// launched otherwise. Here they begin after them; so that nobody relies on it, a thread that has not waited for its
// predecessors is kept away from the memory that they may write or read: it finds pages that it may not touch.
#ifndef OCT_TESTS_CUDA_EMULATION_CHAINED_LAUNCHES_H
#define OCT_TESTS_CUDA_EMULATION_CHAINED_LAUNCHES_H

#include <memory>
#include <vector>

#include "device_memory.h"
#include "grid.h"

namespace cuda_emulation
{
// What the kernels have written that a chained kernel may overtake: whole allocations. One for all kernels of a chain.
struct Front {
    std::vector<MemoryRange> written;
};

// Between these two the writes of the grid's kernel are noted in grid->front.
void memory_watch(Grid *grid);
void memory_watch_end(Grid *grid);

// Whether the running thread may touch the device's memory and pinned memory; only while they are watched.
bool memory_is_hidden();
void memory_hide(bool hidden);

// Makes the threads ready that have waited for the kernels in front of theirs.
void waiting_threads_release();

// While messages between processes are under way, which the system may copy at any time, nothing is hidden or watched:
// +1 where they begin, -1 where they have ended.
void memory_watch_pause(int by);
} // namespace cuda_emulation

#endif
