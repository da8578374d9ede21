// The block types of GGUF tensors and their exact transfer into Octet's encodings.
// Layouts: ggml's ggml-common.h (block_q4_0 …) and the dequantisers of ggml-quants.c.
#ifndef OCT_CHECKPOINTS_GGUF_BLOCKS_H
#define OCT_CHECKPOINTS_GGUF_BLOCKS_H

#include <stdint.h>

#include "checkpoints/tile.h"

typedef struct oct_gguf_block_type {
    const char *name; // as ggml prints it
    int columns;      // weights a block
    int bytes;        // bytes a block
    int encoding;     // the oct_encoding that holds it exactly, or −1: known, not supported
} oct_gguf_block_type;

// Describes ggml's block type number `type`; NULL for an unknown number. LOCAL.
const oct_gguf_block_type *oct_gguf_block_describe(uint32_t type);

// Unpacks one row of `columns` weights (whole blocks) into row `row` of a tile that was reset to the type's
// encoding. LOCAL.
void oct_gguf_unpack_row(uint32_t type, const uint8_t *data, int64_t columns, oct_tile *tile, int row);

#endif
