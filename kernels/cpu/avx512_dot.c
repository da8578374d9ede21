// Integer dot products of the AVX-512 table. A register is a quad of the tile: 16 rows × 4 columns, which
// vpdpbusd multiplies (unsigned codes, signed inputs) and adds to 16 sums in int32, exactly. The zero point
// is taken off afterwards, as zero · Σ x.
//
// A unit is unpacked once for up to BLOCK columns; more columns take the strip again, from the cache.
#include "kernels/cpu/avx512.h"

#include <string.h>

#include "kernels/cpu/traits.h"

#define BLOCK 8
#define PREFETCH_BYTES 2048

#ifdef OCT_EMULATED
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

// Where a pass of up to BLOCK columns reads its inputs: at column k of the pass's K range.
typedef struct inputs {
    const int8_t *codes[BLOCK];
    const float *scales[BLOCK];
    const int32_t *sums[BLOCK];
} inputs;

typedef struct scales16 {
    __m512 scale, minimum;
} scales16;

OCT_INLINE __m512 load_f16x16(const uint8_t *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
}

OCT_INLINE __m512 load_factors(const uint8_t *at, bool with_sign)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    return _mm512_cvtepi32_ps(with_sign ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
}

OCT_INLINE scales16 load_scales(oct_traits t, const uint8_t *block, int group)
{
    scales16 s = {.minimum = _mm512_setzero_ps()};
    __m512i factors;
    switch (t.scale) {
    case OCT_SCALE_F16:
        s.scale = load_f16x16(block + group * 32);
        break;
    case OCT_SCALE_F16_MIN:
        s.scale = load_f16x16(block + group * 64);
        s.minimum = load_f16x16(block + group * 64 + 32);
        break;
    case OCT_SCALE_FACTOR_S8:
        s.scale = _mm512_mul_ps(load_f16x16(block), load_factors(block + 32 + group * 16, true));
        break;
    case OCT_SCALE_FACTOR_U8:
        s.scale = _mm512_mul_ps(load_f16x16(block), load_factors(block + 64 + group * 32, false));
        s.minimum = _mm512_mul_ps(load_f16x16(block + 32), load_factors(block + 64 + group * 32 + 16, false));
        break;
    default: // OCT_SCALE_FACTOR_U4
        factors = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(block + 64 + group * 16)));
        s.scale = _mm512_mul_ps(load_f16x16(block),
                                _mm512_cvtepi32_ps(_mm512_and_si512(factors, _mm512_set1_epi32(15))));
        s.minimum = _mm512_mul_ps(load_f16x16(block + 32), _mm512_cvtepi32_ps(_mm512_srli_epi32(factors, 4)));
        break;
    }
    return s;
}

// The fields of quad `quad` (of a unit's plane at `plane`), moved to bit `to`.
OCT_INLINE __m512i plane_quad(const uint8_t *plane, int bits, int quad, int to)
{
    int share = 8 / bits, from = quad % share * bits;
    __m512i v = _mm512_loadu_si512(plane + quad / share * OCT_VECTOR_BYTES);
    if (from > to)
        v = _mm512_srli_epi16(v, (unsigned)(from - to));
    if (from < to)
        v = _mm512_slli_epi16(v, (unsigned)(to - from));
    return bits == 8 ? v : _mm512_and_si512(v, _mm512_set1_epi8((char)(((1 << bits) - 1) << to)));
}

OCT_INLINE __m512i unpack_quad(oct_traits t, const uint8_t *low, const uint8_t *high, __m512i values,
                               int quad)
{
    __m512i code = plane_quad(low, t.low_bits, quad, 0);
    if (t.high_bits > 0)
        code = _mm512_or_si512(code, plane_quad(high, t.high_bits, quad, t.low_bits));
    return t.codebook ? _mm512_shuffle_epi8(values, code) : code;
}

// Adds one unit (32 columns) of a tile to the accumulators of N columns. `values` is the codebook.
OCT_INLINE void add_unit(oct_traits t, int N, const uint8_t *block, const uint8_t *low, const uint8_t *high,
                         int u, __m512i values, const inputs *x, int64_t k, __m512 accumulator[BLOCK])
{
    const int quads = t.group / 4, groups = OCT_UNIT_COLUMNS / t.group;
    UNROLL
    for (int group = 0; group < groups; group++) {
        __m512i sum[BLOCK];
        UNROLL
        for (int c = 0; c < N; c++)
            sum[c] = _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < quads; i++) {
            __m512i code = unpack_quad(t, low, high, values, group * quads + i);
            UNROLL
            for (int c = 0; c < N; c++) {
                int32_t four;
                memcpy(&four, x->codes[c] + k + (group * quads + i) * 4, sizeof four);
                sum[c] = _mm512_dpbusd_epi32(sum[c], code, _mm512_set1_epi32(four));
            }
        }
        scales16 s = load_scales(t, block, u * groups + group);
        UNROLL
        for (int c = 0; c < N; c++) {
            const int32_t *sums = x->sums[c] + k / 16;
            int32_t a = t.group == 16 ? sums[group] : sums[0] + sums[1];
            __m512 scale_x = _mm512_set1_ps(x->scales[c][k / 32]);
            if (t.zero > 0)
                sum[c] = _mm512_sub_epi32(sum[c], _mm512_set1_epi32(t.zero * a));
            accumulator[c] =
                _mm512_fmadd_ps(_mm512_mul_ps(s.scale, scale_x), _mm512_cvtepi32_ps(sum[c]), accumulator[c]);
            if (oct_traits_minimum(t))
                accumulator[c] = _mm512_fmadd_ps(_mm512_mul_ps(s.minimum, scale_x), _mm512_set1_ps((float)a),
                                                 accumulator[c]);
        }
    }
}

// One strip for N columns.
OCT_INLINE void dot_strip(oct_traits t, int N, const oct_dot *dot, const uint8_t *strip, __m512i values,
                          const inputs *x, float *out)
{
    __m512 accumulator[BLOCK];
    for (int c = 0; c < N; c++)
        accumulator[c] = _mm512_setzero_ps();
    int64_t end = dot->first + oct_pad_columns(dot->last - dot->first);
    const uint8_t *block = strip;
    const int low_bytes = oct_plane_bytes(t.low_bits, OCT_UNIT_COLUMNS);
    const int high_bytes = oct_plane_bytes(t.high_bits, OCT_UNIT_COLUMNS);
    for (int64_t at = dot->first; at < end;) {
        int n = oct_block_columns(at, end);
        const uint8_t *low = block + oct_traits_scale_bytes(t, n);
        const uint8_t *high = low + oct_plane_bytes(t.low_bits, n);
        for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
            for (int i = 0; i < low_bytes + high_bytes; i += 64)
                _mm_prefetch((const char *)low + PREFETCH_BYTES + i, _MM_HINT_T0);
            add_unit(t, N, block, low, high, u, values, x, at - dot->first + u * OCT_UNIT_COLUMNS,
                     accumulator);
            low += low_bytes;
            high += high_bytes;
        }
        block += oct_traits_block_bytes(t, n);
        at += n;
    }
    for (int c = 0; c < N; c++)
        _mm512_storeu_ps(out + (size_t)c * dot->out_stride, accumulator[c]);
}

OCT_INLINE inputs find_inputs(const oct_dot *dot, int32_t begin, int columns)
{
    inputs x = {{NULL}, {NULL}, {NULL}};
    for (int c = 0; c < columns; c++) {
        int64_t at = (dot->column_begin + begin + c) * dot->x->width + dot->x_offset;
        x.codes[c] = dot->x->codes + at;
        x.scales[c] = dot->x->scales + at / 32;
        x.sums[c] = dot->x->sums + at / 16;
    }
    return x;
}

// The strips [s, last) for N columns from `begin` on.
OCT_INLINE void dot_strips(oct_traits t, int N, const oct_dot *dot, __m512i values, int32_t s, int32_t last,
                           int32_t begin)
{
    const inputs x = find_inputs(dot, begin, N);
    for (; s < last; s++)
        dot_strip(t, N, dot, dot->weights + (size_t)s * dot->strip_bytes, values, &x,
                  dot->out + (size_t)begin * dot->out_stride + (size_t)s * OCT_TILE_ROWS);
}

OCT_INLINE void dot_int8(const oct_dot *dot, oct_encoding encoding, oct_traits t)
{
    __m512i values = _mm512_setzero_si512();
    if (t.codebook)
        values = _mm512_broadcast_i32x4(
            _mm_loadu_si128((const __m128i *)oct_encoding_describe(encoding)->codebook));
    const int32_t together = dot->columns > 4 ? oct_strips_together(dot->strip_bytes) : dot->strips;
    for (int32_t s = 0; s < dot->strips; s += together) {
        int32_t last = dot->strips - s < together ? dot->strips : s + together, begin = 0;
        for (; dot->columns - begin >= BLOCK; begin += BLOCK)
            dot_strips(t, BLOCK, dot, values, s, last, begin);
        for (; dot->columns - begin >= 4; begin += 4)
            dot_strips(t, 4, dot, values, s, last, begin);
        if (dot->columns - begin == 3)
            dot_strips(t, 3, dot, values, s, last, begin);
        else if (dot->columns - begin == 2)
            dot_strips(t, 2, dot, values, s, last, begin);
        else if (dot->columns - begin == 1)
            dot_strips(t, 1, dot, values, s, last, begin);
    }
}

#define DEFINE(encoding, name, ...)                                                                          \
    static void dot_##name(const oct_dot *dot)                                                               \
    {                                                                                                        \
        dot_int8(dot, encoding, (oct_traits){__VA_ARGS__});                                                  \
    }
OCT_INTEGER_ENCODINGS(DEFINE)

void oct_avx512_fill_dots(oct_cpu_kernels *table)
{
#define FILL(encoding, name, ...) table->dot[encoding] = dot_##name;
    OCT_INTEGER_ENCODINGS(FILL)
}
