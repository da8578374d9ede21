// Plans: how K of a matrix is cut into segments, where their weights lie, and the tree that adds their sums.
#include <string.h>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/projection.h"

static void set_tree(oct_cuda_plan *plan, int32_t leaves, oct_run own)
{
    oct_tree_schedule tree;
    oct_tree_schedule_leaves(&tree, leaves, own);
    plan->segment_count = tree.leaves;
    plan->nodes = tree.nodes;
    plan->depth = tree.depth;
    memcpy(plan->merges, tree.merges, sizeof plan->merges);
}

static void set_encoding(oct_cuda_plan *plan, oct_encoding encoding)
{
    memset(plan, 0, sizeof *plan);
    plan->encoding = oct_cuda_encoding(encoding);
    const uint8_t *levels = oct_encoding_describe(plan->encoding)->codebook;
    for (int i = 0; levels != NULL && i < 16; i++)
        plan->codebook[i / 4] |= (uint32_t)(levels[i] + 1) << i % 4 * 8;
}

void oct_cuda_plan_rows(oct_cuda_plan *plan, oct_encoding encoding, int64_t columns)
{
    set_encoding(plan, encoding);
    const int64_t blocks = (columns + OCT_BLOCK_COLUMNS - 1) / OCT_BLOCK_COLUMNS;
    const int64_t run = (blocks + OCT_CUDA_ROW_SEGMENTS - 1) / OCT_CUDA_ROW_SEGMENTS;
    const int32_t segments = (int32_t)((blocks + run - 1) / run);
    set_tree(plan, segments, (oct_run){0, segments});
    for (int32_t i = 0; i < segments; i++) {
        const int64_t first = i * run * OCT_BLOCK_COLUMNS, last = first + run * OCT_BLOCK_COLUMNS;
        plan->segments[i] = (oct_cuda_segment){
            .first = (int32_t)first,
            .last = (int32_t)(last < columns ? last : columns),
            .unit = (int32_t)(first / OCT_COLUMN_MULTIPLE),
            .tile_bytes = (uint32_t)oct_strip_bytes(plan->encoding, 0, columns),
            .offset = oct_strip_bytes(plan->encoding, 0, first),
        };
    }
}

void oct_cuda_plan_granules(oct_cuda_plan *plan, oct_encoding encoding, int64_t rows, int64_t columns,
                            const oct_partition *partition, oct_run own)
{
    set_encoding(plan, encoding);
    set_tree(plan, partition->granules, own);
    const int64_t begin = (int64_t)oct_granule_unit(partition, own.begin) * partition->unit_size;
    uint64_t offset = 0;
    for (int32_t g = own.begin; g < own.end; g++) {
        const int64_t first = (int64_t)oct_granule_unit(partition, g) * partition->unit_size;
        const int64_t end = (int64_t)oct_granule_unit(partition, g + 1) * partition->unit_size;
        const int64_t last = end < columns ? end : columns;
        const size_t strip_bytes = oct_strip_bytes(plan->encoding, first, last);
        plan->segments[g - own.begin] = (oct_cuda_segment){
            .first = (int32_t)first,
            .last = (int32_t)last,
            .unit = (int32_t)((first - begin) / OCT_COLUMN_MULTIPLE),
            .tile_bytes = (uint32_t)strip_bytes,
            .offset = offset,
        };
        offset += (uint64_t)oct_tile_count(rows) * strip_bytes;
    }
}
