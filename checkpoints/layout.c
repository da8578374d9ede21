// Extents and sizes of granules.
#include "checkpoints/layout.h"

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

oct_extent oct_granule_extent(const oct_tensor_spec *spec, int32_t g)
{
    const oct_partition *p = &spec->partition;
    int64_t first = (int64_t)oct_granule_unit(p, g) * p->unit_size;
    int64_t last = (int64_t)oct_granule_unit(p, g + 1) * p->unit_size;
    if (spec->split == OCT_SPLIT_ROWS)
        return (oct_extent){first, least(last, spec->rows), 0, spec->columns};
    return (oct_extent){0, spec->rows, first, least(last, spec->columns)};
}

uint64_t oct_granule_bytes(const oct_tensor_spec *spec, oct_encoding encoding, int32_t g)
{
    oct_extent e = oct_granule_extent(spec, g);
    return (uint64_t)oct_tile_count(e.last_row - e.first_row) *
           oct_strip_bytes(encoding, e.first_column, e.last_column);
}

uint64_t oct_matrix_bytes(const oct_tensor_spec *spec, oct_encoding encoding, uint64_t *offsets)
{
    uint64_t bytes = 0;
    for (int32_t g = 0; g < spec->partition.granules; g++) {
        if (offsets)
            offsets[g] = bytes;
        bytes += oct_granule_bytes(spec, encoding, g);
    }
    if (offsets)
        offsets[spec->partition.granules] = bytes;
    return bytes;
}
