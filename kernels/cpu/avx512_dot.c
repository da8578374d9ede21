// Integer dot products of the AVX-512 table. A register is a quad of the tile: 16 rows × 4 columns, which
// vpdpbusd multiplies (unsigned codes, signed inputs) and adds to 16 sums in int32, exactly. The sums begin at
// −zero · Σ x, so that the zero point is taken off already.
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

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/traits.h"
#include "kernels/cpu/tree_stack.h"

enum { PAIRS = 2, STREAMS = 2 * PAIRS, STREAM_BYTES = 6144, CACHED_BYTES = 256 << 10 };

// Bytes from the weights in use to those that are fetched meanwhile: in each of STREAMS streams, or in one. A single
// column reads so fast that the processor's own prefetcher keeps up with streams of its own, so that only their ends
// matter; in short runs of strips it never gets going, and what is on its way at a time is what the loop asks for.
// Measured with 1 to 8 columns, two threads, on Zen 4 (docs/performance.md).
enum {
    SEVERAL_AHEAD = 2048,
    SEVERAL_AHEAD_IN_ONE = 5120,
    SINGLE_AHEAD = 1024,
    SINGLE_AHEAD_SHORT = 8192, // streams of less than SHORT_BYTES
    SINGLE_AHEAD_IN_ONE = 12288,
    SHORT_BYTES = 64 << 10
};

#ifdef OCT_EMULATED
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

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

// Fetches the part of a block that its unit u stands for: scales and codes in order.
OCT_INLINE void prefetch_unit(oct_traits t, const uint8_t *block, int u)
{
    const int unit_bytes = oct_traits_block_bytes(t, OCT_BLOCK_COLUMNS) / (OCT_BLOCK_COLUMNS / OCT_UNIT_COLUMNS);
    for (int i = 0; i < unit_bytes; i += 64)
        oct_prefetch(block + u * unit_bytes + i);
}

OCT_INLINE __m512i broadcast_four(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

// Takes the sums of one group, for inputs with this scale and sum, into an accumulator.
OCT_INLINE __m512 take_sum(oct_traits t, scales16 s, __m512i sum, __m512 scale_x, int32_t sum_x, __m512 accumulator)
{
    accumulator = _mm512_fmadd_ps(_mm512_mul_ps(s.scale, scale_x), _mm512_cvtepi32_ps(sum), accumulator);
    if (oct_traits_minimum(t))
        accumulator =
            _mm512_fmadd_ps(_mm512_mul_ps(s.minimum, scale_x), _mm512_set1_ps((float)sum_x), accumulator);
    return accumulator;
}

// Unit u of a block of one strip for a single column: x are its inputs. low, high: the unit's part of the planes.
OCT_INLINE __m512 add_single(oct_traits t, const uint8_t *block, const uint8_t *low, const uint8_t *high, int u,
                             __m512i values, const __m512i x[OCT_UNIT_QUADS], const oct_activation_group *input,
                             __m512 accumulator)
{
    const int groups = OCT_UNIT_COLUMNS / t.group, quads = t.group / 4;
    UNROLL
    for (int group = 0; group < groups; group++) {
        const int32_t sum_x = t.group == 32 ? input->sum : input->half_sums[group];
        __m512i sum = _mm512_set1_epi32(-t.zero * sum_x);
        UNROLL
        for (int i = group * quads; i < (group + 1) * quads; i++)
            sum = _mm512_dpbusd_epi32(sum, unpack_quad(t, low, high, values, i), x[i]);
        accumulator = take_sum(t, load_scales(t, block, u * groups + group), sum, _mm512_set1_ps(input->scale), sum_x,
                               accumulator);
    }
    return accumulator;
}

// One group of S strips for one column: `code` are their quads, `x` its inputs, sum_x the sum of those.
OCT_INLINE void add_group(oct_traits t, int S, const __m512i code[2][OCT_UNIT_QUADS], int first_quad,
                          const scales16 scales[2], const int8_t *x, float scale_x, int32_t sum_x,
                          __m512 accumulator[2])
{
    const __m512i zeros = _mm512_mullo_epi32(_mm512_set1_epi32(sum_x), _mm512_set1_epi32(-t.zero));
    const int half = t.group / 8; // two chains a sum: a multiplication waits for the one before it
    __m512i sum[2] = {zeros, zeros}, rest[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    UNROLL
    for (int i = 0; i < half; i++) {
        const __m512i inputs = broadcast_four(x + i * 4), others = broadcast_four(x + (half + i) * 4);
        UNROLL
        for (int s = 0; s < S; s++) {
            sum[s] = _mm512_dpbusd_epi32(sum[s], code[s][first_quad + i], inputs);
            rest[s] = _mm512_dpbusd_epi32(rest[s], code[s][first_quad + half + i], others);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++)
        sum[s] = _mm512_add_epi32(sum[s], rest[s]);
    UNROLL
    for (int s = 0; s < S; s++)
        accumulator[s] = take_sum(t, scales[s], sum[s], _mm512_set1_ps(scale_x), sum_x, accumulator[s]);
}

// Unit u of a block of n columns at `block`, of S strips `apart` bytes from each other, for `columns` columns whose
// inputs are units at `codes` and `groups`. The accumulators sums [columns][S][16] begin at 0 where `fresh`. Behind a
// granule's last unit they are merged at once with those `level` floats below, `merges` times; otherwise that is 0.
OCT_INLINE void add_unit(oct_traits t, int S, bool fresh, const uint8_t *block, size_t apart, ptrdiff_t ahead, int n,
                         int u, __m512i values, int32_t columns, const int8_t *codes,
                         const oct_activation_group *groups, float *sums, size_t level, int32_t merges)
{
    __m512i code[2][OCT_UNIT_QUADS];
    scales16 scales[2][2];
    const int low_bytes = oct_plane_bytes(t.low_bits, OCT_UNIT_COLUMNS);
    const int high_bytes = oct_plane_bytes(t.high_bits, OCT_UNIT_COLUMNS);
    UNROLL
    for (int s = 0; s < S; s++) {
        const uint8_t *low = block + (size_t)s * apart + oct_traits_scale_bytes(t, n) + u * low_bytes;
        const uint8_t *high = low + (n / OCT_UNIT_COLUMNS - u) * low_bytes + u * high_bytes;
        prefetch_unit(t, block + (size_t)s * apart + ahead, u);
        UNROLL
        for (int quad = 0; quad < OCT_UNIT_QUADS; quad++)
            code[s][quad] = unpack_quad(t, low, high, values, quad);
        UNROLL
        for (int group = 0; group < OCT_UNIT_COLUMNS / t.group; group++)
            scales[group][s] =
                load_scales(t, block + (size_t)s * apart, u * (OCT_UNIT_COLUMNS / t.group) + group);
    }
    float *merged = sums - (size_t)merges * level;
    for (int32_t c = 0; c < columns; c++) {
        __m512 accumulator[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        UNROLL
        for (int s = 0; s < S && !fresh; s++)
            accumulator[s] = _mm512_loadu_ps(sums + s * OCT_TILE_ROWS);
        UNROLL
        for (int group = 0; group < OCT_UNIT_COLUMNS / t.group; group++)
            add_group(t, S, code, group * (t.group / 4), scales[group],
                      codes + c * OCT_UNIT_COLUMNS + group * t.group, groups[c].scale,
                      t.group == 32 ? groups[c].sum : groups[c].half_sums[group], accumulator);
        UNROLL
        for (int s = 0; s < S; s++)
            _mm512_storeu_ps(merged + s * OCT_TILE_ROWS,
                             oct_avx512_merge(sums + s * OCT_TILE_ROWS, level, merges, accumulator[s]));
        sums += S * OCT_TILE_ROWS;
        merged += S * OCT_TILE_ROWS;
    }
}

// How the strips of a pass lie to each other, and what is fetched meanwhile.
typedef struct pass {
    size_t apart, rows_apart; // bytes of weights, rows, from a strip to the next
    ptrdiff_t ahead;          // bytes from weights in use to those that are fetched
} pass;

// PAIRS times S strips, of which `pairs` are there, for the panel of columns that begins with `begin`. strip, out: the
// first of them.
OCT_INLINE void dot_strips(oct_traits t, int S, const oct_dot *dot, const uint8_t *strip, pass p, int32_t pairs,
                           __m512i values, int32_t begin, float *out)
{
    const int32_t columns = oct_panel_columns(dot->x, begin);
    const int64_t unit = oct_activation_unit(dot->x, dot->x_offset / OCT_UNIT_COLUMNS, begin);
    const int8_t *codes = dot->x->codes + unit * OCT_UNIT_COLUMNS;
    const oct_activation_group *groups = dot->x->groups + unit;
    _Alignas(64) float stack[OCT_MAX_NODES * PAIRS * OCT_PANEL_COLUMNS * 2 * OCT_TILE_ROWS];
    const size_t pair_sums = (size_t)(columns * S) * OCT_TILE_ROWS, level = (size_t)pairs * pair_sums;
    const uint8_t *block = strip;
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        const int64_t first = dot->granules[g].begin, end = first + oct_pad_columns(dot->granules[g].end - first);
        for (int64_t at = first; at < end;) {
            const int n = oct_block_columns(at, end);
            for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
                const bool last = at + n == end && u + 1 == n / OCT_UNIT_COLUMNS;
                const int32_t merges = last ? dot->merges[g] : 0;
                for (int32_t i = 0; i < pairs; i++) {
                    const uint8_t *pair = block + (size_t)(i * S) * p.apart;
                    float *sums = stack + (size_t)top * level + (size_t)i * pair_sums;
                    if (at == first && u == 0)
                        add_unit(t, S, true, pair, p.apart, p.ahead, n, u, values, columns, codes, groups, sums, level,
                                 merges);
                    else
                        add_unit(t, S, false, pair, p.apart, p.ahead, n, u, values, columns, codes, groups, sums, level,
                                 merges);
                }
                codes += columns * OCT_UNIT_COLUMNS;
                groups += columns;
            }
            block += oct_traits_block_bytes(t, n);
            at += n;
        }
        top += 1 - dot->merges[g];
    }
    for (int32_t i = 0; i < pairs * S; i++)
        oct_tree_store(dot, stack + (size_t)(i / S) * pair_sums + (size_t)(i % S) * OCT_TILE_ROWS, level,
                       (size_t)S * OCT_TILE_ROWS, columns,
                       out + (size_t)i * p.rows_apart + (size_t)begin * dot->out_stride);
}

// The same for a single column, whose accumulators and inputs stay in registers: S strips.
OCT_INLINE void dot_single(oct_traits t, int S, const oct_dot *dot, const uint8_t *strip, pass p, __m512i values,
                           float *out)
{
    const int low_bytes = oct_plane_bytes(t.low_bits, OCT_UNIT_COLUMNS);
    const int high_bytes = oct_plane_bytes(t.high_bits, OCT_UNIT_COLUMNS);
    const int8_t *codes = dot->x->codes + dot->x_offset;
    const oct_activation_group *input = dot->x->groups + dot->x_offset / OCT_UNIT_COLUMNS;
    _Alignas(64) float stack[OCT_MAX_NODES * STREAMS * OCT_TILE_ROWS];
    const size_t level = (size_t)S * OCT_TILE_ROWS;
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        __m512 accumulator[STREAMS];
        UNROLL
        for (int s = 0; s < S; s++)
            accumulator[s] = _mm512_setzero_ps();
        const int64_t first = dot->granules[g].begin, end = first + oct_pad_columns(dot->granules[g].end - first);
        for (int64_t at = first; at < end;) {
            const int n = oct_block_columns(at, end);
            const uint8_t *low = strip + oct_traits_scale_bytes(t, n), *high = low + oct_plane_bytes(t.low_bits, n);
            for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
                __m512i x[OCT_UNIT_QUADS];
                UNROLL
                for (int i = 0; i < OCT_UNIT_QUADS; i++)
                    x[i] = broadcast_four(codes + i * 4);
                UNROLL
                for (int s = 0; s < S; s++) {
                    const size_t from = (size_t)s * p.apart;
                    prefetch_unit(t, strip + from + p.ahead, u);
                    accumulator[s] =
                        add_single(t, strip + from, low + from, high + from, u, values, x, input, accumulator[s]);
                }
                low += low_bytes;
                high += high_bytes;
                codes += OCT_UNIT_COLUMNS;
                input++;
            }
            strip += oct_traits_block_bytes(t, n);
            at += n;
        }
        UNROLL
        for (int s = 0; s < S; s++)
            accumulator[s] = oct_avx512_merge(stack + (size_t)top * level + (size_t)s * OCT_TILE_ROWS, level,
                                              dot->merges[g], accumulator[s]);
        top -= dot->merges[g];
        const bool root = dot->nodes == 1 && g + 1 == dot->granule_count;
        UNROLL
        for (int s = 0; s < S; s++)
            _mm512_storeu_ps(root ? out + (size_t)s * p.rows_apart
                                  : stack + (size_t)top * level + (size_t)s * OCT_TILE_ROWS,
                             accumulator[s]);
        if (root) // straight: the way over the stack cost 5 % out of the cache
            return;
        top++;
    }
    for (int s = 0; s < S; s++)
        oct_tree_store(dot, stack + s * OCT_TILE_ROWS, level, OCT_TILE_ROWS, 1, out + (size_t)s * p.rows_apart);
}

// `strips` strips (4, 2 or 1) that begin with number s, for a panel of columns.
OCT_INLINE void dot_group(oct_traits t, int strips, const oct_dot *dot, int32_t s, pass p, __m512i values,
                          int32_t begin)
{
    const uint8_t *strip = dot->weights + (size_t)s * dot->strip_bytes;
    float *out = dot->out + (size_t)s * OCT_TILE_ROWS;
    if (dot->x->columns == 1)
        dot_single(t, strips, dot, strip, p, values, out);
    else
        dot_strips(t, strips > 1 ? 2 : 1, dot, strip, p, (strips + 1) / 2, values, begin, out);
}

// Bytes from the weights in use, `at` bytes behind the beginning of a stream of `bytes` bytes, to those that are
// fetched meanwhile, `distance` bytes on at most. Behind its end others follow, `onward` bytes from where the streams
// begin; 0: it is not known which.
OCT_INLINE ptrdiff_t bytes_ahead(ptrdiff_t onward, size_t at, size_t bytes, size_t distance)
{
    if (distance > bytes)
        distance = bytes;
    if (at + distance < bytes || onward == 0)
        return (ptrdiff_t)distance;
    return onward + (ptrdiff_t)distance - (ptrdiff_t)bytes;
}

OCT_INLINE size_t prefetch_distance(bool single, bool far, size_t stream_bytes)
{
    if (!single)
        return far ? SEVERAL_AHEAD : SEVERAL_AHEAD_IN_ONE;
    if (!far)
        return SINGLE_AHEAD_IN_ONE;
    return stream_bytes < SHORT_BYTES ? SINGLE_AHEAD_SHORT : SINGLE_AHEAD;
}

// The strips [first, last) for a panel of columns, four at a time: long ones far apart, short ones as they come,
// since a stream that soon ends is not worth its beginning.
OCT_INLINE void dot_panel(oct_traits t, const oct_dot *dot, __m512i values, int32_t first, int32_t last, int32_t begin)
{
    const size_t strip_bytes = dot->strip_bytes;
    const int32_t part = (last - first) / STREAMS;
    const bool far = (size_t)part * strip_bytes >= STREAM_BYTES;
    const int32_t distance = far ? part : 1, step = far ? 1 : STREAMS;
    const size_t stream_bytes = (size_t)(far ? part : last - first) * strip_bytes;
    const size_t ahead = prefetch_distance(dot->x->columns == 1, far, stream_bytes);
    const uint8_t *weights = dot->weights + (size_t)first * strip_bytes;
    const bool over = last == dot->strips && begin + OCT_PANEL_COLUMNS >= dot->x->columns;
    const ptrdiff_t onward = over && dot->next != NULL ? dot->next - weights : 0;
    pass p = {(size_t)distance * strip_bytes, (size_t)distance * OCT_TILE_ROWS, 0};
    for (int32_t i = 0; i < part; i++) {
        p.ahead = bytes_ahead(onward, (size_t)(i * step) * strip_bytes, stream_bytes, ahead);
        dot_group(t, STREAMS, dot, first + i * step, p, values, begin);
    }
    int32_t s = first + STREAMS * part;
    p = (pass){strip_bytes, OCT_TILE_ROWS, bytes_ahead(onward, (size_t)(s - first) * strip_bytes, stream_bytes, ahead)};
    if (last - s >= 2) {
        dot_group(t, 2, dot, s, p, values, begin);
        s += 2;
    }
    if (s < last)
        dot_group(t, 1, dot, s, p, values, begin);
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
