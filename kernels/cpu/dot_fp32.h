// The fp32 form of the dot products (--activations fp32, for comparisons with other programs): weights are
// decoded as oct_strip_decode_row() does, a unit of 32 columns at a time, and every column takes one fmaf.
// The accumulators live in the output. One body for all instruction sets: each table compiles it with its own
// flags, and the loops over 16 rows become vectors.
#ifndef OCT_KERNELS_CPU_DOT_FP32_H
#define OCT_KERNELS_CPU_DOT_FP32_H

#include <math.h>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/scalar_unit.h"

// One unit decoded: [column][row].
typedef float oct_decoded_unit[OCT_UNIT_COLUMNS][OCT_TILE_ROWS];

OCT_INLINE void oct_fp32_decode_integer(oct_decoded_unit w, oct_traits t, const uint8_t *codebook,
                                        const uint8_t *block, int n, int u)
{
    oct_unit unit;
    oct_unit_unpack(&unit, t, codebook, block, n, u);
    for (int column = 0; column < OCT_UNIT_COLUMNS; column++)
        for (int row = 0; row < OCT_TILE_ROWS; row++)
            w[column][row] =
                fmaf(unit.scale[column / t.group][row], (float)unit.values[column / 4][row][column % 4],
                     unit.minimum[column / t.group][row]);
}

OCT_INLINE void oct_fp32_decode_float(oct_decoded_unit w, oct_encoding encoding, const uint8_t *at)
{
    if (encoding == OCT_F32) {
        memcpy(w, at, sizeof(oct_decoded_unit));
        return;
    }
    for (int column = 0; column < OCT_UNIT_COLUMNS; column++)
        for (int row = 0; row < OCT_TILE_ROWS; row++) {
            uint16_t bits;
            memcpy(&bits, at + ((column / 2 * OCT_TILE_ROWS + row) * 2 + column % 2) * 2, sizeof bits);
            w[column][row] = encoding == OCT_F16 ? oct_f16_to_f32(bits) : oct_bf16_to_f32(bits);
        }
}

// out[c][row] += the unit's 32 products of each column c, whose inputs begin at absolute place `at` of x.
OCT_INLINE void oct_fp32_multiply(const oct_dot *dot, oct_decoded_unit w, int64_t at, float *out)
{
    for (int32_t c = 0; c < dot->x->columns; c++) {
        const float *x = dot->x->f32 + oct_activation_unit(dot->x, at / OCT_UNIT_COLUMNS, c) * OCT_UNIT_COLUMNS;
        float accumulator[OCT_TILE_ROWS];
        float *sum = out + (size_t)c * dot->out_stride;
        memcpy(accumulator, sum, sizeof accumulator);
        for (int k = 0; k < OCT_UNIT_COLUMNS; k++)
            for (int row = 0; row < OCT_TILE_ROWS; row++)
                accumulator[row] = fmaf(w[k][row], x[k], accumulator[row]);
        memcpy(sum, accumulator, sizeof accumulator);
    }
}

OCT_INLINE void oct_fp32_clear(const oct_dot *dot, float *out)
{
    for (int32_t c = 0; c < dot->x->columns; c++)
        memset(out + (size_t)c * dot->out_stride, 0, OCT_TILE_ROWS * sizeof *out);
}

OCT_INLINE void oct_fp32_dot_integer(const oct_dot *dot, oct_encoding encoding, oct_traits t)
{
    const uint8_t *codebook = oct_encoding_describe(encoding)->codebook;
    int64_t end = dot->first + oct_pad_columns(dot->last - dot->first);
    for (int32_t s = 0; s < dot->strips; s++) {
        const uint8_t *block = dot->weights + (size_t)s * dot->strip_bytes;
        float *out = dot->out + (size_t)s * OCT_TILE_ROWS;
        oct_fp32_clear(dot, out);
        for (int64_t at = dot->first; at < end;) {
            int n = oct_block_columns(at, end);
            for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
                oct_decoded_unit w;
                oct_fp32_decode_integer(w, t, codebook, block, n, u);
                oct_fp32_multiply(dot, w, dot->x_offset + at - dot->first + u * OCT_UNIT_COLUMNS, out);
            }
            block += oct_traits_block_bytes(t, n);
            at += n;
        }
    }
}

OCT_INLINE void oct_fp32_dot_float(const oct_dot *dot, oct_encoding encoding)
{
    int64_t columns = oct_pad_columns(dot->last - dot->first);
    size_t unit_bytes = OCT_UNIT_COLUMNS * OCT_TILE_ROWS * (encoding == OCT_F32 ? 4 : 2);
    for (int32_t s = 0; s < dot->strips; s++) {
        const uint8_t *strip = dot->weights + (size_t)s * dot->strip_bytes;
        float *out = dot->out + (size_t)s * OCT_TILE_ROWS;
        oct_fp32_clear(dot, out);
        for (int64_t u = 0; u < columns / OCT_UNIT_COLUMNS; u++) {
            oct_decoded_unit w;
            oct_fp32_decode_float(w, encoding, strip + (size_t)u * unit_bytes);
            oct_fp32_multiply(dot, w, dot->x_offset + u * OCT_UNIT_COLUMNS, out);
        }
    }
}

// Defines static functions dot_fp32_NAME and, with them, FILL(table).
#define OCT_FP32_DEFINE_INTEGER(encoding, name, ...)                                                         \
    static void dot_fp32_##name(const oct_dot *dot)                                                          \
    {                                                                                                        \
        oct_fp32_dot_integer(dot, encoding, (oct_traits){__VA_ARGS__});                                      \
    }
#define OCT_FP32_DEFINE_FLOAT(encoding, name)                                                                \
    static void dot_fp32_##name(const oct_dot *dot)                                                          \
    {                                                                                                        \
        oct_fp32_dot_float(dot, encoding);                                                                   \
    }
#define OCT_FP32_FILL_ENTRY(encoding, name, ...) table->dot_f32[encoding] = dot_fp32_##name;
#define OCT_FP32_DEFINE_FILL(function)                                                                       \
    OCT_INTEGER_ENCODINGS(OCT_FP32_DEFINE_INTEGER)                                                           \
    OCT_FLOAT_ENCODINGS(OCT_FP32_DEFINE_FLOAT)                                                               \
    void function(oct_cpu_kernels *table)                                                                    \
    {                                                                                                        \
        OCT_INTEGER_ENCODINGS(OCT_FP32_FILL_ENTRY)                                                           \
        OCT_FLOAT_ENCODINGS(OCT_FP32_FILL_ENTRY)                                                             \
    }

#endif
