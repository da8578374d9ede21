// Fetching ahead of use, into the level of the cache that suits the processor.
#ifndef OCT_KERNELS_CPU_PREFETCH_H
#define OCT_KERNELS_CPU_PREFETCH_H

#include <stdbool.h>

// The second level instead of the first; set once, when the tables of kernels are made. On AMD's Zen 4 the first level
// has too little room for all that must be on its way: attention reads 1.6 times as fast with the second, a column of a
// matrix 1.3 times. On Intel's Ice Lake the first level was the faster for attention; matrices were not compared
// there, nor other processors of AMD's anywhere.
extern bool oct_prefetch_second_level;

static inline __attribute__((always_inline)) void oct_prefetch(const void *at)
{
    if (oct_prefetch_second_level)
        __builtin_prefetch(at, 0, 2);
    else
        __builtin_prefetch(at, 0, 3);
}

#endif
