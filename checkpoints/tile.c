// Unpacked tiles: memory, packing into strips, decoding, quantising.
#include "checkpoints/tile.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/quantise.h"

oct_status oct_tile_make(oct_tile *tile, int64_t columns)
{
    *tile = (oct_tile){.columns = oct_pad_columns(columns)};
    size_t k = (size_t)tile->columns, groups = (size_t)oct_tile_groups(tile),
           pairs = (size_t)oct_tile_pairs(tile);
    tile->floats = calloc(16 * k, sizeof *tile->floats);
    tile->codes = calloc(16 * k, 1);
    tile->scales = calloc(16 * groups, sizeof(uint16_t));
    tile->minima = calloc(16 * groups, sizeof(uint16_t));
    tile->pair_d = calloc(16 * pairs, sizeof(uint16_t));
    tile->pair_m = calloc(16 * pairs, sizeof(uint16_t));
    if (tile->floats && tile->codes && tile->scales && tile->minima && tile->pair_d && tile->pair_m)
        return OCT_OK;
    oct_tile_free(tile);
    return oct_fail(OCT_ERR_MACHINE, "no memory for 16 rows of %lld columns", (long long)columns);
}

void oct_tile_free(oct_tile *tile)
{
    free(tile->floats);
    free(tile->codes);
    free(tile->scales);
    free(tile->minima);
    free(tile->pair_d);
    free(tile->pair_m);
    *tile = (oct_tile){0};
}

void oct_tile_reset(oct_tile *tile, oct_encoding encoding)
{
    size_t k = (size_t)tile->columns, groups = (size_t)oct_tile_groups(tile),
           pairs = (size_t)oct_tile_pairs(tile);
    tile->encoding = encoding;
    if (oct_encoding_describe(encoding)->float_bytes) {
        memset(tile->floats, 0, 16 * k * sizeof *tile->floats);
        return;
    }
    memset(tile->codes, 0, 16 * k);
    memset(tile->scales, 0, 16 * groups * sizeof(uint16_t));
    memset(tile->minima, 0, 16 * groups * sizeof(uint16_t));
    memset(tile->pair_d, 0, 16 * pairs * sizeof(uint16_t));
    memset(tile->pair_m, 0, 16 * pairs * sizeof(uint16_t));
}

static uint8_t *put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    return at + 2;
}

// The scales of a block that begins at column `from` with n columns; returns what follows them.
static uint8_t *pack_scales(const oct_tile *tile, int64_t from, int n, uint8_t *out)
{
    const oct_encoding_info *info = oct_encoding_describe(tile->encoding);
    int64_t stride = oct_tile_groups(tile), pairs = oct_tile_pairs(tile), pair = from / OCT_BLOCK_COLUMNS;
    if (info->scale >= OCT_SCALE_FACTOR_S8)
        for (int row = 0; row < 16; row++)
            out = put16(out, tile->pair_d[row * pairs + pair]);
    if (info->scale >= OCT_SCALE_FACTOR_U8)
        for (int row = 0; row < 16; row++)
            out = put16(out, tile->pair_m[row * pairs + pair]);
    for (int64_t g = from / info->group; g < (from + n) / info->group; g++) {
        const uint16_t *scales = tile->scales + g, *minima = tile->minima + g;
        for (int row = 0; row < 16; row++) {
            uint16_t s = scales[row * stride], t = minima[row * stride];
            if (info->scale <= OCT_SCALE_F16_MIN)
                out = put16(out, s);
            else
                *out++ = (uint8_t)(info->scale == OCT_SCALE_FACTOR_U4 ? s | t << 4 : s);
        }
        for (int row = 0; row < 16 && info->scale == OCT_SCALE_F16_MIN; row++)
            out = put16(out, minima[row * stride]);
        for (int row = 0; row < 16 && info->scale == OCT_SCALE_FACTOR_U8; row++)
            *out++ = (uint8_t)minima[row * stride];
    }
    return out;
}

// One plane: bits [from_bit, from_bit + bits) of each code. Four columns of a row are one 32-bit lane, so
// four fields are shifted at once; a field stays inside its byte.
static uint8_t *pack_plane(const oct_tile *tile, int64_t from, int n, int from_bit, int bits, uint8_t *out)
{
    uint32_t mask = (uint32_t)((1 << bits) - 1) * 0x01010101u;
    int per_vector = 8 / bits;
    for (int quad = 0; quad < n / 4; quad += per_vector, out += 64)
        for (int row = 0; row < 16; row++) {
            const uint8_t *codes = tile->codes + row * tile->columns + from + (int64_t)quad * 4;
            uint32_t lane = 0, word;
            for (int i = 0; i < per_vector; i++) {
                memcpy(&word, codes + i * 4, sizeof word);
                lane |= (word >> from_bit & mask) << (bits * i);
            }
            memcpy(out + row * 4, &lane, sizeof lane);
        }
    return out;
}

static uint8_t *pack_floats(const oct_tile *tile, int64_t from, int n, uint8_t *out)
{
    bool wide = tile->encoding == OCT_F32;
    for (int c = 0; c < n; c += wide ? 1 : 2)
        for (int row = 0; row < 16; row++) {
            const uint32_t *bits = tile->floats + row * tile->columns + from + c;
            out = put16(out, (uint16_t)bits[0]);
            out = put16(out, (uint16_t)(wide ? bits[0] >> 16 : bits[1]));
        }
    return out;
}

void oct_tile_pack(const oct_tile *tile, int64_t first, int64_t last, uint8_t *strip)
{
    const oct_encoding_info *info = oct_encoding_describe(tile->encoding);
    int64_t end = first + oct_pad_columns(last - first);
    assert(end <= tile->columns);
    while (first < end) {
        int64_t border = (first / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
        int n = (int)((border < end ? border : end) - first);
        if (info->float_bytes) {
            strip = pack_floats(tile, first, n, strip);
        } else {
            strip = pack_scales(tile, first, n, strip);
            strip = pack_plane(tile, first, n, 0, info->low_bits, strip);
            if (info->high_bits)
                strip = pack_plane(tile, first, n, info->low_bits, info->high_bits, strip);
        }
        first += n;
    }
}

// Scale and minimum of group g as fp32; without a minimum −0, so that adding it changes no bit.
static void group_scale(const oct_tile *tile, int row, int64_t g, float *scale, float *minimum)
{
    const oct_encoding_info *info = oct_encoding_describe(tile->encoding);
    uint16_t s = tile->scales[row * oct_tile_groups(tile) + g],
             t = tile->minima[row * oct_tile_groups(tile) + g];
    int64_t pair = row * oct_tile_pairs(tile) + g * info->group / OCT_BLOCK_COLUMNS;
    float d = oct_f16_to_f32(tile->pair_d[pair]), m = oct_f16_to_f32(tile->pair_m[pair]);
    bool factors = info->scale >= OCT_SCALE_FACTOR_S8;
    *scale = !factors                             ? oct_f16_to_f32(s)
             : info->scale == OCT_SCALE_FACTOR_S8 ? d * (float)(int8_t)s
                                                  : d * (float)s;
    *minimum = info->scale >= OCT_SCALE_FACTOR_U8 ? m * (float)t
               : info->scale == OCT_SCALE_F16_MIN ? oct_f16_to_f32(t)
                                                  : -0.0f;
}

void oct_tile_decode_row(const oct_tile *tile, int row, float *out)
{
    const oct_encoding_info *info = oct_encoding_describe(tile->encoding);
    const uint32_t *floats = tile->floats + row * tile->columns;
    const uint8_t *codes = tile->codes + row * tile->columns;
    float scale = 0, minimum = 0;
    for (int64_t c = 0; c < tile->columns; c++) {
        if (!info->float_bytes) {
            if (c % info->group == 0)
                group_scale(tile, row, c / info->group, &scale, &minimum);
            int value = info->codebook ? info->codebook[codes[c]] : codes[c];
            out[c] = fmaf(scale, (float)(value - info->zero), minimum);
        } else if (tile->encoding == OCT_F32) {
            memcpy(out + c, floats + c, sizeof *out);
        } else {
            uint16_t half = (uint16_t)floats[c];
            out[c] = tile->encoding == OCT_F16 ? oct_f16_to_f32(half) : oct_bf16_to_f32(half);
        }
    }
}

static void quantise_pairs(oct_tile *tile, int row, const float *weights)
{
    uint8_t *codes = tile->codes + row * tile->columns;
    uint16_t *scales = tile->scales + row * oct_tile_groups(tile), *minima = tile->minima + row * oct_tile_groups(tile);
    const int group = oct_encoding_describe(tile->encoding)->group;
    for (int64_t p = 0; p < oct_tile_pairs(tile); p++) {
        const int64_t first = p * OCT_BLOCK_COLUMNS, left = tile->columns - first;
        const int n = left < OCT_BLOCK_COLUMNS ? (int)left : OCT_BLOCK_COLUMNS;
        oct_quantised_pair pair;
        oct_quantise_pair(weights + first, n, group, &pair);
        tile->pair_d[row * oct_tile_pairs(tile) + p] = pair.d;
        tile->pair_m[row * oct_tile_pairs(tile) + p] = pair.m;
        memcpy(codes + first, pair.codes, (size_t)n);
        for (int g = 0; g < n / group; g++) {
            scales[first / group + g] = pair.scales[g];
            minima[first / group + g] = pair.minima[g];
        }
    }
}

void oct_tile_quantise_row(oct_tile *tile, int row, const float *weights)
{
    uint32_t *floats = tile->floats + row * tile->columns;
    switch (tile->encoding) {
    case OCT_F32:
        memcpy(floats, weights, (size_t)tile->columns * sizeof *weights);
        return;
    case OCT_F16:
    case OCT_BF16:
        for (int64_t c = 0; c < tile->columns; c++)
            floats[c] = tile->encoding == OCT_F16 ? oct_f32_to_f16(weights[c]) : oct_f32_to_bf16(weights[c]);
        return;
    case OCT_Q2_K:
    case OCT_Q2:
        quantise_pairs(tile, row, weights);
        return;
    default:
        assert(tile->encoding == OCT_Q8 || tile->encoding == OCT_Q4);
        oct_quantise_groups(weights, tile->columns / 32, tile->encoding == OCT_Q8 ? 8 : 4,
                            tile->codes + row * tile->columns, tile->scales + row * oct_tile_groups(tile));
    }
}
