// Dot products of floating-point encodings, AVX-512 table: a row a lane, fmaf. Each accumulator is one chain, so
// several strips and columns go side by side.
#include "kernels/cpu/avx512.h"

#include "kernels/cpu/traits.h"

#define STRIPS 4
#define COLUMNS 4

typedef struct inputs {
    const uint16_t *pairs[COLUMNS]; // bf16
    const float *singles[COLUMNS];
} inputs;

// One step (a pair of columns, or one of f32) of 16 rows for N columns.
OCT_INLINE void step(oct_encoding encoding, int N, const uint8_t *at, const inputs *x, int64_t i,
                     __m512 sum[COLUMNS])
{
    __m512i w = _mm512_loadu_si512(at);
    __m512 even = _mm512_castsi512_ps(w), odd = even;
    if (encoding == OCT_F16) {
        even = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w));
        odd = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(w, 16)));
    } else if (encoding == OCT_BF16) {
        even = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
        odd = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000)));
    }
    for (int c = 0; c < N; c++) {
        if (encoding == OCT_F32) {
            sum[c] = _mm512_fmadd_ps(even, _mm512_set1_ps(x->singles[c][i]), sum[c]);
        } else {
            const uint16_t *pair = x->pairs[c] + 2 * i;
            sum[c] = _mm512_fmadd_ps(odd, _mm512_set1_ps(oct_bf16_to_f32(pair[1])), sum[c]);
            sum[c] = _mm512_fmadd_ps(even, _mm512_set1_ps(oct_bf16_to_f32(pair[0])), sum[c]);
        }
    }
}

// S strips for N columns, from strip `strip` and column `begin` on.
OCT_INLINE void pass(const oct_dot *dot, oct_encoding encoding, int S, int N, int32_t strip, int32_t begin)
{
    const uint8_t *weights = dot->weights + (size_t)strip * dot->strip_bytes;
    float *out = dot->out + (size_t)begin * dot->out_stride + (size_t)strip * OCT_TILE_ROWS;
    inputs x;
    for (int c = 0; c < N; c++) {
        int64_t at = (dot->column_begin + begin + c) * dot->x->width + dot->x_offset;
        x.pairs[c] = encoding == OCT_F32 ? NULL : dot->x->bf16 + at;
        x.singles[c] = encoding == OCT_F32 ? dot->x->f32 + at : NULL;
    }
    __m512 sum[STRIPS][COLUMNS];
    for (int i = 0; i < S * N; i++)
        sum[i / N][i % N] = _mm512_setzero_ps();
    int64_t steps = oct_pad_columns(dot->last - dot->first) / (encoding == OCT_F32 ? 1 : 2);
    for (int64_t i = 0; i < steps; i++)
        for (int s = 0; s < S; s++) {
            const uint8_t *at = weights + (size_t)s * dot->strip_bytes + i * OCT_VECTOR_BYTES;
            _mm_prefetch((const char *)at + 1024, _MM_HINT_T0);
            step(encoding, N, at, &x, i, sum[s]);
        }
    for (int s = 0; s < S; s++)
        for (int c = 0; c < N; c++)
            _mm512_storeu_ps(out + (size_t)c * dot->out_stride + s * OCT_TILE_ROWS, sum[s][c]);
}

OCT_INLINE void strips(const oct_dot *dot, oct_encoding encoding, int S, int32_t strip)
{
    int32_t c = 0;
    for (; c + 3 < dot->columns; c += 4)
        pass(dot, encoding, S, 4, strip, c);
    if (c + 1 < dot->columns) {
        pass(dot, encoding, S, 2, strip, c);
        c += 2;
    }
    if (c < dot->columns)
        pass(dot, encoding, S, 1, strip, c);
}

OCT_INLINE void dot_float(const oct_dot *dot, oct_encoding encoding)
{
    int32_t s = 0;
    for (; s + STRIPS <= dot->strips; s += STRIPS)
        strips(dot, encoding, STRIPS, s);
    for (; s < dot->strips; s++)
        strips(dot, encoding, 1, s);
}

#define DEFINE(encoding, name)                                                                               \
    static void dot_##name(const oct_dot *dot)                                                               \
    {                                                                                                        \
        dot_float(dot, encoding);                                                                            \
    }
OCT_FLOAT_ENCODINGS(DEFINE)

void oct_avx512_fill_float_dots(oct_cpu_kernels *table)
{
#define FILL(encoding, name) table->dot[encoding] = dot_##name;
    OCT_FLOAT_ENCODINGS(FILL)
}
