// The arithmetic of placement: every rank gets cores of its own where there are enough, never outside its
// mask.
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/placement_plan.h"
#include "ranks/placement_topology.h"

enum { RANKS_MAX = 16 };

// A host with `cores` cores of `width` hardware threads; the second threads are numbered after all first
// ones.
static void make_host(oct_topology *topology, int cores, int width)
{
    topology->count = 0;
    for (int core = 0; core < cores; core++) {
        for (int way = 0; way < width; way++) {
            topology->cpu[topology->count] = way * cores + core;
            topology->core[topology->count++] = core;
        }
    }
}

static oct_cpus cpu_range(int first, int last)
{
    oct_cpus cpus = {{0}};
    for (int cpu = first; cpu <= last; cpu++)
        oct_cpus_add(&cpus, cpu);
    return cpus;
}

static bool inside(const oct_cpus *part, const oct_cpus *mask)
{
    for (int i = 0; i < OCT_CPU_WORDS; i++)
        if (part->word[i] & ~mask->word[i])
            return false;
    return true;
}

static void common_mask_is_split_evenly(void **state)
{
    (void)state;
    static oct_topology topology;
    for (int cores = 1; cores <= 12; cores++) {
        for (int width = 1; width <= 2; width++) {
            make_host(&topology, cores, width);
            for (int ranks = 1; ranks <= RANKS_MAX; ranks++) {
                oct_cpus masks[RANKS_MAX];
                int32_t threads[RANKS_MAX] = {0};
                oct_part parts[RANKS_MAX];
                for (int r = 0; r < ranks; r++)
                    masks[r] = cpu_range(0, cores * width - 1);
                bool over = oct_placement_plan(&topology, masks, ranks, threads, 0, parts);
                assert_int_equal(over, ranks > cores);
                int total = 0;
                for (int r = 0; r < ranks; r++) {
                    int low = cores / ranks > 0 ? cores / ranks : 1;
                    assert_in_range(parts[r].cores, low, low + 1);
                    assert_int_equal(parts[r].threads, parts[r].cores);
                    total += parts[r].cores;
                }
                if (ranks <= cores)
                    assert_int_equal(total, cores);
            }
        }
    }
}

static void bound_ranks_keep_their_masks(void **state)
{
    (void)state;
    static oct_topology topology;
    make_host(&topology, 8, 2);
    oct_cpus masks[2] = {cpu_range(2, 3), cpu_range(6, 6)};
    int32_t threads[2] = {0, 0};
    oct_part parts[2];
    assert_false(oct_placement_plan(&topology, masks, 2, threads, 0, parts));
    assert_memory_equal(&parts[0].cpus, &masks[0], sizeof masks[0]);
    assert_memory_equal(&parts[1].cpus, &masks[1], sizeof masks[1]);
    assert_int_equal(parts[0].threads, 2);
    assert_int_equal(parts[1].threads, 1);
}

static void hardware_threads_of_one_core_are_one_core(void **state)
{
    (void)state;
    static oct_topology topology;
    make_host(&topology, 4, 2);
    oct_cpus masks[2] = {cpu_range(0, 0), cpu_range(4, 4)}; // both on core 0
    int32_t threads[2] = {0, 0};
    oct_part parts[2];
    assert_true(oct_placement_plan(&topology, masks, 2, threads, 0, parts));
    assert_true(parts[0].shared && parts[1].shared);
}

static void random_masks_are_respected(void **state)
{
    (void)state;
    static oct_topology topology;
    srand(1);
    for (int turn = 0; turn < 2000; turn++) {
        int cores = 1 + rand() % 12, width = 1 + rand() % 2, ranks = 1 + rand() % 8;
        make_host(&topology, cores, width);
        oct_cpus masks[RANKS_MAX];
        int32_t threads[RANKS_MAX];
        oct_part parts[RANKS_MAX];
        for (int r = 0; r < ranks; r++) {
            memset(&masks[r], 0, sizeof masks[r]);
            oct_cpus_add(&masks[r], rand() % (cores * width));
            for (int cpu = 0; cpu < cores * width; cpu++)
                if (rand() % 2)
                    oct_cpus_add(&masks[r], cpu);
            threads[r] = rand() % 4;
        }
        bool over = oct_placement_plan(&topology, masks, ranks, threads, 0, parts);
        int owner[OCT_CPUS_MAX];
        memset(owner, -1, sizeof owner);
        for (int r = 0; r < ranks; r++) {
            assert_true(parts[r].cores >= 1);
            assert_true(inside(&parts[r].cpus, &masks[r]));
            assert_int_equal(parts[r].threads, threads[r] > 0 ? threads[r] : parts[r].cores);
            if (over)
                continue;
            int32_t cpus[OCT_CPUS_MAX];
            assert_true(oct_placement_pin(&topology, &parts[r], cpus));
            for (int t = 0; t < parts[r].threads; t++) { // on different cores, none of them another thread's
                int32_t core = cpus[t] % cores;
                assert_true(oct_cpus_has(&parts[r].cpus, cpus[t]));
                assert_int_equal(owner[core], -1);
                owner[core] = r;
            }
        }
    }
}

static void asked_threads_and_quota_count(void **state)
{
    (void)state;
    static oct_topology topology;
    make_host(&topology, 8, 2);
    oct_cpus masks[2] = {cpu_range(0, 15), cpu_range(0, 15)};
    int32_t threads[2] = {5, 5}, none[2] = {0, 0};
    oct_part parts[2];
    assert_true(oct_placement_plan(&topology, masks, 2, threads, 0, parts));
    int32_t cpus[16];
    assert_true(oct_placement_pin(&topology, &parts[0], cpus)); // fifth thread: second way of a core
    threads[0] = threads[1] = 9;
    assert_true(oct_placement_plan(&topology, masks, 2, threads, 0, parts));
    assert_false(oct_placement_pin(&topology, &parts[0], cpus));
    assert_false(oct_placement_plan(&topology, masks, 2, none, 4, parts)); // a quota of four CPUs: two each
    assert_int_equal(parts[0].threads, 2);
    assert_true(oct_placement_plan(&topology, masks, 2, none, 1, parts));
    assert_int_equal(parts[1].threads, 1);
}

static void unknown_mask_is_the_host(void **state)
{
    (void)state;
    static oct_topology topology;
    make_host(&topology, 4, 1);
    oct_cpus mask = cpu_range(100, 103);
    int32_t threads = 0;
    oct_part part;
    assert_false(oct_placement_plan(&topology, &mask, 1, &threads, 0, &part));
    assert_int_equal(part.cores, 4);
}

static void sets_are_printed(void **state)
{
    (void)state;
    char text[16];
    oct_cpus cpus = cpu_range(0, 3);
    oct_cpus_add(&cpus, 8);
    oct_cpus_print(&cpus, text, sizeof text);
    assert_string_equal(text, "0-3,8");
    for (int cpu = 10; cpu < 40; cpu += 2)
        oct_cpus_add(&cpus, cpu);
    oct_cpus_print(&cpus, text, sizeof text);
    assert_string_equal(text, "0-3,8,10,12…");
}

static void this_host_has_a_topology(void **state)
{
    (void)state;
    static oct_topology topology;
    oct_cpus mask, known = {{0}};
    oct_topology_read(&topology);
    oct_cpus_allowed(&mask);
    assert_true(topology.count > 0);
    for (int i = 0; i < topology.count; i++)
        oct_cpus_add(&known, topology.cpu[i]);
    assert_true(inside(&mask, &known));
    assert_true(oct_cpu_quota() >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(common_mask_is_split_evenly),
        cmocka_unit_test(bound_ranks_keep_their_masks),
        cmocka_unit_test(hardware_threads_of_one_core_are_one_core),
        cmocka_unit_test(random_masks_are_respected),
        cmocka_unit_test(asked_threads_and_quota_count),
        cmocka_unit_test(unknown_mask_is_the_host),
        cmocka_unit_test(sets_are_printed),
        cmocka_unit_test(this_host_has_a_topology),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
