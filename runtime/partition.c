// Partitions, their cut over ranks and the fixed reduction tree. Pure functions of small integers.
#include "runtime/partition.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

oct_partition oct_partition_make(int32_t units, int32_t unit_size, int32_t max_granules)
{
    assert(units > 0 && unit_size > 0 && max_granules > 0);
    return (oct_partition){
        .units = units, .granules = units < max_granules ? units : max_granules, .unit_size = unit_size};
}

// The middle of a run in the reduction tree: the first half has one leaf more where the run is odd.
static int32_t tree_middle(int32_t begin, int32_t end)
{
    return begin + (end - begin + 1) / 2;
}

// Border in front of `rank`, to the nearest granule.
static int32_t balanced_border(int32_t granules, int32_t ranks, int32_t rank)
{
    return (int32_t)((2 * (int64_t)granules * rank + ranks) / (2 * (int64_t)ranks));
}

oct_run oct_partition_cut(int32_t granules, int32_t ranks, int32_t rank)
{
    assert(granules >= 0 && ranks > 0 && rank >= 0 && rank < ranks);
    if (ranks & (ranks - 1))
        return (oct_run){balanced_border(granules, ranks, rank), balanced_border(granules, ranks, rank + 1)};
    oct_run run = {0, granules};
    for (int32_t half = ranks / 2; half > 0; half /= 2) {
        int32_t middle = tree_middle(run.begin, run.end);
        if (rank & half)
            run.begin = middle;
        else
            run.end = middle;
    }
    return run;
}

oct_run oct_partition_units(const oct_partition *p, int32_t ranks, int32_t rank)
{
    oct_run run = oct_partition_cut(p->granules, ranks, rank);
    return (oct_run){oct_granule_unit(p, run.begin), oct_granule_unit(p, run.end)};
}

static void push(int32_t *nodes, int32_t *depth)
{
    if (++*nodes > *depth)
        *depth = *nodes;
}

static void walk_leaves(oct_tree_schedule *schedule, int32_t begin, int32_t end, oct_run own)
{
    if (end <= own.begin || begin >= own.end)
        return;
    if (end - begin == 1) {
        push(&schedule->nodes, &schedule->depth);
        return;
    }
    int32_t middle = tree_middle(begin, end);
    walk_leaves(schedule, begin, middle, own);
    walk_leaves(schedule, middle, end, own);
    if (begin >= own.begin && end <= own.end) { // a whole subtree of ours: its two halves are on top
        schedule->merges[end - 1 - own.begin]++;
        schedule->nodes--;
    }
}

void oct_tree_schedule_leaves(oct_tree_schedule *schedule, int32_t n, oct_run leaves)
{
    assert(n > 0 && n <= OCT_MAX_GRANULES);
    assert(leaves.begin >= 0 && leaves.begin <= leaves.end && leaves.end <= n);
    memset(schedule, 0, sizeof *schedule);
    schedule->leaves = leaves.end - leaves.begin;
    walk_leaves(schedule, 0, n, leaves);
    assert(schedule->depth <= OCT_MAX_NODES);
}

typedef struct finish_walk {
    oct_tree_finish *finish;
    int32_t stack, ranks, n;
    int32_t rank; // owner of the next leaf
} finish_walk;

static void walk_finish(finish_walk *walk, int32_t begin, int32_t end)
{
    oct_run own = oct_partition_cut(walk->n, walk->ranks, walk->rank);
    while (own.end <= begin)
        own = oct_partition_cut(walk->n, walk->ranks, ++walk->rank);
    oct_tree_finish *finish = walk->finish;
    if (end <= own.end) { // begin lies in `own` because the walk is in order: a published node
        finish->nodes++;
        finish->nodes_of_rank[walk->rank]++;
        push(&walk->stack, &finish->depth);
        return;
    }
    int32_t middle = tree_middle(begin, end);
    walk_finish(walk, begin, middle);
    walk_finish(walk, middle, end);
    finish->merges[finish->nodes - 1]++;
    walk->stack--;
}

void oct_tree_schedule_finish(oct_tree_finish *finish, int32_t n, int32_t ranks)
{
    assert(n > 0 && n <= OCT_MAX_GRANULES && ranks > 0 && ranks <= OCT_MAX_RANKS);
    memset(finish, 0, sizeof *finish);
    finish_walk walk = {.finish = finish, .ranks = ranks, .n = n};
    walk_finish(&walk, 0, n);
    assert(walk.stack == 1);
}
