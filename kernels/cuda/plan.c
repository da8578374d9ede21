// Plans: how K of a matrix is cut into segments, where their weights lie, and the tree that adds their sums.
#include <assert.h>
#include <string.h>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/projection.h"

// Where a run of the tree's leaves stands in the full tree.
typedef struct subtree {
    int32_t begin, end;  // leaves of the tree
    int32_t level, leaf; // 2^level leaves of the full one, from this one on
} subtree;

static subtree half_of(const subtree *s, bool second)
{
    const int32_t middle = s->begin + (s->end - s->begin + 1) / 2;
    return second ? (subtree){middle, s->end, s->level - 1, s->leaf + (1 << (s->level - 1))}
                  : (subtree){s->begin, middle, s->level - 1, s->leaf};
}

// Adds what `own` has below s, and the nodes that are not below another; base: the first leaf that is kept.
static void fill_tree(oct_cuda_plan *plan, const subtree *s, oct_run own, int32_t base, bool is_below_node)
{
    oct_cuda_tree *tree = &plan->tree;
    if (s->end <= own.begin || own.end <= s->begin)
        return;
    if (!is_below_node && own.begin <= s->begin && s->end <= own.end) {
        tree->node_level[plan->nodes] = (uint8_t)s->level;
        tree->node_leaf[plan->nodes++] = (uint8_t)(s->leaf - base);
        is_below_node = true;
    }
    if (s->end - s->begin == 1) { // a leaf above the lowest level: the first of those that could be below it
        tree->segment_at[s->leaf - base] = (uint8_t)(s->begin - own.begin);
        return;
    }
    const subtree first = half_of(s, false), second = half_of(s, true);
    fill_tree(plan, &first, own, base, is_below_node);
    fill_tree(plan, &second, own, base, is_below_node);
}

static void set_tree(oct_cuda_plan *plan, int32_t leaves, oct_run own)
{
    oct_tree_schedule schedule;
    oct_tree_schedule_leaves(&schedule, leaves, own);
    plan->segment_count = schedule.leaves;
    plan->depth = schedule.depth;
    memcpy(plan->merges, schedule.merges, sizeof plan->merges);
    memset(plan->tree.segment_at, OCT_CUDA_NO_SEGMENT, sizeof plan->tree.segment_at);
    plan->nodes = 0;
    if (own.end <= own.begin)
        return;
    subtree root = {0, leaves, 0, 0};
    while (1 << root.level < leaves)
        root.level++;
    for (bool smaller = true; smaller && root.end - root.begin > 1;) { // the smallest that holds all
        const subtree first = half_of(&root, false), second = half_of(&root, true);
        smaller = own.end <= first.end || own.begin >= second.begin;
        root = !smaller ? root : own.end <= first.end ? first : second;
    }
    plan->tree.level = root.level;
    plan->tree.is_full = plan->segment_count == 1 << root.level;
    fill_tree(plan, &root, own, root.leaf, false);
    assert(plan->nodes == schedule.nodes);
}

static void set_encoding(oct_cuda_plan *plan, oct_encoding encoding)
{
    memset(plan, 0, sizeof *plan);
    plan->encoding = oct_cuda_encoding(encoding);
    const uint8_t *levels = oct_encoding_describe(plan->encoding)->codebook;
    for (int i = 0; levels != NULL && i < 16; i++)
        plan->codebook[i / 4] |= (uint32_t)(levels[i] + 1) << i % 4 * 8;
}

static int32_t units_of(int64_t first, int64_t last)
{
    return (int32_t)((last - first + OCT_COLUMN_MULTIPLE - 1) / OCT_COLUMN_MULTIPLE);
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
            .units = units_of(first, last < columns ? last : columns),
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
            .units = units_of(first, last),
            .tile_bytes = (uint32_t)strip_bytes,
            .offset = offset,
        };
        offset += (uint64_t)oct_tile_count(rows) * strip_bytes;
    }
}
