// Where the granules of a matrix lie inside its bytes: the one place that turns a tensor's shape, partition
// and encoding into offsets. See runtime/encoding.h for strips and docs/checkpoint-format.md.
#ifndef OCT_CHECKPOINTS_LAYOUT_H
#define OCT_CHECKPOINTS_LAYOUT_H

#include <stdint.h>

#include "runtime/encoding.h"
#include "runtime/model.h"

// The part of a matrix that a granule holds.
typedef struct oct_extent {
    int64_t first_row, last_row;       // half-open; the last tile may reach past last_row
    int64_t first_column, last_column; // half-open
} oct_extent;

// Rows and columns of granule g of a matrix. LOCAL.
oct_extent oct_granule_extent(const oct_tensor_spec *spec, int32_t g);

// Bytes of granule g in an encoding. LOCAL.
uint64_t oct_granule_bytes(const oct_tensor_spec *spec, oct_encoding encoding, int32_t g);

// Bytes of the whole matrix, and the offsets of its granules: offsets [granules + 1], or NULL. LOCAL.
uint64_t oct_matrix_bytes(const oct_tensor_spec *spec, oct_encoding encoding, uint64_t *offsets);

#endif
