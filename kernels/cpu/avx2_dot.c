// Integer dot products of the AVX2 table. A row is a lane: no horizontal sum anywhere.
//
// Codes of at most 6 bits are multiplied as they are (vpmaddubsw: unsigned codes, signed inputs) and stay in
// int16 for as many quads as cannot overflow: a quad adds at most 2 · (2^bits − 1) · 127 to a lane, which is
// 3810 at 4 bits (eight quads fit), 7874 at 5 (four), 16002 at 6 (two); the zero point is taken off
// afterwards, as zero · Σ x, in fp32, where both are whole and exact. Codes of 8 bits and the codebook become
// signed values −128 … 127 first; vpmaddubsw then takes |value| and x with the value's sign: at most
// 2 · 128 · 127 = 32512, exact without saturation, and widened at once.
//
// The codes of a unit are unpacked once for up to BLOCK columns; more columns take the strip again, from L1.
#include "kernels/cpu/avx2.h"

#include <string.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/traits.h"
#include "kernels/cpu/tree_stack.h"

#define BLOCK 4 // columns of a pass
#define PREFETCH_BYTES 2048

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

// Where a pass of up to BLOCK columns reads the inputs of a unit: its columns stand one beside another.
typedef struct inputs {
    const int8_t *codes;
    const oct_activation_group *groups;
} inputs;

// Scales of one group of 8 rows.
typedef struct scales8 {
    __m256 scale, minimum;
} scales8;

OCT_INLINE __m256 load_f16x8(const uint8_t *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at));
}

OCT_INLINE __m256 bytes_to_floats(__m128i bytes, bool with_sign)
{
    return _mm256_cvtepi32_ps(with_sign ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}

// `half` is 0 for rows 0…7, 1 for rows 8…15.
OCT_INLINE scales8 load_scales(oct_traits t, const uint8_t *block, int group, int half)
{
    scales8 s = {.minimum = _mm256_setzero_ps()};
    const uint8_t *d = block + half * 16;
    __m128i factors, low = _mm_set1_epi8(15);
    switch (t.scale) {
    case OCT_SCALE_F16:
        s.scale = load_f16x8(d + group * 32);
        break;
    case OCT_SCALE_F16_MIN:
        s.scale = load_f16x8(d + group * 64);
        s.minimum = load_f16x8(d + group * 64 + 32);
        break;
    case OCT_SCALE_FACTOR_S8:
        factors = _mm_loadl_epi64((const __m128i *)(block + 32 + group * 16 + half * 8));
        s.scale = _mm256_mul_ps(load_f16x8(d), bytes_to_floats(factors, true));
        break;
    case OCT_SCALE_FACTOR_U8:
        factors = _mm_loadl_epi64((const __m128i *)(block + 64 + group * 32 + half * 8));
        s.scale = _mm256_mul_ps(load_f16x8(d), bytes_to_floats(factors, false));
        factors = _mm_loadl_epi64((const __m128i *)(block + 64 + group * 32 + 16 + half * 8));
        s.minimum = _mm256_mul_ps(load_f16x8(d + 32), bytes_to_floats(factors, false));
        break;
    default: // OCT_SCALE_FACTOR_U4
        factors = _mm_loadl_epi64((const __m128i *)(block + 64 + group * 16 + half * 8));
        s.scale = _mm256_mul_ps(load_f16x8(d), bytes_to_floats(_mm_and_si128(factors, low), false));
        factors = _mm_and_si128(_mm_srli_epi16(factors, 4), low);
        s.minimum = _mm256_mul_ps(load_f16x8(d + 32), bytes_to_floats(factors, false));
        break;
    }
    return s;
}

// The fields of quad `quad` (of a unit's plane at `plane`) for 8 rows, moved to bit `to`.
OCT_INLINE __m256i plane_quad(const uint8_t *plane, int bits, int quad, int half, int to)
{
    int share = 8 / bits, from = quad % share * bits;
    __m256i v = _mm256_loadu_si256((const __m256i *)(plane + quad / share * OCT_VECTOR_BYTES + half * 32));
    if (from > to)
        v = _mm256_srli_epi16(v, from - to);
    if (from < to)
        v = _mm256_slli_epi16(v, to - from);
    return bits == 8 ? v : _mm256_and_si256(v, _mm256_set1_epi8((char)(((1 << bits) - 1) << to)));
}

// Codes, or signed values, of a quad for 8 rows.
OCT_INLINE __m256i unpack_quad(oct_traits t, const uint8_t *low, const uint8_t *high, __m256i values,
                               int quad, int half)
{
    __m256i code = plane_quad(low, t.low_bits, quad, half, 0);
    if (t.high_bits > 0)
        code = _mm256_or_si256(code, plane_quad(high, t.high_bits, quad, half, t.low_bits));
    if (t.codebook)
        return _mm256_shuffle_epi8(values, code);
    return t.low_bits == 8 ? _mm256_xor_si256(code, values) : code;
}

// Quads of a group that fit into int16 without overflow.
OCT_INLINE int quads_that_fit(oct_traits t)
{
    const int bits = t.low_bits + t.high_bits, most = 2 * ((1 << bits) - 1) * 127, quads = t.group / 4;
    if (t.codebook || bits == 8)
        return 1;
    return 32767 / most > quads ? quads : 32767 / most;
}

// Takes the integer sums of one group of 8 rows into one column's accumulator.
OCT_INLINE __m256 add_group(oct_traits t, scales8 s, __m256i sum, __m256 sum_x, __m256 scale_x,
                            __m256 accumulator)
{
    __m256 whole = _mm256_cvtepi32_ps(sum);
    if (t.zero > 0 && quads_that_fit(t) > 1)
        whole = _mm256_fnmadd_ps(_mm256_set1_ps((float)t.zero), sum_x, whole);
    accumulator = _mm256_fmadd_ps(_mm256_mul_ps(s.scale, scale_x), whole, accumulator);
    if (oct_traits_minimum(t))
        accumulator = _mm256_fmadd_ps(_mm256_mul_ps(s.minimum, scale_x), sum_x, accumulator);
    return accumulator;
}

// Adds one unit (32 columns) of a tile to the accumulators of N columns; both halves of the tile at once, so
// that an input is broadcast once. `values` is the codebook less its zero point, or 128 in every byte for
// 8-bit codes.
OCT_INLINE void add_unit(oct_traits t, int N, const uint8_t *block, const uint8_t *low, const uint8_t *high,
                         int u, __m256i values, inputs x, __m256 accumulator[2][BLOCK])
{
    const int quads = t.group / 4, groups = OCT_UNIT_COLUMNS / t.group, fits = quads_that_fit(t);
    const bool with_sign = fits == 1;
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL
    for (int group = 0; group < groups; group++) {
        __m256i sum[2][BLOCK], part[2][BLOCK];
        UNROLL
        for (int i = 0; i < quads; i++) {
            __m256i code[2], size[2];
            UNROLL
            for (int h = 0; h < 2; h++) {
                code[h] = unpack_quad(t, low, high, values, group * quads + i, h);
                size[h] = with_sign ? _mm256_abs_epi8(code[h]) : code[h];
            }
            UNROLL
            for (int c = 0; c < N; c++) {
                int32_t four;
                memcpy(&four, x.codes + c * OCT_UNIT_COLUMNS + (group * quads + i) * 4, sizeof four);
                __m256i input = _mm256_set1_epi32(four);
                UNROLL
                for (int h = 0; h < 2; h++) {
                    __m256i signed_input = with_sign ? _mm256_sign_epi8(input, code[h]) : input;
                    __m256i product = _mm256_maddubs_epi16(size[h], signed_input);
                    part[h][c] = i % fits == 0 ? product : _mm256_add_epi16(part[h][c], product);
                    if (i % fits == fits - 1) {
                        __m256i wide = _mm256_madd_epi16(part[h][c], ones);
                        sum[h][c] = i < fits ? wide : _mm256_add_epi32(sum[h][c], wide);
                    }
                }
            }
        }
        UNROLL
        for (int h = 0; h < 2; h++) {
            scales8 s = load_scales(t, block, u * groups + group, h);
            UNROLL
            for (int c = 0; c < N; c++) {
                const oct_activation_group *input = x.groups + c;
                const int32_t sum_x = t.group == 16 ? input->half_sums[group] : input->sum;
                accumulator[h][c] = add_group(t, s, sum[h][c], _mm256_set1_ps((float)sum_x),
                                              _mm256_broadcast_ss(&input->scale), accumulator[h][c]);
            }
        }
    }
}

// One strip for N columns.
OCT_INLINE void dot_strip(oct_traits t, int N, const oct_dot *dot, const uint8_t *block, __m256i values,
                          inputs x, int32_t panel, float *out)
{
    _Alignas(32) float stack[OCT_MAX_NODES][BLOCK][OCT_TILE_ROWS];
    const int low_bytes = oct_plane_bytes(t.low_bits, OCT_UNIT_COLUMNS);
    const int high_bytes = oct_plane_bytes(t.high_bits, OCT_UNIT_COLUMNS);
    const size_t level = (size_t)N * OCT_TILE_ROWS;
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        __m256 accumulator[2][BLOCK];
        for (int c = 0; c < N; c++)
            accumulator[0][c] = accumulator[1][c] = _mm256_setzero_ps();
        const int64_t begin = dot->granules[g].begin, end = begin + oct_pad_columns(dot->granules[g].end - begin);
        for (int64_t at = begin; at < end;) {
            int n = oct_block_columns(at, end);
            const uint8_t *low = block + oct_traits_scale_bytes(t, n);
            const uint8_t *high = low + oct_plane_bytes(t.low_bits, n);
            for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
                for (int i = 0; i < low_bytes + high_bytes; i += 64)
                    oct_prefetch(low + PREFETCH_BYTES + i);
                add_unit(t, N, block, low, high, u, values, x, accumulator);
                low += low_bytes;
                high += high_bytes;
                x.codes += panel * OCT_UNIT_COLUMNS;
                x.groups += panel;
            }
            block += oct_traits_block_bytes(t, n);
            at += n;
        }
        UNROLL
        for (int i = 0; i < 2 * N; i++) { // [column][half]
            float *place = stack[0][0] + (size_t)top * level + i * 8;
            _mm256_storeu_ps(place - (size_t)dot->merges[g] * level,
                             oct_avx2_merge(place, level, dot->merges[g], accumulator[i % 2][i / 2]));
        }
        top += 1 - dot->merges[g];
    }
    oct_tree_store(dot, stack[0][0], level, OCT_TILE_ROWS, N, out);
}

// Where the first unit of the first granule stands for the columns from `begin` on.
OCT_INLINE inputs find_inputs(const oct_dot *dot, int32_t begin)
{
    const int64_t unit = oct_activation_unit(dot->x, dot->x_offset / OCT_UNIT_COLUMNS, begin);
    return (inputs){dot->x->codes + unit * OCT_UNIT_COLUMNS, dot->x->groups + unit};
}

// The strips [s, last) for N columns from `begin` on.
OCT_INLINE void dot_strips(oct_traits t, int N, const oct_dot *dot, __m256i values, int32_t s, int32_t last,
                           int32_t begin)
{
    const inputs x = find_inputs(dot, begin);
    const int32_t panel = oct_panel_columns(dot->x, begin);
    for (; s < last; s++)
        dot_strip(t, N, dot, dot->weights + (size_t)s * dot->strip_bytes, values, x, panel,
                  dot->out + (size_t)begin * dot->out_stride + (size_t)s * OCT_TILE_ROWS);
}

OCT_INLINE void dot_int8(const oct_dot *dot, oct_encoding encoding, oct_traits t)
{
    __m256i values = _mm256_set1_epi8((char)128);
    if (t.codebook) {
        __m128i book = _mm_loadu_si128((const __m128i *)oct_encoding_describe(encoding)->codebook);
        values = _mm256_broadcastsi128_si256(_mm_sub_epi8(book, _mm_set1_epi8((char)t.zero)));
    }
    const int32_t together = dot->x->columns > BLOCK ? oct_strips_together(dot->strip_bytes) : dot->strips;
    for (int32_t s = 0; s < dot->strips; s += together) {
        int32_t last = dot->strips - s < together ? dot->strips : s + together, begin = 0;
        for (; dot->x->columns - begin >= BLOCK; begin += BLOCK)
            dot_strips(t, BLOCK, dot, values, s, last, begin);
        if (dot->x->columns - begin == 3)
            dot_strips(t, 3, dot, values, s, last, begin);
        else if (dot->x->columns - begin == 2)
            dot_strips(t, 2, dot, values, s, last, begin);
        else if (dot->x->columns - begin == 1)
            dot_strips(t, 1, dot, values, s, last, begin);
    }
}

#define DEFINE(encoding, name, ...)                                                                          \
    static void dot_##name(const oct_dot *dot)                                                               \
    {                                                                                                        \
        dot_int8(dot, encoding, (oct_traits){__VA_ARGS__});                                                  \
    }
OCT_INTEGER_ENCODINGS(DEFINE)

void oct_avx2_fill_dots(oct_cpu_kernels *table)
{
#define FILL(encoding, name, ...) table->dot[encoding] = dot_##name;
    OCT_INTEGER_ENCODINGS(FILL)
}
