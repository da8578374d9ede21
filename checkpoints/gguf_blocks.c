// Block types of GGUF. Each unpacker says how the codes and scales of one block lie in the file; codes go to
// the tile a byte each, scales as the bits that they are, so nothing is rounded.
#include "checkpoints/gguf_blocks.h"

#include <string.h>

// Numbers of ggml_type in ggml.h.
enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q5_0 = 6,
    GGML_Q5_1 = 7,
    GGML_Q8_0 = 8,
    GGML_Q2_K = 10,
    GGML_Q3_K = 11,
    GGML_Q4_K = 12,
    GGML_Q5_K = 13,
    GGML_Q6_K = 14,
    GGML_IQ4_NL = 20,
    GGML_BF16 = 30,
    GGML_TYPES = 40
};

static const oct_gguf_block_type types[GGML_TYPES] = {
    [GGML_F32] = {"F32", 1, 4, OCT_F32},
    [GGML_F16] = {"F16", 1, 2, OCT_F16},
    [GGML_Q4_0] = {"Q4_0", 32, 18, OCT_Q4},
    [GGML_Q4_1] = {"Q4_1", 32, 20, OCT_Q4_1},
    [GGML_Q5_0] = {"Q5_0", 32, 22, OCT_Q5_0},
    [GGML_Q5_1] = {"Q5_1", 32, 24, OCT_Q5_1},
    [GGML_Q8_0] = {"Q8_0", 32, 34, OCT_Q8},
    [9] = {"Q8_1", 32, 36, -1},
    [GGML_Q2_K] = {"Q2_K", 256, 84, OCT_Q2_K},
    [GGML_Q3_K] = {"Q3_K", 256, 110, OCT_Q3_K},
    [GGML_Q4_K] = {"Q4_K", 256, 144, OCT_Q4_K},
    [GGML_Q5_K] = {"Q5_K", 256, 176, OCT_Q5_K},
    [GGML_Q6_K] = {"Q6_K", 256, 210, OCT_Q6_K},
    [15] = {"Q8_K", 256, 292, -1},
    [16] = {"IQ2_XXS", 256, 66, -1},
    [17] = {"IQ2_XS", 256, 74, -1},
    [18] = {"IQ3_XXS", 256, 98, -1},
    [19] = {"IQ1_S", 256, 50, -1},
    [GGML_IQ4_NL] = {"IQ4_NL", 32, 18, OCT_IQ4_NL},
    [21] = {"IQ3_S", 256, 110, -1},
    [22] = {"IQ2_S", 256, 82, -1},
    [23] = {"IQ4_XS", 256, 136, -1},
    [24] = {"I8", 1, 1, -1},
    [25] = {"I16", 1, 2, -1},
    [26] = {"I32", 1, 4, -1},
    [27] = {"I64", 1, 8, -1},
    [28] = {"F64", 1, 8, -1},
    [29] = {"IQ1_M", 256, 56, -1},
    [GGML_BF16] = {"BF16", 1, 2, OCT_BF16},
    [34] = {"TQ1_0", 256, 54, -1},
    [35] = {"TQ2_0", 256, 66, -1},
    [39] = {"MXFP4", 32, 17, -1},
};

const oct_gguf_block_type *oct_gguf_block_describe(uint32_t type)
{
    return type < GGML_TYPES && types[type].name ? &types[type] : NULL;
}

static uint16_t read16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

// Where the fields of one block go.
typedef struct block_out {
    uint8_t *codes;            // of the block's first column
    uint16_t *scales, *minima; // of the block's first group
    uint16_t *d, *m;           // of its 256 columns
} block_out;

// Nibbles: byte i holds weight i in its low half and weight i + 16 in its high half.
static void unpack_nibbles(const uint8_t *qs, uint8_t *codes)
{
    for (int i = 0; i < 16; i++) {
        codes[i] = qs[i] & 15;
        codes[i + 16] = qs[i] >> 4;
    }
}

// Fifth bits: bit i of a 32-bit word belongs to weight i.
static void add_fifth_bits(const uint8_t *qh, uint8_t *codes)
{
    for (int i = 0; i < 32; i++)
        codes[i] = (uint8_t)(codes[i] | (qh[i / 8] >> (i % 8) & 1) << 4);
}

static void unpack_32(uint32_t type, const uint8_t *in, block_out out)
{
    bool minimum = type == GGML_Q4_1 || type == GGML_Q5_1, fifth = type == GGML_Q5_0 || type == GGML_Q5_1;
    out.scales[0] = read16(in);
    if (minimum)
        out.minima[0] = read16(in + 2);
    in += minimum ? 4 : 2;
    if (type == GGML_Q8_0) {
        for (int i = 0; i < 32; i++)
            out.codes[i] = in[i] ^ 0x80; // int8 + 128
        return;
    }
    unpack_nibbles(in + (fifth ? 4 : 0), out.codes);
    if (fifth)
        add_fifth_bits(in, out.codes);
}

// Two-bit codes of Q2_K and Q3_K: of each 128 weights, weight 32 j + i has bits 2 j of byte i.
static void unpack_two_bits(const uint8_t *qs, uint8_t *codes)
{
    for (int e = 0; e < 256; e++)
        codes[e] = qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
}

static void unpack_q2_k(const uint8_t *in, block_out out)
{
    for (int g = 0; g < 16; g++) {
        out.scales[g] = in[g] & 15;
        out.minima[g] = in[g] >> 4;
    }
    unpack_two_bits(in + 16, out.codes);
    *out.d = read16(in + 80);
    *out.m = read16(in + 82) ^ 0x8000; // the minimum is subtracted
}

static void unpack_q3_k(const uint8_t *in, block_out out)
{
    const uint8_t *hmask = in, *scales = in + 96;
    unpack_two_bits(in + 32, out.codes);
    for (int e = 0; e < 256; e++) // weight 32 j + i of the 256 has bit j of byte i
        out.codes[e] = (uint8_t)(out.codes[e] | (hmask[e % 32] >> (e / 32) & 1) << 2);
    for (int g = 0; g < 16; g++) { // 6-bit scales: low nibbles in 8 bytes, the high pairs in 4
        int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4, high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
        out.scales[g] = (uint8_t)(int8_t)((low | high << 4) - 32);
    }
    *out.d = read16(in + 108);
}

// Eight 6-bit scales and minima in 12 bytes, as in Q4_K and Q5_K.
static void unpack_k_scales(const uint8_t *in, block_out out)
{
    for (int g = 0; g < 4; g++) {
        out.scales[g] = in[g] & 63;
        out.minima[g] = in[g + 4] & 63;
        out.scales[g + 4] = (uint16_t)((in[g + 8] & 15) | in[g] >> 6 << 4);
        out.minima[g + 4] = (uint16_t)(in[g + 8] >> 4 | in[g + 4] >> 6 << 4);
    }
}

static void unpack_q45_k(bool fifth, const uint8_t *in, block_out out)
{
    const uint8_t *qh = in + 16, *qs = in + (fifth ? 48 : 16);
    *out.d = read16(in);
    *out.m = read16(in + 2) ^ 0x8000;
    unpack_k_scales(in + 4, out);
    for (int e = 0; e < 256; e++) { // of each 64 weights the first 32 are low nibbles, the others high ones
        int code = qs[e / 64 * 32 + e % 32] >> (e % 64 / 32 * 4) & 15;
        if (fifth)
            code |= (qh[e % 32] >> (e / 32) & 1) << 4;
        out.codes[e] = (uint8_t)code;
    }
}

static void unpack_q6_k(const uint8_t *in, block_out out)
{
    const uint8_t *ql = in, *qh = in + 128;
    for (int e = 0; e < 256; e++) {
        int half = e / 128, i = e % 128, low = ql[half * 64 + i % 64] >> (i / 64 * 4) & 15;
        out.codes[e] = (uint8_t)(low | (qh[half * 32 + i % 32] >> (i / 32 * 2) & 3) << 4);
    }
    for (int g = 0; g < 16; g++)
        out.scales[g] = in[192 + g];
    *out.d = read16(in + 208);
}

static void unpack_256(uint32_t type, const uint8_t *in, block_out out)
{
    switch (type) {
    case GGML_Q2_K:
        unpack_q2_k(in, out);
        break;
    case GGML_Q3_K:
        unpack_q3_k(in, out);
        break;
    case GGML_Q6_K:
        unpack_q6_k(in, out);
        break;
    default:
        unpack_q45_k(type == GGML_Q5_K, in, out);
    }
}

static void unpack_floats(uint32_t type, const uint8_t *data, int64_t columns, uint32_t *out)
{
    for (int64_t c = 0; c < columns; c++) {
        const uint8_t *at = data + c * (type == GGML_F32 ? 4 : 2);
        out[c] = read16(at) | (type == GGML_F32 ? (uint32_t)read16(at + 2) << 16 : 0);
    }
}

void oct_gguf_unpack_row(uint32_t type, const uint8_t *data, int64_t columns, oct_tile *tile, int row)
{
    const oct_gguf_block_type *block = &types[type];
    const oct_encoding_info *info = oct_encoding_describe(tile->encoding);
    if (info->float_bytes) {
        unpack_floats(type, data, columns, tile->floats + row * tile->columns);
        return;
    }
    for (int64_t c = 0; c < columns; c += block->columns, data += block->bytes) {
        int64_t group = row * oct_tile_groups(tile) + c / info->group;
        int64_t pair = row * oct_tile_pairs(tile) + c / OCT_BLOCK_COLUMNS;
        block_out out = {tile->codes + row * tile->columns + c, tile->scales + group, tile->minima + group,
                         tile->pair_d + pair, tile->pair_m + pair};
        if (block->columns == 32)
            unpack_32(type, data, out);
        else
            unpack_256(type, data, out);
    }
}
