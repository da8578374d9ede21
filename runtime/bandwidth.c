// Reading memory at full speed, and percentiles.
#include "runtime/bandwidth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t words __attribute__((vector_size(32), aligned(1), may_alias));
enum { ACCUMULATORS = 8, BLOCK = ACCUMULATORS * (int)sizeof(words) };

// Several accumulators, so that no load waits for another's exclusive or.
static inline __attribute__((always_inline)) uint64_t touch(const void *data, size_t bytes)
{
    const char *at = data;
    words sums[ACCUMULATORS] = {{0}};
    for (; bytes >= BLOCK; bytes -= BLOCK, at += BLOCK)
        for (int i = 0; i < ACCUMULATORS; i++)
            sums[i] ^= *(const words *)(const void *)(at + i * (int)sizeof(words));
    uint64_t result = 0;
    for (int i = 0; i < ACCUMULATORS; i++)
        result ^= sums[i][0] ^ sums[i][1] ^ sums[i][2] ^ sums[i][3];
    for (; bytes > 0;) {
        uint64_t word = 0;
        size_t n = bytes < sizeof word ? bytes : sizeof word;
        memcpy(&word, at, n);
        result ^= word;
        at += n;
        bytes -= n;
    }
    return result;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t touch_avx2(const void *data, size_t bytes)
{
    return touch(data, bytes);
}
#endif

uint64_t oct_read_touch(const void *data, size_t bytes)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return touch_avx2(data, bytes);
#endif
    return touch(data, bytes);
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double oct_percentile(double *values, size_t n, double percent)
{
    if (n == 0)
        return 0;
    qsort(values, n, sizeof *values, compare_values);
    double rank = ceil(percent / 100 * (double)n);
    size_t index = rank < 1 ? 0 : (size_t)rank - 1;
    return values[index < n ? index : n - 1];
}
