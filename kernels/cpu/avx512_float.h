// Dot products of floating-point encodings in AVX-512, as inlined bodies: a row a lane. Each accumulator is one
// chain of fmaf, so several strips and columns go side by side; an input is broadcast once for all strips of a pass.
// Include avx512.h first.
#ifndef OCT_KERNELS_CPU_AVX512_FLOAT_H
#define OCT_KERNELS_CPU_AVX512_FLOAT_H

#include <string.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/traits.h"
#include "kernels/cpu/tree_stack.h"

// Columns and strips of the widest passes, and the accumulators of one: they, the weights of a step and one input fill
// the registers.
enum { FLOAT_COLUMNS = 8, FLOAT_STRIPS = 4, FLOAT_SUMS = 16 };
enum { FLOAT_PREFETCH_BYTES = 1024, FLOAT_CACHED_BYTES = 512 << 10 };

// How weights are multiplied; NATIVE_BF16 is vdpbf16ps, whose two products are two fmaf, the odd one first.
typedef enum float_step { STEP_F32, STEP_F16, STEP_BF16, STEP_NATIVE_BF16 } float_step;

#ifdef OCT_EMULATED
#define FLOAT_UNROLL
#elif defined(__clang__)
#define FLOAT_UNROLL _Pragma("unroll")
#else
#define FLOAT_UNROLL _Pragma("GCC unroll 16")
#endif

// 16 rows of a pair of weights (of one weight in f32, whose odd is not used).
typedef struct weights16 {
    __m512 even, odd;
    __m512i both;
} weights16;

OCT_INLINE weights16 load_weights(float_step step, const uint8_t *at)
{
    weights16 w = {.both = _mm512_loadu_si512(at)};
    w.even = w.odd = _mm512_castsi512_ps(w.both);
    if (step == STEP_F16) {
        w.even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w.both));
        w.odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(w.both, 16)));
    } else if (step == STEP_BF16) {
        w.even = _mm512_castsi512_ps(_mm512_slli_epi32(w.both, 16));
        w.odd = _mm512_castsi512_ps(_mm512_and_si512(w.both, _mm512_set1_epi32((int)0xffff0000)));
    }
    return w;
}

// One step (a pair of K, or one of f32) of S strips for N columns. x: the inputs of the first column at this step (f32
// or, natively, bf16); the next column's are a unit further.
OCT_INLINE void add_step(float_step step, int S, int N, const uint8_t *at, size_t apart, const void *x,
                         __m512 sum[FLOAT_STRIPS][FLOAT_COLUMNS])
{
    weights16 w[FLOAT_STRIPS];
    FLOAT_UNROLL
    for (int s = 0; s < S; s++)
        w[s] = load_weights(step, at + (size_t)s * apart);
    FLOAT_UNROLL
    for (int c = 0; c < N; c++) {
        if (step == STEP_NATIVE_BF16) {
#if defined(__AVX512BF16__) || defined(OCT_EMULATED)
            int32_t two;
            memcpy(&two, (const uint16_t *)x + c * OCT_UNIT_COLUMNS, sizeof two);
            const __m512i pair = _mm512_set1_epi32(two);
            FLOAT_UNROLL
            for (int s = 0; s < S; s++)
                sum[s][c] = _mm512_dpbf16_ps(sum[s][c], OCT_AS_BF16(w[s].both), OCT_AS_BF16(pair));
#endif
            continue;
        }
        const float *input = (const float *)x + c * OCT_UNIT_COLUMNS;
        if (step != STEP_F32) {
            const __m512 odd = _mm512_set1_ps(input[1]);
            FLOAT_UNROLL
            for (int s = 0; s < S; s++)
                sum[s][c] = _mm512_fmadd_ps(w[s].odd, odd, sum[s][c]);
        }
        const __m512 even = _mm512_set1_ps(input[0]);
        FLOAT_UNROLL
        for (int s = 0; s < S; s++)
            sum[s][c] = _mm512_fmadd_ps(w[s].even, even, sum[s][c]);
    }
}

// S strips, `apart` bytes (and rows_apart rows) from each other, for the columns [begin, begin + used) of one panel;
// used <= N: what the pass computes of more columns is not stored.
OCT_INLINE void float_pass(const oct_dot *dot, float_step step, int S, int N, const uint8_t *strip, size_t apart,
                           size_t rows_apart, int32_t begin, int32_t used, float *out)
{
    const int32_t panel = oct_panel_columns(dot->x, begin);
    const size_t input_bytes = step == STEP_NATIVE_BF16 ? sizeof(uint16_t) : sizeof(float);
    const int64_t unit = oct_activation_unit(dot->x, dot->x_offset / OCT_UNIT_COLUMNS, begin);
    const void *inputs = step == STEP_NATIVE_BF16 ? (const void *)dot->x->bf16
                         : step == STEP_F32       ? dot->x->f32
                                                  : dot->x->rounded;
    const uint8_t *x = (const uint8_t *)inputs + (size_t)unit * OCT_UNIT_COLUMNS * input_bytes;
    _Alignas(64) float stack[OCT_MAX_NODES * FLOAT_SUMS * OCT_TILE_ROWS];
    const size_t level = (size_t)(S * N) * OCT_TILE_ROWS;
    const int step_columns = step == STEP_F32 ? 1 : 2;
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        __m512 sum[FLOAT_STRIPS][FLOAT_COLUMNS];
        FLOAT_UNROLL
        for (int i = 0; i < S * N; i++)
            sum[i / N][i % N] = _mm512_setzero_ps();
        const int64_t units = oct_pad_columns(dot->granules[g].end - dot->granules[g].begin) / OCT_UNIT_COLUMNS;
        for (int64_t u = 0; u < units; u++) {
            for (int i = 0; i < OCT_UNIT_COLUMNS / step_columns; i++) {
                for (int s = 0; s < S; s++)
                    oct_prefetch(strip + (size_t)s * apart + FLOAT_PREFETCH_BYTES);
                add_step(step, S, N, strip, apart, x + (size_t)(i * step_columns) * input_bytes, sum);
                strip += OCT_VECTOR_BYTES;
            }
            x += (size_t)panel * OCT_UNIT_COLUMNS * input_bytes;
        }
        FLOAT_UNROLL
        for (int i = 0; i < S * N; i++)
            sum[i / N][i % N] = oct_avx512_merge(stack + (size_t)top * level + (size_t)i * OCT_TILE_ROWS, level,
                                                 dot->merges[g], sum[i / N][i % N]);
        top -= dot->merges[g];
        FLOAT_UNROLL
        for (int i = 0; i < S * N; i++)
            _mm512_storeu_ps(stack + (size_t)top * level + (size_t)i * OCT_TILE_ROWS, sum[i / N][i % N]);
        top++;
    }
    for (int s = 0; s < S; s++)
        oct_tree_store(dot, stack + (size_t)(s * N) * OCT_TILE_ROWS, level, OCT_TILE_ROWS, used,
                       out + (size_t)s * rows_apart + (size_t)begin * dot->out_stride);
}

// The strips [first, last) for the columns [begin, begin + used), S at a time: several sequential streams of weights.
OCT_INLINE void float_strips(const oct_dot *dot, float_step step, int S, int N, int32_t first, int32_t last,
                             int32_t begin, int32_t used)
{
    const int32_t part = (last - first) / S;
    for (int32_t s = first; s < first + part; s++)
        float_pass(dot, step, S, N, dot->weights + (size_t)s * dot->strip_bytes, (size_t)part * dot->strip_bytes,
                   (size_t)part * OCT_TILE_ROWS, begin, used, dot->out + (size_t)s * OCT_TILE_ROWS);
    for (int32_t s = first + S * part; s < last; s++)
        float_pass(dot, step, 1, N, dot->weights + (size_t)s * dot->strip_bytes, 0, 0, begin, used,
                   dot->out + (size_t)s * OCT_TILE_ROWS);
}

OCT_INLINE void float_columns(const oct_dot *dot, float_step step, int32_t first, int32_t last, int32_t begin,
                              int32_t used)
{
    if (used > 4)
        float_strips(dot, step, 2, 8, first, last, begin, used);
    else if (used > 2)
        float_strips(dot, step, 4, 4, first, last, begin, used);
    else if (used == 2)
        float_strips(dot, step, 4, 2, first, last, begin, used);
    else
        float_strips(dot, step, 4, 1, first, last, begin, used);
}

OCT_INLINE void float_dot(const oct_dot *dot, float_step step)
{
    const int32_t columns = dot->x->columns;
    int32_t together = dot->strips;
    if (columns > FLOAT_COLUMNS)
        together = (int32_t)(FLOAT_CACHED_BYTES / dot->strip_bytes) / 2 * 2;
    together = together < 2 ? 2 : together;
    for (int32_t first = 0; first < dot->strips; first += together)
        for (int32_t begin = 0; begin < columns; begin += FLOAT_COLUMNS)
            float_columns(dot, step, first, dot->strips - first < together ? dot->strips : first + together, begin,
                          columns - begin < FLOAT_COLUMNS ? columns - begin : FLOAT_COLUMNS);
}

#endif
