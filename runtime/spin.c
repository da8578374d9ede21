// How long a pause takes here.
#include "runtime/spin.h"

#include <stdatomic.h>

#include "runtime/progress.h"

enum { PAUSES = 64, ATTEMPTS = 5 };

// Nanoseconds of PAUSES pauses: the shortest of a few attempts, so that a lost time slice does not count.
static int64_t measure(void)
{
    int64_t shortest = INT64_MAX;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        const int64_t start = oct_now_ns();
        for (int i = 0; i < PAUSES; i++)
            oct_spin_pause();
        const int64_t taken = oct_now_ns() - start;
        shortest = taken < shortest ? taken : shortest;
    }
    return shortest > 0 ? shortest : 1;
}

uint32_t oct_spins(int64_t ns)
{
    static _Atomic int64_t pauses_ns; // 0: not measured yet
    int64_t taken = atomic_load_explicit(&pauses_ns, memory_order_relaxed);
    if (taken == 0) {
        taken = measure();
        atomic_store_explicit(&pauses_ns, taken, memory_order_relaxed);
    }
    const int64_t spins = ns * PAUSES / taken;
    return spins > 0 ? (uint32_t)spins : 1;
}
