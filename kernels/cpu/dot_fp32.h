// The fp32 form of the dot products (--activations fp32, for comparisons with other programs): weights are
// decoded as oct_strip_decode_row() does, a unit of 32 columns at a time, and every column takes one fmaf.
// One body for all instruction sets: each table compiles it with its own
// flags, and the loops over 16 rows become vectors.
#ifndef OCT_KERNELS_CPU_DOT_FP32_H
#define OCT_KERNELS_CPU_DOT_FP32_H

#include <math.h>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/scalar_unit.h"
#include "kernels/cpu/tree_stack.h"

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

// Columns of a pass at most: a chunk of a prompt, so that each weight is decoded once for it. Their accumulators
// [column][row] are a level of the stack.
enum { OCT_FP32_COLUMNS = 128 };
typedef float oct_fp32_sums[OCT_TILE_ROWS];

// sum[c][row] += the unit's 32 products of each column begin + c, whose inputs begin at absolute place `at` of x.
OCT_INLINE void oct_fp32_multiply(const oct_activations *activations, oct_decoded_unit w, int64_t at, int32_t begin,
                                  int32_t columns, oct_fp32_sums *sum)
{
    for (int32_t c = 0; c < columns; c++) {
        const int64_t unit = oct_activation_unit(activations, at / OCT_UNIT_COLUMNS, begin + c);
        const float *x = activations->f32 + unit * OCT_UNIT_COLUMNS;
        float accumulator[OCT_TILE_ROWS];
        memcpy(accumulator, sum[c], sizeof accumulator);
        for (int k = 0; k < OCT_UNIT_COLUMNS; k++)
            for (int row = 0; row < OCT_TILE_ROWS; row++)
                accumulator[row] = fmaf(w[k][row], x[k], accumulator[row]);
        memcpy(sum[c], accumulator, sizeof accumulator);
    }
}

// The block of n columns at `block`, whose inputs begin at place `at` of x.
OCT_INLINE void oct_fp32_add_block(const oct_dot *dot, oct_encoding encoding, oct_traits t, const uint8_t *block, int n,
                                   int64_t at, int32_t begin, int32_t columns, oct_fp32_sums *sum)
{
    const int float_bytes = encoding == OCT_F32 ? 4 : 2;
    for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
        oct_decoded_unit w;
        if (t.scale == OCT_SCALE_NONE)
            oct_fp32_decode_float(w, encoding, block + u * OCT_UNIT_COLUMNS * OCT_TILE_ROWS * float_bytes);
        else
            oct_fp32_decode_integer(w, t, oct_encoding_describe(encoding)->codebook, block, n, u);
        oct_fp32_multiply(dot->x, w, at + u * OCT_UNIT_COLUMNS, begin, columns, sum);
    }
}

// Strip s for the columns [begin, begin + columns).
OCT_INLINE void oct_fp32_dot_strip(const oct_dot *dot, oct_encoding encoding, oct_traits t, int32_t s, int32_t begin,
                                   int32_t columns)
{
    _Alignas(64) oct_fp32_sums stack[OCT_MAX_NODES * OCT_FP32_COLUMNS];
    const size_t level = (size_t)columns * OCT_TILE_ROWS;
    const uint8_t *block = dot->weights + (size_t)s * dot->strip_bytes;
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        const oct_column_run *granule = &dot->granules[g];
        const int64_t end = granule->begin + oct_pad_columns(granule->end - granule->begin);
        oct_fp32_sums *sum = stack + top * columns;
        memset(sum, 0, level * sizeof(float));
        for (int64_t at = granule->begin; at < end;) {
            const int n = oct_block_columns(at, end);
            oct_fp32_add_block(dot, encoding, t, block, n, dot->x_offset + at - dot->granules[0].begin, begin, columns,
                               sum);
            block += oct_block_bytes(encoding, n);
            at += n;
        }
        top = oct_tree_merge(stack[0], level, top + 1, dot->merges[g]);
    }
    oct_tree_store(dot, stack[0], level, OCT_TILE_ROWS, columns,
                   dot->out + (size_t)begin * dot->out_stride + (size_t)s * OCT_TILE_ROWS);
}

OCT_INLINE void oct_fp32_dot(const oct_dot *dot, oct_encoding encoding, oct_traits t)
{
    for (int32_t s = 0; s < dot->strips; s++)
        for (int32_t begin = 0; begin < dot->x->columns; begin += OCT_FP32_COLUMNS) {
            const int32_t left = dot->x->columns - begin;
            oct_fp32_dot_strip(dot, encoding, t, s, begin, left < OCT_FP32_COLUMNS ? left : OCT_FP32_COLUMNS);
        }
}

// Defines static functions dot_fp32_NAME and, with them, FILL(table).
#define OCT_FP32_DEFINE_INTEGER(encoding, name, ...)                                                         \
    static void dot_fp32_##name(const oct_dot *dot)                                                          \
    {                                                                                                        \
        oct_fp32_dot(dot, encoding, (oct_traits){__VA_ARGS__});                                              \
    }
#define OCT_FP32_DEFINE_FLOAT(encoding, name)                                                                \
    static void dot_fp32_##name(const oct_dot *dot)                                                          \
    {                                                                                                        \
        oct_fp32_dot(dot, encoding, (oct_traits){.scale = OCT_SCALE_NONE});                                  \
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
