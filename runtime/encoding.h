// Encodings: the byte layout of a weight matrix, shared by the checkpoint (which writes it) and the
// kernels (which read it). This header is the only description of it; docs/checkpoint-format.md says the
// same for people who read the file with other programs.
//
// A matrix W [rows, columns] (y = W x, so `columns` is K) is cut into *tiles* of 16 rows, the last one
// padded with zero rows, and along K into *blocks*: the pieces of a K range [first, last) that the
// multiples of 256 (absolute column numbers) cut it into. A block holds 16 rows × n columns, n <= 256 and a
// multiple of 32: a K range that is no multiple of 32 is padded with zero weights at its end.
//
// A *strip* is one tile over one K range: its blocks, one after another. A matrix that is split by rows
// (column-parallel) is its strips over [0, K), tile by tile. A matrix that is split along K (row-parallel)
// is stored granule by granule; each granule is its strips over the granule's K range, tile by tile.
//
// Floating-point blocks:
//   f32          [n][16]                         column by column, a row a lane
//   f16, bf16    [n / 2][16][2]                  pairs of columns, a row a lane
// Integer blocks: weight = scale · (value(code) − zero) + minimum, value(code) = code or codebook[code].
//   1. scales, one of (group = 16 or 32 columns, n / group groups in the block)
//      F16          [groups][16] f16                        scale
//      F16_MIN      [groups][2][16] f16                     scale, minimum
//      FACTOR_S8    [16] f16 D, then [groups][16] int8 S    scale = D · S
//      FACTOR_U8    [2][16] f16 D, M, then [groups][2][16] uint8 S, T    scale = D · S, minimum = M · T
//      FACTOR_U4    [2][16] f16 D, M, then [groups][16] uint8 S | T << 4  likewise
//      (products of an f16 and a factor are exact in fp32; M carries the minimum's sign)
//   2. the low plane of the codes: low_bits of 2, 4 or 8; then
//   3. the high plane: high_bits of 0, 1 or 2; code = low | high << low_bits.
//   A plane of b bits: the columns are taken in quads (4 consecutive columns); a quad of 16 rows is a vector
//   of 64 fields, field [row][column % 4]; 8 / b consecutive quads share 64 bytes: quad i has bits
//   [b · (i mod (8 / b)), …) of byte row · 4 + column % 4 of vector i / (8 / b).
// All numbers are little endian. Sizes follow from these rules; there is no padding between parts.
#ifndef OCT_RUNTIME_ENCODING_H
#define OCT_RUNTIME_ENCODING_H

#include <stddef.h>
#include <stdint.h>

#define OCT_TILE_ROWS 16
#define OCT_BLOCK_COLUMNS 256
#define OCT_COLUMN_MULTIPLE 32

typedef enum oct_encoding {
    OCT_F32,
    OCT_F16,
    OCT_BF16,
    OCT_Q8,     // 8-bit codes, zero 128, groups of 32, scale f16: GGUF Q8_0
    OCT_Q4,     // 4-bit, zero 8, groups of 32, scale f16: Q4_0
    OCT_Q4_1,   // 4-bit, zero 0, groups of 32, scale and minimum f16: Q4_1
    OCT_Q5_0,   // 5-bit, zero 16, groups of 32, scale f16
    OCT_Q5_1,   // 5-bit, zero 0, groups of 32, scale and minimum f16
    OCT_IQ4_NL, // 4-bit through a codebook of 16 values, zero 127, groups of 32, scale f16
    OCT_Q2_K,   // 2-bit, groups of 16, FACTOR_U4
    OCT_Q3_K,   // 3-bit, zero 4, groups of 16, FACTOR_S8
    OCT_Q4_K,   // 4-bit, groups of 32, FACTOR_U8
    OCT_Q5_K,   // 5-bit, groups of 32, FACTOR_U8
    OCT_Q6_K,   // 6-bit, zero 32, groups of 16, FACTOR_S8
    OCT_Q2,     // 2-bit, groups of 32, FACTOR_U4: no GGUF type
    OCT_ENCODING_COUNT
} oct_encoding;

typedef enum oct_scale_kind {
    OCT_SCALE_NONE, // floating-point encodings
    OCT_SCALE_F16,
    OCT_SCALE_F16_MIN,
    OCT_SCALE_FACTOR_S8,
    OCT_SCALE_FACTOR_U8,
    OCT_SCALE_FACTOR_U4
} oct_scale_kind;

typedef struct oct_encoding_info {
    const char *name;        // as printed, and stored in the catalogue
    int float_bytes;         // 4 or 2 for floating-point encodings, 0 for integer ones
    int low_bits, high_bits; // planes of the codes
    int group;               // columns per scale
    oct_scale_kind scale;
    int zero;                // subtracted from value(code)
    const uint8_t *codebook; // [16] values, or NULL: value(code) = code
} oct_encoding_info;

// The properties of an encoding; never NULL for a valid one. LOCAL.
const oct_encoding_info *oct_encoding_describe(oct_encoding encoding);

// The encoding called `name`, or -1. LOCAL.
int oct_encoding_find(const char *name);

// Bytes of a block of 16 rows × n columns (n a multiple of 32). LOCAL.
size_t oct_block_bytes(oct_encoding encoding, int n);

// Bytes of a strip: 16 rows over the K range [first, last) in absolute columns. `last` may be any number: the
// range is padded at its end to a multiple of 32 columns counted from `first`; `first` is a multiple of 32.
size_t oct_strip_bytes(oct_encoding encoding, int64_t first, int64_t last);

// Rounds a number of columns up to the multiple of 32 that strips and activations use.
static inline int64_t oct_pad_columns(int64_t columns)
{
    return (columns + OCT_COLUMN_MULTIPLE - 1) / OCT_COLUMN_MULTIPLE * OCT_COLUMN_MULTIPLE;
}

// Number of tiles of `rows` rows.
static inline int64_t oct_tile_count(int64_t rows)
{
    return (rows + OCT_TILE_ROWS - 1) / OCT_TILE_ROWS;
}

// Decodes one row (0…15) of a strip over [first, last) to fp32: out [last − first]. Exact for floating-point
// encodings; for integer ones fmaf(scale, value − zero, minimum). Used for embeddings, tests and
// re-encoding. LOCAL.
void oct_strip_decode_row(oct_encoding encoding, const void *strip, int64_t first, int64_t last, int row,
                          float *out);

// Conversions with IEEE rounding to nearest even; exact in the other direction.
float oct_f16_to_f32(uint16_t half);
uint16_t oct_f32_to_f16(float value);
static inline float oct_bf16_to_f32(uint16_t value)
{
    union {
        uint32_t bits;
        float number;
    } u = {.bits = (uint32_t)value << 16};
    return u.number;
}
uint16_t oct_f32_to_bf16(float value); // NaN stays a quiet NaN

#endif
