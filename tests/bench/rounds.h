// What benchmarks of several ranks share: many rounds of a piece of work, timed together.
#ifndef OCT_TESTS_BENCH_ROUNDS_H
#define OCT_TESTS_BENCH_ROUNDS_H

#include "ranks/world.h"
#include "runtime/progress.h"

enum { ROUNDS = 5000 };

// Mean nanoseconds of a round, which all ranks begin together. COLLECTIVE over the world.
static inline double nanoseconds_of(const oct_world *world, void (*round)(void *context), void *context)
{
    MPI_Barrier(world->all);
    const int64_t start = oct_now_ns();
    for (int i = 0; i < ROUNDS; i++)
        round(context);
    return (double)(oct_now_ns() - start) / ROUNDS;
}

#endif
