// Reading memory at full speed, and percentiles.
#include "runtime/bandwidth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t words __attribute__((vector_size(32), aligned(1), may_alias));
enum { ACCUMULATORS = 8, BLOCK_WORDS = 16, BLOCK = BLOCK_WORDS * (int)sizeof(words) };

// Several accumulators, so that no load waits for another's exclusive or.
static inline __attribute__((always_inline)) uint64_t touch(const char *data, size_t bytes, int32_t streams)
{
    const size_t piece = bytes / (size_t)streams / BLOCK * BLOCK;
    words sums[ACCUMULATORS] = {{0}};
    for (size_t at = 0; at < piece; at += BLOCK)
        for (int32_t s = 0; s < streams; s++) {
            const char *block = data + (size_t)s * piece + at;
#pragma GCC unroll 16
            for (int i = 0; i < BLOCK_WORDS; i++)
                sums[i % ACCUMULATORS] ^= *(const words *)(const void *)(block + i * (int)sizeof(words));
        }
    uint64_t result = 0;
    for (int i = 0; i < ACCUMULATORS; i++)
        result ^= sums[i][0] ^ sums[i][1] ^ sums[i][2] ^ sums[i][3];
    for (size_t at = piece * (size_t)streams; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, data + at, bytes - at < sizeof word ? bytes - at : sizeof word);
        result ^= word;
    }
    return result;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t touch_avx2(const char *data, size_t bytes, int32_t streams)
{
    return touch(data, bytes, streams);
}
#endif

uint64_t oct_read_touch(const void *data, size_t bytes, int32_t streams)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return touch_avx2(data, bytes, streams);
#endif
    return touch(data, bytes, streams);
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
