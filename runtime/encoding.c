// Encodings: their properties, sizes and the plain decoder of one row. Owns the table of encodings; the
// layout itself is described in the header, the fast decoders are the kernels'.
#include "runtime/encoding.h"

#include <assert.h>
#include <math.h>
#include <string.h>

// The non-linear 4-bit levels of GGUF's IQ4_NL (ggml-common.h, kvalues_iq4nl), raised by 127.
static const uint8_t iq4_nl_levels[16] = {0,   23,  44,  62,  78,  92,  105, 117,
                                          128, 140, 152, 165, 180, 196, 216, 240};

static const oct_encoding_info table[OCT_ENCODING_COUNT] = {
    [OCT_F32] = {"f32", 4, 0, 0, 0, OCT_SCALE_NONE, 0, NULL},
    [OCT_F16] = {"f16", 2, 0, 0, 0, OCT_SCALE_NONE, 0, NULL},
    [OCT_BF16] = {"bf16", 2, 0, 0, 0, OCT_SCALE_NONE, 0, NULL},
    [OCT_Q8] = {"q8", 0, 8, 0, 32, OCT_SCALE_F16, 128, NULL},
    [OCT_Q4] = {"q4", 0, 4, 0, 32, OCT_SCALE_F16, 8, NULL},
    [OCT_Q4_1] = {"q4_1", 0, 4, 0, 32, OCT_SCALE_F16_MIN, 0, NULL},
    [OCT_Q5_0] = {"q5_0", 0, 4, 1, 32, OCT_SCALE_F16, 16, NULL},
    [OCT_Q5_1] = {"q5_1", 0, 4, 1, 32, OCT_SCALE_F16_MIN, 0, NULL},
    [OCT_IQ4_NL] = {"iq4_nl", 0, 4, 0, 32, OCT_SCALE_F16, 127, iq4_nl_levels},
    [OCT_Q2_K] = {"q2_k", 0, 2, 0, 16, OCT_SCALE_FACTOR_U4, 0, NULL},
    [OCT_Q3_K] = {"q3_k", 0, 2, 1, 16, OCT_SCALE_FACTOR_S8, 4, NULL},
    [OCT_Q4_K] = {"q4_k", 0, 4, 0, 32, OCT_SCALE_FACTOR_U8, 0, NULL},
    [OCT_Q5_K] = {"q5_k", 0, 4, 1, 32, OCT_SCALE_FACTOR_U8, 0, NULL},
    [OCT_Q6_K] = {"q6_k", 0, 4, 2, 16, OCT_SCALE_FACTOR_S8, 32, NULL},
    [OCT_Q2] = {"q2", 0, 2, 0, 32, OCT_SCALE_FACTOR_U4, 0, NULL},
};

const oct_encoding_info *oct_encoding_describe(oct_encoding encoding)
{
    assert((unsigned)encoding < OCT_ENCODING_COUNT);
    return &table[encoding];
}

int oct_encoding_find(const char *name)
{
    for (int i = 0; i < OCT_ENCODING_COUNT; i++)
        if (strcmp(table[i].name, name) == 0)
            return i;
    return -1;
}

static size_t scale_bytes(const oct_encoding_info *info, int n)
{
    size_t groups = info->group ? (size_t)(n / info->group) : 0;
    switch (info->scale) {
    case OCT_SCALE_NONE:
        return 0;
    case OCT_SCALE_F16:
        return groups * 32;
    case OCT_SCALE_F16_MIN:
        return groups * 64;
    case OCT_SCALE_FACTOR_S8:
        return 32 + groups * 16;
    case OCT_SCALE_FACTOR_U8:
        return 64 + groups * 32;
    case OCT_SCALE_FACTOR_U4:
        return 64 + groups * 16;
    }
    return 0;
}

size_t oct_block_bytes(oct_encoding encoding, int n)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    assert(n >= 0 && n % OCT_COLUMN_MULTIPLE == 0 && n <= OCT_BLOCK_COLUMNS);
    if (info->float_bytes)
        return (size_t)n * OCT_TILE_ROWS * (size_t)info->float_bytes;
    return scale_bytes(info, n) + (size_t)n * 2 * (size_t)(info->low_bits + info->high_bits);
}

size_t oct_strip_bytes(oct_encoding encoding, int64_t first, int64_t last)
{
    assert(first >= 0 && first % OCT_COLUMN_MULTIPLE == 0 && last >= first);
    if (last == first)
        return 0;
    int64_t end = first + oct_pad_columns(last - first);
    int64_t head = (first / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS; // first border behind `first`
    if (end <= head)
        return oct_block_bytes(encoding, (int)(end - first));
    int64_t whole = (end - head) / OCT_BLOCK_COLUMNS;
    int64_t tail = (end - head) % OCT_BLOCK_COLUMNS;
    size_t bytes = oct_block_bytes(encoding, (int)(head - first));
    bytes += (size_t)whole * oct_block_bytes(encoding, OCT_BLOCK_COLUMNS);
    return tail ? bytes + oct_block_bytes(encoding, (int)tail) : bytes;
}

static uint16_t read_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static float read_f16(const uint8_t *bytes)
{
    return oct_f16_to_f32(read_u16(bytes));
}

// Field [row][column % 4] of the quad that holds `column`, in a plane of `bits` bits.
static int plane_field(const uint8_t *plane, int bits, int row, int column)
{
    int per_vector = 8 / bits, quad = column / 4;
    uint8_t byte = plane[quad / per_vector * 64 + row * 4 + column % 4];
    return byte >> (bits * (quad % per_vector)) & ((1 << bits) - 1);
}

// Scale and minimum of group g for a row. Without a minimum it is −0, so that adding it changes no bit.
static void group_scale(const oct_encoding_info *info, const uint8_t *block, int g, int row, float *scale,
                        float *minimum)
{
    *minimum = -0.0f;
    switch (info->scale) {
    case OCT_SCALE_NONE:
        *scale = 1;
        break;
    case OCT_SCALE_F16:
        *scale = read_f16(block + g * 32 + row * 2);
        break;
    case OCT_SCALE_F16_MIN:
        *scale = read_f16(block + g * 64 + row * 2);
        *minimum = read_f16(block + g * 64 + 32 + row * 2);
        break;
    case OCT_SCALE_FACTOR_S8:
        *scale = read_f16(block + row * 2) * (float)(int8_t)block[32 + g * 16 + row];
        break;
    case OCT_SCALE_FACTOR_U8:
        *scale = read_f16(block + row * 2) * (float)block[64 + g * 32 + row];
        *minimum = read_f16(block + 32 + row * 2) * (float)block[64 + g * 32 + 16 + row];
        break;
    case OCT_SCALE_FACTOR_U4:
        *scale = read_f16(block + row * 2) * (float)(block[64 + g * 16 + row] & 15);
        *minimum = read_f16(block + 32 + row * 2) * (float)(block[64 + g * 16 + row] >> 4);
        break;
    }
}

static void decode_integer_row(const oct_encoding_info *info, const uint8_t *block, int n, int row, int used,
                               float *out)
{
    const uint8_t *low = block + scale_bytes(info, n);
    const uint8_t *high = low + (size_t)n * 2 * (size_t)info->low_bits;
    float scale = 0, minimum = 0;
    for (int c = 0; c < used; c++) {
        if (c % info->group == 0)
            group_scale(info, block, c / info->group, row, &scale, &minimum);
        int code = plane_field(low, info->low_bits, row, c);
        if (info->high_bits)
            code |= plane_field(high, info->high_bits, row, c) << info->low_bits;
        int value = info->codebook ? info->codebook[code] : code;
        out[c] = fmaf(scale, (float)(value - info->zero), minimum);
    }
}

static void decode_float_row(oct_encoding encoding, const uint8_t *block, int row, int used, float *out)
{
    for (int c = 0; c < used; c++) {
        if (encoding == OCT_F32) {
            const uint8_t *at = block + ((size_t)c * OCT_TILE_ROWS + (size_t)row) * 4;
            uint32_t bits = read_u16(at) | (uint32_t)read_u16(at + 2) << 16;
            memcpy(out + c, &bits, sizeof bits);
            continue;
        }
        uint16_t half = read_u16(block + ((size_t)(c / 2) * OCT_TILE_ROWS + (size_t)row) * 4 + c % 2 * 2);
        out[c] = encoding == OCT_F16 ? oct_f16_to_f32(half) : oct_bf16_to_f32(half);
    }
}

void oct_strip_decode_row(oct_encoding encoding, const void *strip, int64_t first, int64_t last, int row,
                          float *out)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    const uint8_t *block = strip;
    int64_t end = first + oct_pad_columns(last - first);
    for (int64_t at = first; at < last;) {
        int64_t border = (at / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
        int n = (int)((border < end ? border : end) - at);
        int used = last - at < n ? (int)(last - at) : n;
        if (info->float_bytes)
            decode_float_row(encoding, block, row, used, out + (at - first));
        else
            decode_integer_row(info, block, n, row, used, out + (at - first));
        block += oct_block_bytes(encoding, n);
        at += n;
    }
}

float oct_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        float value = (float)mantissa * 0x1p-24f; // exact: at most 10 bits
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Shifts right and rounds to nearest, ties to even. shift is 1…31.
static uint32_t shift_round(uint32_t value, int shift)
{
    uint32_t kept = value >> shift, rest = value & ((1u << shift) - 1), half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t oct_f32_to_f16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    int exponent = (int)(bits >> 23 & 255) - 127;
    uint32_t mantissa = bits & 0x7fffff;
    if (exponent == 128) // infinity; a NaN keeps its upper bits and is made quiet
        return (uint16_t)(sign | 0x7c00 | (mantissa ? 0x200 | mantissa >> 13 : 0));
    if (exponent < -25)
        return sign;
    if (exponent < -14) // the result is subnormal (or rounds up to the smallest normal number)
        return (uint16_t)(sign | shift_round(mantissa | 0x800000, -exponent - 1));
    uint32_t result = shift_round((uint32_t)(exponent + 15) << 23 | mantissa, 13);
    return (uint16_t)(sign | (result > 0x7c00 ? 0x7c00 : result));
}

uint16_t oct_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)shift_round(bits, 16);
}
