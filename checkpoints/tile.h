// An unpacked tile: 16 rows of a matrix with a byte a code, between an importer that fills it and the packer
// that writes strips of it. Memory for one tile serves every encoding.
#ifndef OCT_CHECKPOINTS_TILE_H
#define OCT_CHECKPOINTS_TILE_H

#include <stdint.h>

#include "runtime/encoding.h"
#include "runtime/status.h"

typedef struct oct_tile {
    oct_encoding encoding;
    int64_t columns;  // padded to 32
    uint32_t *floats; // [16][columns] bits of floating-point weights; f16 and bf16 in the low half
    uint8_t *codes;   // [16][columns] codes of integer weights
    uint16_t
        *scales; // [16][columns / 16] per group (of 16 or 32: the first columns / group entries): f16 bits,
    uint16_t *minima; //   or the factors S and T (S8 as its two's complement byte)
    uint16_t *pair_d; // [16][columns / 256 rounded up] f16 bits of D per 256 columns
    uint16_t *pair_m; // likewise of M
} oct_tile;

// Memory for tiles of up to `columns` columns. LOCAL. Errors: OCT_ERR_MACHINE.
oct_status oct_tile_make(oct_tile *tile, int64_t columns);
void oct_tile_free(oct_tile *tile);

// Starts a tile in an encoding: every weight zero. LOCAL.
void oct_tile_reset(oct_tile *tile, oct_encoding encoding);

// Entries a row of `scales` and `minima`, and of the pairs.
static inline int64_t oct_tile_groups(const oct_tile *tile)
{
    return tile->columns / 16;
}
static inline int64_t oct_tile_pairs(const oct_tile *tile)
{
    return (tile->columns + OCT_BLOCK_COLUMNS - 1) / OCT_BLOCK_COLUMNS;
}

// Writes the strip over the K range [first, last) of the tile, oct_strip_bytes(encoding, first, last). LOCAL.
void oct_tile_pack(const oct_tile *tile, int64_t first, int64_t last, uint8_t *strip);

// Decodes row `row` to fp32: out [columns], the padding included. The same values as oct_strip_decode_row.
void oct_tile_decode_row(const oct_tile *tile, int row, float *out);

// Quantises a row of fp32 weights [columns] into row `row` of a tile whose encoding is bf16, f16, f32, q8,
// q4, q2_k or q2. Rounding: to nearest even for floating point; the others as in checkpoints/quantise.h. LOCAL.
void oct_tile_quantise_row(oct_tile *tile, int row, const float *weights);

#endif
