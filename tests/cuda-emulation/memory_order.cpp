// The order of memory between CUDA threads, told to ThreadSanitizer. CUDA's atomics are relaxed; fences make
// order out of them ("Memory Fence Functions" in the "CUDA C++ Programming Guide"; PTX ISA 8.8, chapter 8).
#include <algorithm>

#include "grid.h"
#include "sanitizers.h"

namespace cuda_emulation
{
void fence()
{
    for (int i = 0; i < std::min(cur->reads, (int)FENCED_READS_MAX); i++)
        sanitizers::acquire(cur->read[i]);
    cur->reads = 0;
    cur->fenced = true;
}

void atomic_hook(void *at, bool reads, bool writes)
{
    if (writes)
        progress_note();
    if (!sanitizers::thread())
        return;
    if (writes && cur->fenced)
        sanitizers::release(at);
    if (reads)
        cur->read[cur->reads++ % FENCED_READS_MAX] = at;
}

void hb_release(void *at)
{
    sanitizers::release(at);
}

void hb_acquire(void *at)
{
    sanitizers::acquire(at);
}
} // namespace cuda_emulation
