// Partition: how the matrices of a model are cut into granules, granules are dealt to ranks, and partial
// sums are added. Everything here is a function of the model and the number of ranks alone.
//
// Three partitions serve all matrices: the query heads (Q by rows, the attention output along K), the FFN's
// inner columns in units of 32 (gate and up by rows, down along K), and the vocabulary in tiles of 16 rows.
// Granule g of G = min(limit, U) holds the units [gU/G, (g+1)U/G).
#ifndef OCT_RUNTIME_PARTITION_H
#define OCT_RUNTIME_PARTITION_H

#include <stdint.h>

#define OCT_MAX_GRANULES 64             // of matrices that are split along K
#define OCT_MAX_VOCABULARY_GRANULES 128
#define OCT_MAX_RANKS 64                // in one tensor-parallel group
#define OCT_MAX_NODES 16                // nodes that one rank publishes for one reduction

typedef struct oct_partition {
    int32_t units;
    int32_t granules;
    int32_t unit_size; // rows or columns a unit: head_dim, 32 or 16
} oct_partition;

// A half-open run of granules, units, rows, …
typedef struct oct_run {
    int32_t begin, end;
} oct_run;

oct_partition oct_partition_make(int32_t units, int32_t unit_size, int32_t max_granules);

// First unit of granule g (g = granules gives `units`).
static inline int32_t oct_granule_unit(const oct_partition *p, int32_t g)
{
    return (int32_t)((int64_t)g * p->units / p->granules);
}

// The granules of `rank` among `ranks`: for powers of two the halves of the reduction tree, otherwise the
// nearest balanced cut. A run may be empty.
oct_run oct_partition_cut(int32_t granules, int32_t ranks, int32_t rank);

// The same run in units.
oct_run oct_partition_units(const oct_partition *p, int32_t ranks, int32_t rank);

// The reduction tree over n leaves halves a run of n into the first ceil(n / 2) and the rest. A rank that
// owns the leaves [begin, end) adds the whole subtrees inside its run and publishes those nodes, in order.
typedef struct oct_tree_schedule {
    int32_t leaves;                     // of this rank
    int32_t nodes;                      // left on the stack after the last leaf
    int32_t depth;                      // largest number of values on the stack at one time: OCT_MAX_NODES at most
    uint8_t merges[OCT_MAX_GRANULES];   // [leaves] after pushing leaf i: how many times the two top values
                                        // are replaced by (lower + upper)
} oct_tree_schedule;

void oct_tree_schedule_leaves(oct_tree_schedule *schedule, int32_t n, oct_run leaves);

// How the published nodes of all ranks, in order of rank, are added to the root: again a push of each node
// followed by merges[i] additions. nodes_of_rank [ranks] is filled with what each rank publishes.
typedef struct oct_tree_finish {
    int32_t nodes, depth;
    int32_t nodes_of_rank[OCT_MAX_RANKS];
    uint8_t merges[OCT_MAX_RANKS * 2 + OCT_MAX_GRANULES];
} oct_tree_finish;

void oct_tree_schedule_finish(oct_tree_finish *finish, int32_t n, int32_t ranks);

#endif
