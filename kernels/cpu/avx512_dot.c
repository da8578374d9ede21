// Integer dot products of the AVX-512 table. A register is a quad of the tile: 16 rows × 4 columns, which
// vpdpbusd multiplies (unsigned codes, signed inputs) and adds to 16 sums in int32, exactly. The zero point is
// taken off afterwards, in fp32, where both numbers are whole and small enough to be exact.
//
// A pass walks the strips in pairs. The codes of a unit (16 rows × 32 columns) of both strips are unpacked into 16
// registers; then the columns of a panel of inputs go by, one after another, each input broadcast once for both
// strips: loads of whole registers are what a core has least of (measured: one a cycle beside two multiplications).
// The fp32 accumulators wait in the first-level cache meanwhile, so one loop serves any number of columns.
//
// With few columns memory is the limit. One sequential stream a thread does not reach it (measured: 12 GB/s of
// the 15 that a core can read on an Ice Lake server), several do: a pass walks PAIRS pairs of strips side by side, far
// apart, so that each strip is a sequential stream of its own.
#include "kernels/cpu/avx512.h"

#include <string.h>

#include "kernels/cpu/traits.h"

enum { PAIRS = 2, PREFETCH_BYTES = 1024, CACHED_BYTES = 256 << 10 };

#ifdef OCT_EMULATED
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

// Sums of the columns of a panel for one pair of strips.
typedef float accumulators[OCT_PANEL_COLUMNS][2][OCT_TILE_ROWS];

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

// One group of S strips for one column: `code` are their quads, `x` its inputs, sum_x the sum of those.
OCT_INLINE void add_group(oct_traits t, int S, const __m512i code[2][OCT_UNIT_QUADS], int first_quad,
                          const scales16 scales[2], const int8_t *x, float scale_x, float sum_x,
                          float sums[2][OCT_TILE_ROWS])
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    UNROLL
    for (int i = 0; i < t.group / 4; i++) {
        int32_t four;
        memcpy(&four, x + i * 4, sizeof four);
        const __m512i inputs = _mm512_set1_epi32(four);
        UNROLL
        for (int s = 0; s < S; s++)
            sum[s] = _mm512_dpbusd_epi32(sum[s], code[s][first_quad + i], inputs);
    }
    const __m512 scale = _mm512_set1_ps(scale_x), whole_x = _mm512_set1_ps(sum_x);
    UNROLL
    for (int s = 0; s < S; s++) {
        __m512 whole = _mm512_cvtepi32_ps(sum[s]), accumulator = _mm512_loadu_ps(sums[s]);
        if (t.zero > 0)
            whole = _mm512_fnmadd_ps(_mm512_set1_ps((float)t.zero), whole_x, whole);
        accumulator = _mm512_fmadd_ps(_mm512_mul_ps(scales[s].scale, scale), whole, accumulator);
        if (oct_traits_minimum(t))
            accumulator = _mm512_fmadd_ps(_mm512_mul_ps(scales[s].minimum, scale), whole_x, accumulator);
        _mm512_storeu_ps(sums[s], accumulator);
    }
}

// Unit u of a block of n columns at `block`, of S strips `apart` bytes from each other, for `columns` columns whose
// inputs are units at `codes` and `groups`.
OCT_INLINE void add_unit(oct_traits t, int S, const uint8_t *block, size_t apart, int n, int u, __m512i values,
                         int32_t columns, const int8_t *codes, const oct_activation_group *groups, accumulators sums)
{
    __m512i code[2][OCT_UNIT_QUADS];
    scales16 scales[2][2];
    const int low_bytes = oct_plane_bytes(t.low_bits, OCT_UNIT_COLUMNS);
    const int high_bytes = oct_plane_bytes(t.high_bits, OCT_UNIT_COLUMNS);
    UNROLL
    for (int s = 0; s < S; s++) {
        const uint8_t *low = block + (size_t)s * apart + oct_traits_scale_bytes(t, n) + u * low_bytes;
        const uint8_t *high = low + (n / OCT_UNIT_COLUMNS - u) * low_bytes + u * high_bytes;
        for (int i = 0; i < low_bytes + high_bytes; i += 64)
            _mm_prefetch((const char *)low + PREFETCH_BYTES + i, _MM_HINT_T0);
        UNROLL
        for (int quad = 0; quad < OCT_UNIT_QUADS; quad++)
            code[s][quad] = unpack_quad(t, low, high, values, quad);
        UNROLL
        for (int group = 0; group < OCT_UNIT_COLUMNS / t.group; group++)
            scales[group][s] =
                load_scales(t, block + (size_t)s * apart, u * (OCT_UNIT_COLUMNS / t.group) + group);
    }
    for (int32_t c = 0; c < columns; c++)
        UNROLL
        for (int group = 0; group < OCT_UNIT_COLUMNS / t.group; group++)
            add_group(t, S, code, group * (t.group / 4), scales[group],
                      codes + c * OCT_UNIT_COLUMNS + group * t.group, groups[c].scale,
                      t.group == 32 ? groups[c].sum : groups[c].half_sums[group], sums[c]);
}

// Strips of a pass: `pairs` times S of them, `apart` bytes from each other (and `rows_apart` rows).
typedef struct pass {
    int32_t pairs;
    size_t apart, rows_apart;
} pass;

static void store_sums(const oct_dot *dot, int S, pass p, int32_t begin, int32_t columns, accumulators sums[PAIRS],
                       float *out)
{
    for (int32_t i = 0; i < p.pairs * S; i++)
        for (int32_t c = 0; c < columns; c++)
            _mm512_storeu_ps(out + (size_t)i * p.rows_apart + (size_t)(begin + c) * dot->out_stride,
                             _mm512_loadu_ps(sums[i / S][c][i % S]));
}

// The panel of columns that begins with `begin`. strip, out: the first strip of the pass.
OCT_INLINE void dot_strips(oct_traits t, int S, const oct_dot *dot, const uint8_t *strip, pass p, __m512i values,
                           int32_t begin, float *out)
{
    const int32_t columns = oct_panel_columns(dot->x, begin);
    const int64_t unit = oct_activation_unit(dot->x, dot->x_offset / OCT_UNIT_COLUMNS, begin);
    const int8_t *codes = dot->x->codes + unit * OCT_UNIT_COLUMNS;
    const oct_activation_group *groups = dot->x->groups + unit;
    _Alignas(64) accumulators sums[PAIRS];
    for (int32_t i = 0; i < p.pairs; i++)
        memset(sums[i], 0, (size_t)columns * sizeof sums[i][0]);
    const int64_t end = dot->first + oct_pad_columns(dot->last - dot->first);
    const uint8_t *block = strip;
    for (int64_t at = dot->first; at < end;) {
        const int n = oct_block_columns(at, end);
        for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
            for (int32_t i = 0; i < p.pairs; i++)
                add_unit(t, S, block + (size_t)(i * S) * p.apart, p.apart, n, u, values, columns, codes, groups,
                         sums[i]);
            codes += columns * OCT_UNIT_COLUMNS;
            groups += columns;
        }
        block += oct_traits_block_bytes(t, n);
        at += n;
    }
    store_sums(dot, S, p, begin, columns, sums, out);
}

// The strips [first, last) for a panel of columns.
OCT_INLINE void dot_panel(oct_traits t, const oct_dot *dot, __m512i values, int32_t first, int32_t last, int32_t begin)
{
    const int32_t streams = 2 * PAIRS, part = (last - first) / streams;
    const pass together = {PAIRS, (size_t)part * dot->strip_bytes, (size_t)part * OCT_TILE_ROWS};
    const pass neighbours = {1, dot->strip_bytes, OCT_TILE_ROWS};
    for (int32_t s = first; s < first + part; s++)
        dot_strips(t, 2, dot, dot->weights + (size_t)s * dot->strip_bytes, together, values, begin,
                   dot->out + (size_t)s * OCT_TILE_ROWS);
    int32_t s = first + streams * part;
    for (; s + 1 < last; s += 2)
        dot_strips(t, 2, dot, dot->weights + (size_t)s * dot->strip_bytes, neighbours, values, begin,
                   dot->out + (size_t)s * OCT_TILE_ROWS);
    if (s < last)
        dot_strips(t, 1, dot, dot->weights + (size_t)s * dot->strip_bytes, neighbours, values, begin,
                   dot->out + (size_t)s * OCT_TILE_ROWS);
}

OCT_INLINE void dot_int8(const oct_dot *dot, oct_encoding encoding, oct_traits t)
{
    __m512i values = _mm512_setzero_si512();
    if (t.codebook)
        values = _mm512_broadcast_i32x4(
            _mm_loadu_si128((const __m128i *)oct_encoding_describe(encoding)->codebook));
    int32_t together = dot->strips;
    if (dot->x->columns > OCT_PANEL_COLUMNS)
        together = CACHED_BYTES < dot->strip_bytes ? 1 : (int32_t)(CACHED_BYTES / dot->strip_bytes);
    for (int32_t first = 0; first < dot->strips; first += together)
        for (int32_t begin = 0; begin < dot->x->columns; begin += OCT_PANEL_COLUMNS)
            dot_panel(t, dot, values, first, dot->strips - first < together ? dot->strips : first + together, begin);
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
