// Waiting by spinning: one pause, and how many pauses make a given time. A pause takes some 40 cycles on one processor
// and 140 on the next, so that a bound in pauses would mean another time on each.
#ifndef OCT_RUNTIME_SPIN_H
#define OCT_RUNTIME_SPIN_H

#include <stdint.h>

// How long a wait for another thread or rank spins before it gives the processor away: longer than a step's
// reductions take when all is well, shorter than a scheduler's slice.
#define OCT_SPIN_NS 100000

// Tells the processor that this thread only waits.
static inline void oct_spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// How many pauses take about `ns` nanoseconds, at least 1. The first call measures them (some 10 µs). Any thread.
uint32_t oct_spins(int64_t ns);

#endif
