// Unpacking of one unit (16 rows × 32 columns) of an integer block, in plain C: shared by the scalar kernels
// and by the fp32 form of every table.
#ifndef OCT_KERNELS_CPU_SCALAR_UNIT_H
#define OCT_KERNELS_CPU_SCALAR_UNIT_H

#include <string.h>

#include "kernels/cpu/traits.h"

typedef struct oct_unit {
    int16_t values[OCT_UNIT_QUADS][OCT_TILE_ROWS][4]; // value(code) − zero
    float scale[2][OCT_TILE_ROWS];                    // of the unit's one or two groups
    float minimum[2][OCT_TILE_ROWS]; // −0 where the encoding has none: adding it changes no bit
} oct_unit;

OCT_INLINE float oct_load_f16(const uint8_t *at)
{
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return oct_f16_to_f32(half);
}

// Scale and minimum of a row in group `group` of a block.
OCT_INLINE void oct_unit_scale(oct_traits t, const uint8_t *block, int group, int row, float *scale,
                               float *minimum)
{
    const uint8_t *factors;
    *minimum = -0.0f;
    switch (t.scale) {
    case OCT_SCALE_F16:
        *scale = oct_load_f16(block + group * 32 + row * 2);
        break;
    case OCT_SCALE_F16_MIN:
        *scale = oct_load_f16(block + group * 64 + row * 2);
        *minimum = oct_load_f16(block + group * 64 + 32 + row * 2);
        break;
    case OCT_SCALE_FACTOR_S8:
        *scale = oct_load_f16(block + row * 2) * (float)(int8_t)block[32 + group * 16 + row];
        break;
    case OCT_SCALE_FACTOR_U8:
        factors = block + 64 + group * 32 + row;
        *scale = oct_load_f16(block + row * 2) * (float)factors[0];
        *minimum = oct_load_f16(block + 32 + row * 2) * (float)factors[16];
        break;
    case OCT_SCALE_FACTOR_U4:
        factors = block + 64 + group * 16 + row;
        *scale = oct_load_f16(block + row * 2) * (float)(factors[0] & 15);
        *minimum = oct_load_f16(block + 32 + row * 2) * (float)(factors[0] >> 4);
        break;
    case OCT_SCALE_NONE:
        *scale = 1.0f;
        break;
    }
}

// The field of `bits` bits that a plane holds for column `j` of quad `quad` in row `row`.
OCT_INLINE int oct_plane_field(const uint8_t *plane, int bits, int quad, int row, int j)
{
    int share = 8 / bits;
    int byte = plane[quad / share * OCT_VECTOR_BYTES + row * 4 + j];
    return byte >> (quad % share * bits) & ((1 << bits) - 1);
}

// Unpacks unit u of a block of n columns.
OCT_INLINE void oct_unit_unpack(oct_unit *unit, oct_traits t, const uint8_t *codebook, const uint8_t *block,
                                int n, int u)
{
    const uint8_t *low = block + oct_traits_scale_bytes(t, n);
    const uint8_t *high = low + oct_plane_bytes(t.low_bits, n);
    for (int quad = 0; quad < OCT_UNIT_QUADS; quad++)
        for (int row = 0; row < OCT_TILE_ROWS; row++)
            for (int j = 0; j < 4; j++) {
                int code = oct_plane_field(low, t.low_bits, u * OCT_UNIT_QUADS + quad, row, j);
                if (t.high_bits > 0)
                    code |= oct_plane_field(high, t.high_bits, u * OCT_UNIT_QUADS + quad, row, j)
                            << t.low_bits;
                unit->values[quad][row][j] = (int16_t)((t.codebook ? codebook[code] : code) - t.zero);
            }
    int groups = OCT_UNIT_COLUMNS / t.group;
    for (int group = 0; group < groups; group++)
        for (int row = 0; row < OCT_TILE_ROWS; row++)
            oct_unit_scale(t, block, u * groups + group, row, &unit->scale[group][row],
                           &unit->minimum[group][row]);
}

#endif
