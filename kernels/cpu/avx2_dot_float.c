// Dot products of floating-point encodings, AVX2 table: chains of fmaf, a row a lane. A pair of columns adds
// its odd product first. Each accumulator is one chain, so two strips and up to four columns go side by side.
#include "kernels/cpu/avx2.h"

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/traits.h"
#include "kernels/cpu/tree_stack.h"

#define COLUMNS 4

OCT_INLINE __m256 bf16_low(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

OCT_INLINE __m256 bf16_high(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}

// The 8 even and 8 odd weights of 8 rows. With f16 the rows come in the order 0 1 4 5 2 3 6 7.
OCT_INLINE void load_pairs(oct_encoding encoding, const uint8_t *at, __m256 *even, __m256 *odd)
{
    if (encoding == OCT_BF16) {
        __m256i pairs = _mm256_loadu_si256((const __m256i *)at);
        *even = bf16_low(pairs);
        *odd = bf16_high(pairs);
        return;
    }
    __m256 a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
    __m256 b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at + 16)));
    *even = _mm256_shuffle_ps(a, b, 0x88);
    *odd = _mm256_shuffle_ps(a, b, 0xdd);
}

// One granule of S strips × N columns, in units; accumulator [strip][half][column].
OCT_INLINE void add_pairs(oct_encoding encoding, int S, int N, const uint8_t *weights, size_t strip_bytes,
                          int64_t units, const float *x, int32_t panel, __m256 accumulator[2][2][COLUMNS])
{
    for (int64_t p = 0; p < units * OCT_UNIT_COLUMNS / 2; p++) {
        const float *input = x + 2 * p % OCT_UNIT_COLUMNS + 2 * p / OCT_UNIT_COLUMNS * panel * OCT_UNIT_COLUMNS;
        for (int s = 0; s < S; s++)
            for (int half = 0; half < 2; half++) {
                __m256 even, odd;
                const uint8_t *at = weights + (size_t)s * strip_bytes + p * 64 + half * 32;
                load_pairs(encoding, at, &even, &odd);
                if (half == 0)
                    oct_prefetch(at + 1024);
                for (int c = 0; c < N; c++) {
                    const float *pair = input + c * OCT_UNIT_COLUMNS;
                    __m256 sum = _mm256_fmadd_ps(odd, _mm256_broadcast_ss(pair + 1), accumulator[s][half][c]);
                    accumulator[s][half][c] = _mm256_fmadd_ps(even, _mm256_broadcast_ss(pair), sum);
                }
            }
    }
    if (encoding == OCT_F16)
        for (int i = 0; i < S * 2 * N; i++) {
            const __m256d sum = _mm256_castps_pd(accumulator[i / (2 * N)][i / N % 2][i % N]);
            accumulator[i / (2 * N)][i / N % 2][i % N] = _mm256_castpd_ps(_mm256_permute4x64_pd(sum, 0xd8));
        }
}

OCT_INLINE void add_f32(int S, int N, const uint8_t *weights, size_t strip_bytes, int64_t units, const float *x,
                        int32_t panel, __m256 accumulator[2][2][COLUMNS])
{
    for (int64_t k = 0; k < units * OCT_UNIT_COLUMNS; k++) {
        const float *input = x + k % OCT_UNIT_COLUMNS + k / OCT_UNIT_COLUMNS * panel * OCT_UNIT_COLUMNS;
        for (int s = 0; s < S; s++)
            for (int half = 0; half < 2; half++) {
                const float *at = (const float *)(weights + (size_t)s * strip_bytes) + k * OCT_TILE_ROWS;
                __m256 w = _mm256_loadu_ps(at + half * 8);
                for (int c = 0; c < N; c++)
                    accumulator[s][half][c] =
                        _mm256_fmadd_ps(w, _mm256_broadcast_ss(input + c * OCT_UNIT_COLUMNS), accumulator[s][half][c]);
            }
    }
}

// S strips for N columns, which begin at `out`.
OCT_INLINE void pass_granules(const oct_dot *dot, oct_encoding encoding, int S, int N, const uint8_t *weights,
                              const float *x, int32_t panel, float *out)
{
    _Alignas(32) float stack[OCT_MAX_NODES * 2 * COLUMNS * OCT_TILE_ROWS];
    const size_t level = (size_t)(S * N) * OCT_TILE_ROWS;
    const int unit_bytes = OCT_UNIT_COLUMNS * OCT_TILE_ROWS * (encoding == OCT_F32 ? 4 : 2);
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        const int64_t units = oct_pad_columns(dot->granules[g].end - dot->granules[g].begin) / OCT_UNIT_COLUMNS;
        __m256 accumulator[2][2][COLUMNS];
        for (int i = 0; i < S * 2 * N; i++)
            accumulator[i / (2 * N)][i / N % 2][i % N] = _mm256_setzero_ps();
        if (encoding == OCT_F32)
            add_f32(S, N, weights, dot->strip_bytes, units, x, panel, accumulator);
        else
            add_pairs(encoding, S, N, weights, dot->strip_bytes, units, x, panel, accumulator);
        for (int i = 0; i < S * 2 * N; i++) { // [strip][column][half]
            const int s = i / (2 * N), c = i / 2 % N, half = i % 2;
            float *place = stack + (size_t)top * level + i * 8;
            _mm256_storeu_ps(place - (size_t)dot->merges[g] * level,
                             oct_avx2_merge(place, level, dot->merges[g], accumulator[s][half][c]));
        }
        top += 1 - dot->merges[g];
        weights += units * unit_bytes;
        x += units * panel * OCT_UNIT_COLUMNS;
    }
    for (int s = 0; s < S; s++)
        oct_tree_store(dot, stack + s * N * OCT_TILE_ROWS, level, OCT_TILE_ROWS, N, out + s * OCT_TILE_ROWS);
}

// One pass over S strips for N columns beginning at column `begin`.
OCT_INLINE void pass(const oct_dot *dot, oct_encoding encoding, int S, int N, int32_t strip, int32_t begin)
{
    const uint8_t *weights = dot->weights + (size_t)strip * dot->strip_bytes;
    float *out = dot->out + (size_t)begin * dot->out_stride + (size_t)strip * OCT_TILE_ROWS;
    const int32_t panel = oct_panel_columns(dot->x, begin);
    const float *inputs = encoding == OCT_F32 ? dot->x->f32 : dot->x->rounded;
    const float *x =
        inputs + oct_activation_unit(dot->x, dot->x_offset / OCT_UNIT_COLUMNS, begin) * OCT_UNIT_COLUMNS;
    pass_granules(dot, encoding, S, N, weights, x, panel, out);
}

OCT_INLINE void strips(const oct_dot *dot, oct_encoding encoding, int S, int32_t strip)
{
    int32_t c = 0;
    for (; c + 3 < dot->x->columns; c += 4)
        if (S == 2) { // four columns of two strips do not fit into the registers
            pass(dot, encoding, 1, 4, strip, c);
            pass(dot, encoding, 1, 4, strip + 1, c);
        } else {
            pass(dot, encoding, 1, 4, strip, c);
        }
    if (c + 1 < dot->x->columns) {
        pass(dot, encoding, S, 2, strip, c);
        c += 2;
    }
    if (c < dot->x->columns)
        pass(dot, encoding, S, 1, strip, c);
}

OCT_INLINE void dot_float(const oct_dot *dot, oct_encoding encoding)
{
    int32_t s = 0;
    for (; s + 1 < dot->strips; s += 2)
        strips(dot, encoding, 2, s);
    if (s < dot->strips)
        strips(dot, encoding, 1, s);
}

#define DEFINE(encoding, name)                                                                               \
    static void dot_##name(const oct_dot *dot)                                                               \
    {                                                                                                        \
        dot_float(dot, encoding);                                                                            \
    }
OCT_FLOAT_ENCODINGS(DEFINE)

void oct_avx2_fill_float_dots(oct_cpu_kernels *table)
{
#define FILL(encoding, name) table->dot[encoding] = dot_##name;
    OCT_FLOAT_ENCODINGS(FILL)
}
