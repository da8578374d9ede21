// Dot products of the scalar table: the int8 form, and the bf16 and fp32 forms of floating-point encodings.
// Written to be read: this file and runtime/encoding.h together are the law. A group's codes are unpacked
// once for up to CHUNK columns; more columns take the strip again, which changes no bits.
#include "kernels/cpu/scalar.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/scalar_unit.h"
#include "kernels/cpu/tree_stack.h"

#define CHUNK 8

typedef struct chunk {
    int32_t column; // first column of x
    int columns;
    float (*accumulator)[OCT_TILE_ROWS]; // [columns]
} chunk;

OCT_INLINE void add_unit(chunk *c, const oct_unit *unit, oct_traits t, const oct_activations *x, int64_t at)
{
    for (int i = 0; i < c->columns; i++) {
        const int64_t place = oct_activation_unit(x, at / OCT_UNIT_COLUMNS, c->column + i);
        const int8_t *codes = x->codes + place * OCT_UNIT_COLUMNS;
        const oct_activation_group *input = x->groups + place;
        float *accumulator = c->accumulator[i];
        for (int group = 0; group < OCT_UNIT_COLUMNS / t.group; group++) {
            int quads = t.group / 4;
            float a = (float)(t.group == 16 ? input->half_sums[group] : input->sum);
            for (int row = 0; row < OCT_TILE_ROWS; row++) {
                int32_t sum = 0;
                for (int quad = group * quads; quad < (group + 1) * quads; quad++)
                    for (int j = 0; j < 4; j++)
                        sum += unit->values[quad][row][j] * codes[quad * 4 + j];
                accumulator[row] = fmaf(unit->scale[group][row] * input->scale, (float)sum, accumulator[row]);
                if (oct_traits_minimum(t))
                    accumulator[row] = fmaf(unit->minimum[group][row] * input->scale, a, accumulator[row]);
            }
        }
    }
}

// A strip for the columns of a chunk.
OCT_INLINE void dot_strip(const oct_dot *dot, oct_traits t, const uint8_t *codebook, int32_t s, chunk c)
{
    const uint8_t *block = dot->weights + (size_t)s * dot->strip_bytes;
    const int64_t origin = dot->granules[0].begin;
    float stack[OCT_MAX_NODES][CHUNK][OCT_TILE_ROWS];
    for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
        const int64_t begin = dot->granules[g].begin, end = begin + oct_pad_columns(dot->granules[g].end - begin);
        c.accumulator = stack[top];
        memset(stack[top], 0, sizeof stack[top]);
        for (int64_t at = begin; at < end;) {
            int n = oct_block_columns(at, end);
            for (int u = 0; u < n / OCT_UNIT_COLUMNS; u++) {
                oct_unit unit;
                oct_unit_unpack(&unit, t, codebook, block, n, u);
                add_unit(&c, &unit, t, dot->x, dot->x_offset + at - origin + u * OCT_UNIT_COLUMNS);
            }
            block += oct_traits_block_bytes(t, n);
            at += n;
        }
        top = oct_tree_merge(stack[0][0], CHUNK * OCT_TILE_ROWS, top + 1, dot->merges[g]);
    }
    oct_tree_store(dot, stack[0][0], CHUNK * OCT_TILE_ROWS, OCT_TILE_ROWS, c.columns,
                   dot->out + (size_t)c.column * dot->out_stride + (size_t)s * OCT_TILE_ROWS);
}

OCT_INLINE void dot_int8(const oct_dot *dot, oct_traits t, const uint8_t *codebook)
{
    for (int32_t s = 0; s < dot->strips; s++)
        for (int32_t begin = 0; begin < dot->x->columns; begin += CHUNK) {
            const int32_t left = dot->x->columns - begin;
            dot_strip(dot, t, codebook, s, (chunk){.column = begin, .columns = left < CHUNK ? left : CHUNK});
        }
}

// Element k of column c of the part of x that belongs to the dot's granules.
OCT_INLINE int64_t place_of(const oct_dot *dot, int64_t k, int32_t c)
{
    const int64_t at = dot->x_offset + k;
    return oct_activation_unit(dot->x, at / OCT_UNIT_COLUMNS, c) * OCT_UNIT_COLUMNS + at % OCT_UNIT_COLUMNS;
}

// weights [pairs][16][2] of f16 or bf16 from `begin` on, x rounded to bf16: the odd product of a pair first.
OCT_INLINE void add_pairs(const oct_dot *dot, float (*decode)(uint16_t), const uint8_t *strip, int64_t begin,
                          int64_t end, int32_t c, float sum[OCT_TILE_ROWS])
{
    const uint16_t *weights = (const uint16_t *)strip;
    for (int row = 0; row < OCT_TILE_ROWS; row++) {
        float accumulator = 0.0f;
        for (int64_t k = begin; k < end; k += 2) {
            const uint16_t *pair = weights + k * OCT_TILE_ROWS + row * 2;
            const float *x = dot->x->rounded + place_of(dot, k, c);
            accumulator = fmaf(decode(pair[1]), x[1], accumulator);
            accumulator = fmaf(decode(pair[0]), x[0], accumulator);
        }
        sum[row] = accumulator;
    }
}

// weights [columns][16] of f32.
static void add_f32(const oct_dot *dot, const uint8_t *strip, int64_t begin, int64_t end, int32_t c,
                    float sum[OCT_TILE_ROWS])
{
    const float *weights = (const float *)strip;
    for (int row = 0; row < OCT_TILE_ROWS; row++) {
        float accumulator = 0.0f;
        for (int64_t k = begin; k < end; k++)
            accumulator = fmaf(weights[k * OCT_TILE_ROWS + row], dot->x->f32[place_of(dot, k, c)], accumulator);
        sum[row] = accumulator;
    }
}

// decode: of a weight of 16 bits; NULL: weights are f32.
OCT_INLINE void dot_float(const oct_dot *dot, float (*decode)(uint16_t))
{
    for (int32_t s = 0; s < dot->strips; s++)
        for (int32_t c = 0; c < dot->x->columns; c++) {
            const uint8_t *strip = dot->weights + (size_t)s * dot->strip_bytes;
            float stack[OCT_MAX_NODES][OCT_TILE_ROWS];
            for (int32_t g = 0, top = 0; g < dot->granule_count; g++) {
                const int64_t begin = dot->granules[g].begin - dot->granules[0].begin;
                const int64_t end = begin + oct_pad_columns(dot->granules[g].end - dot->granules[g].begin);
                if (decode != NULL)
                    add_pairs(dot, decode, strip, begin, end, c, stack[top]);
                else
                    add_f32(dot, strip, begin, end, c, stack[top]);
                top = oct_tree_merge(stack[0], OCT_TILE_ROWS, top + 1, dot->merges[g]);
            }
            oct_tree_store(dot, stack[0], OCT_TILE_ROWS, OCT_TILE_ROWS, 1,
                           dot->out + (size_t)c * dot->out_stride + (size_t)s * OCT_TILE_ROWS);
        }
}

static void dot_bf16(const oct_dot *dot)
{
    dot_float(dot, oct_bf16_to_f32);
}

static void dot_f16(const oct_dot *dot)
{
    dot_float(dot, oct_f16_to_f32);
}

static void dot_f32(const oct_dot *dot)
{
    dot_float(dot, NULL);
}

#define DEFINE(encoding, name, ...)                                                                          \
    static void dot_##name(const oct_dot *dot)                                                               \
    {                                                                                                        \
        dot_int8(dot, (oct_traits){__VA_ARGS__}, oct_encoding_describe(encoding)->codebook);                 \
    }
OCT_INTEGER_ENCODINGS(DEFINE)

void oct_scalar_fill_dots(oct_cpu_kernels *table)
{
#define FILL(encoding, name, ...) table->dot[encoding] = dot_##name;
    OCT_INTEGER_ENCODINGS(FILL)
    OCT_FLOAT_ENCODINGS(FILL)
}
