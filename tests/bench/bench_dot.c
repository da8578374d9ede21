// Speed of the dot products, one thread: GB/s of weights for each encoding, table and number of columns,
// beside a plain read of the same bytes. 128 MiB of weights lie in memory; a few hundred KIB show what the
// core can do.
//
//   bench_dot [TABLE [K [KIB [FIRST LAST]]]]     TABLE: scalar, avx2, avx512; K: columns of the matrix
//
// With FIRST and LAST the strips hold that K range only, as those of a rank do whose part of K is a single granule.
// Prints medians of 7 alternating repeats.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/cpu/kernels.h"
#include "runtime/bandwidth.h"

#define REPEATS 7

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); // other programs' time slices do not count
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Reads everything with independent 64-bit additions, which the compiler makes vectors.
static uint64_t read_all(const uint8_t *bytes, size_t n)
{
    uint64_t sums[32] = {0};
    for (size_t i = 0; i + 256 <= n; i += 256)
        for (size_t j = 0; j < 32; j++) {
            uint64_t word;
            memcpy(&word, bytes + i + 8 * j, 8);
            sums[j] += word;
        }
    uint64_t sum = 0;
    for (size_t j = 0; j < 32; j++)
        sum ^= sums[j];
    return sum;
}

static void measure(const oct_cpu_kernels *table, oct_encoding encoding, oct_dot dot, oct_activations *x, size_t bytes)
{
    static const int columns[] = {1, 2, 3, 4, 8, 16};
    double seconds[7][REPEATS];
    volatile uint64_t sink = 0;
    dot.strip_bytes = oct_strip_bytes(encoding, dot.granules->begin, dot.granules->end);
    dot.strips = (int32_t)(bytes / dot.strip_bytes);
    bytes = dot.strip_bytes * (size_t)dot.strips;
    dot.out_stride = (size_t)dot.strips * OCT_TILE_ROWS;
    dot.out = malloc(dot.out_stride * 16 * sizeof *dot.out);
    memset(dot.out, 0, dot.out_stride * 16 * sizeof *dot.out);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        sink += read_all(dot.weights, bytes);
        seconds[6][repeat] = now() - start;
        for (int i = 0; i < 6; i++) {
            x->columns = columns[i];
            start = now();
            table->dot[encoding](&dot);
            seconds[i][repeat] = now() - start;
        }
    }
    printf("%-8s read %5.1f |", oct_encoding_describe(encoding)->name,
           (double)bytes / oct_percentile(seconds[6], REPEATS, 50) * 1e-9);
    for (int i = 0; i < 6; i++)
        printf(" %dc %5.1f", columns[i], (double)bytes / oct_percentile(seconds[i], REPEATS, 50) * 1e-9);
    printf("\n");
    free(dot.out);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "avx2";
    const oct_cpu_kernels *tables[] = {oct_cpu_kernels_scalar(), oct_cpu_kernels_avx2(),
                                       oct_cpu_kernels_avx512()};
    const oct_cpu_kernels *table = NULL;
    for (int i = 0; i < 3; i++)
        if (tables[i] && strcmp(tables[i]->name, name) == 0)
            table = tables[i];
    if (!table) {
        fprintf(stderr, "bench_dot: no table %s on this processor\n", name);
        return 2;
    }
    int64_t k = argc > 2 ? atoll(argv[2]) : 2048;
    size_t bytes = (size_t)(argc > 3 ? atoll(argv[3]) : 131072) << 10;
    oct_cpu_enter_thread();
    oct_activations x = {.width = oct_pad_columns(k)};
    size_t n = (size_t)x.width * 16 + OCT_PANEL_COLUMNS * OCT_UNIT_COLUMNS;
    x.f32 = calloc(n, sizeof *x.f32);
    x.rounded = calloc(n, sizeof *x.rounded);
    x.bf16 = calloc(n, sizeof *x.bf16);
    x.codes = calloc(n, 1);
    x.groups = calloc(n / 32, sizeof *x.groups);
    uint8_t *weights = aligned_alloc(4096, bytes + 4096);
    if (!x.f32 || !x.rounded || !x.bf16 || !x.codes || !x.groups || !weights)
        return 4;
    memset(weights, 0x21, bytes + 4096); // small positive numbers in every encoding
    memset(x.codes, 1, n);
    const oct_column_run all = {argc > 5 ? atoll(argv[4]) : 0, argc > 5 ? atoll(argv[5]) : k};
    const uint8_t no_merges = 0;
    oct_dot dot = {
        .weights = weights, .granules = &all, .merges = &no_merges, .granule_count = 1, .nodes = 1, .x = &x};
    printf("table %s, K [%lld, %lld), %zu KiB, GB/s of weights for 1 to 16 columns\n", name,
           (long long)all.begin, (long long)all.end, bytes >> 10);
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        measure(table, (oct_encoding)encoding, dot, &x, bytes);
    return 0;
}
