// Partitions: every cut covers everything once, and every rank count adds the same tree.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/partition.h"

// Non-associative "addition": a hash of the pair, so that any other order gives another value.
static uint64_t join(uint64_t low, uint64_t high)
{
    uint64_t x = low * 0x9e3779b97f4a7c15u + (high ^ 0x165667b19e3779f9u) * 0xd6e8feb86659fd93u;
    return x ^ x >> 29;
}

static uint64_t tree(int begin, int end)
{
    if (end - begin == 1)
        return (uint64_t)begin + 1;
    int middle = begin + (end - begin + 1) / 2;
    return join(tree(begin, middle), tree(middle, end));
}

typedef struct stack {
    uint64_t values[OCT_MAX_RANKS + OCT_MAX_GRANULES];
    int count, deepest;
} stack;

static void push(stack *s, uint64_t value, int merges)
{
    s->values[s->count++] = value;
    if (s->count > s->deepest)
        s->deepest = s->count;
    for (; merges > 0; merges--) {
        assert_true(s->count >= 2);
        s->values[s->count - 2] = join(s->values[s->count - 2], s->values[s->count - 1]);
        s->count--;
    }
}

// What one rank adds and publishes.
static stack add_leaves(int n, oct_run run, int ranks, int expected_nodes)
{
    oct_tree_schedule schedule;
    oct_tree_schedule_leaves(&schedule, n, run);
    assert_int_equal(schedule.leaves, run.end - run.begin);
    stack own = {.count = 0};
    for (int leaf = run.begin; leaf < run.end; leaf++)
        push(&own, (uint64_t)leaf + 1, schedule.merges[leaf - run.begin]);
    assert_int_equal(own.count, schedule.nodes);
    assert_int_equal(own.deepest, schedule.depth);
    assert_int_equal(schedule.nodes, expected_nodes);
    assert_true(schedule.nodes <= ((ranks & (ranks - 1)) ? OCT_MAX_NODES : 1));
    return own;
}

static void check_tree(int n, int ranks)
{
    oct_tree_finish finish;
    oct_tree_schedule_finish(&finish, n, ranks);
    stack whole = {.count = 0};
    int node = 0, next = 0;
    for (int rank = 0; rank < ranks; rank++) {
        oct_run run = oct_partition_cut(n, ranks, rank);
        assert_int_equal(run.begin, next);
        assert_true(run.end >= run.begin && run.end - run.begin <= (n + ranks - 1) / ranks);
        next = run.end;
        stack own = add_leaves(n, run, ranks, finish.nodes_of_rank[rank]);
        for (int i = 0; i < own.count; i++)
            push(&whole, own.values[i], finish.merges[node++]);
    }
    assert_int_equal(next, n);
    assert_int_equal(node, finish.nodes);
    assert_int_equal(whole.count, 1);
    assert_int_equal(whole.deepest, finish.depth);
    assert_true(whole.values[0] == tree(0, n));
}

static void test_trees(void **context)
{
    (void)context;
    for (int n = 1; n <= OCT_MAX_GRANULES; n++)
        for (int ranks = 1; ranks <= OCT_MAX_RANKS; ranks++)
            check_tree(n, ranks);
}

static void test_granules(void **context)
{
    (void)context;
    for (int units = 1; units < 400; units++) {
        oct_partition p = oct_partition_make(units, 16, OCT_MAX_GRANULES);
        assert_int_equal(p.granules, units < 64 ? units : 64);
        assert_int_equal(oct_granule_unit(&p, 0), 0);
        assert_int_equal(oct_granule_unit(&p, p.granules), units);
        for (int g = 0; g < p.granules; g++) {
            int size = oct_granule_unit(&p, g + 1) - oct_granule_unit(&p, g);
            assert_true(size == units / p.granules || size == units / p.granules + 1);
        }
    }
}

static void test_units(void **context)
{
    (void)context;
    oct_partition p = oct_partition_make(9, 64, OCT_MAX_GRANULES); // SmolLM2's heads: 5 + 4
    oct_run first = oct_partition_units(&p, 2, 0), second = oct_partition_units(&p, 2, 1);
    assert_int_equal(first.begin, 0);
    assert_int_equal(first.end, 5);
    assert_int_equal(second.begin, 5);
    assert_int_equal(second.end, 9);
    p = oct_partition_make(1 << 20, 32, OCT_MAX_GRANULES);
    assert_int_equal(oct_partition_units(&p, 4, 3).begin, 3 << 18);
    oct_run none = oct_partition_cut(2, 4, 1); // halves of one leaf: the second is empty
    assert_int_equal(none.begin, none.end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trees), cmocka_unit_test(test_granules),
                                       cmocka_unit_test(test_units)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
