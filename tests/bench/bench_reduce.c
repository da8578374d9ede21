// What a reduction between the ranks of a host costs beside the least that it could: the exchange, the end of the tree
// and the residual add of one column, against a hand-made loop over a shared window (two slots a rank in turn, a
// sequence number with release and acquire, one addition a rank). Both in one run, alternating, medians of 9 repeats; a
// repeat is some thousands of rounds. Both begin by writing the rank's contribution to the window.
//
//   mpirun -np 2 bench_reduce [FLOATS …]      576 and 4096 by default
//
// Leaves with 1 where the two do not give the same bits.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/executor.h"
#include "ranks/exchange.h"
#include "ranks/host_memory.h"
#include "ranks/wait.h"
#include "runtime/bandwidth.h"
#include "tests/bench/rounds.h"

enum { REPEATS = 9, LINE = 128 };

// A rank's part of the hand-made window.
typedef struct window {
    _Alignas(LINE) _Atomic uint64_t round;
    _Alignas(LINE) float slots[];
} window;

typedef struct bench {
    oct_world world;
    int64_t floats;
    float *contribution, *residual, *plain_residual;
    oct_exchange exchange;
    oct_tree_finish finish;
    oct_step step;
    oct_cpu_backend backend;
    oct_host_memory memory;
    uint64_t plain_round;
} bench;

static void reduce(void *context)
{
    bench *b = context;
    oct_reduction reduction;
    oct_cpu_plan_reduction(&b->backend, &b->finish, b->floats, 0, 1, &reduction);
    memcpy(oct_cpu_part_nodes(&b->backend, &reduction, 0, 0), b->contribution, (size_t)b->floats * sizeof(float));
    oct_cpu_publish_part(&b->backend, &reduction, 0, 0);
    oct_cpu_reduce(&b->backend, &reduction, 0);
}

static void reduce_by_hand(void *context)
{
    bench *b = context;
    const int64_t n = b->floats, at = (int64_t)(b->plain_round & 1) * n;
    window *own = oct_host_memory_part(&b->memory, b->world.host_rank);
    window *other = oct_host_memory_part(&b->memory, 1 - b->world.host_rank);
    memcpy(own->slots + at, b->contribution, (size_t)n * sizeof(float));
    const uint64_t round = ++b->plain_round;
    atomic_store_explicit(&own->round, round, memory_order_release);
    while (atomic_load_explicit(&other->round, memory_order_acquire) < round)
        oct_spin_pause();
    const float *first = (b->world.host_rank == 0 ? own : other)->slots + at;
    const float *second = (b->world.host_rank == 0 ? other : own)->slots + at;
    float *residual = b->plain_residual;
    for (int64_t i = 0; i < n; i++)
        residual[i] = residual[i] + (first[i] + second[i]);
}

static void measure(bench *b)
{
    double ours[REPEATS], plain[REPEATS], ratio[REPEATS];
    nanoseconds_of(&b->world, reduce, b);
    nanoseconds_of(&b->world, reduce_by_hand, b);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        ours[repeat] = nanoseconds_of(&b->world, reduce, b);
        plain[repeat] = nanoseconds_of(&b->world, reduce_by_hand, b);
        ratio[repeat] = ours[repeat] / plain[repeat];
    }
    if (b->world.rank != 0)
        return;
    const double middle = oct_percentile(ratio, REPEATS, 50);
    printf("%5lld floats: octet %7.1f ns, by hand %7.1f ns, ratio %.2f (%.2f .. %.2f)\n", (long long)b->floats,
           oct_percentile(ours, REPEATS, 50), oct_percentile(plain, REPEATS, 50), middle, ratio[0], ratio[REPEATS - 1]);
}

// The parts of a backend that a reduction needs.
static oct_status prepare(bench *b, int64_t floats)
{
    const size_t bytes = (size_t)floats * sizeof(float);
    b->floats = floats;
    b->plain_round = 0;
    b->contribution = aligned_alloc(64, bytes);
    b->residual = aligned_alloc(64, bytes);
    b->plain_residual = aligned_alloc(64, bytes);
    for (int64_t i = 0; i < floats; i++) {
        b->contribution[i] = (float)(i % 7 + b->world.rank) * 0x1p-10f;
        b->residual[i] = b->plain_residual[i] = 1;
    }
    oct_tree_schedule_finish(&b->finish, b->world.size, b->world.size);
    b->step = (oct_step){.columns = 1};
    b->backend.kernels = oct_cpu_level() == 2   ? oct_cpu_kernels_avx512()
                         : oct_cpu_level() == 1 ? oct_cpu_kernels_avx2()
                                                : oct_cpu_kernels_scalar();
    b->backend.exchange = &b->exchange;
    b->backend.step = &b->step;
    b->backend.residual = b->residual;
    oct_status status = oct_exchange_open(&b->exchange, &b->world, bytes, 1, OCT_EXCHANGE_AUTO);
    if (status == OCT_OK)
        status = oct_host_memory_allocate(&b->memory, &b->world, sizeof(window) + 2 * bytes);
    return status;
}

static bool compare(bench *b, int64_t floats)
{
    if (prepare(b, floats) != OCT_OK)
        return false;
    measure(b);
    const bool same = memcmp(b->residual, b->plain_residual, (size_t)floats * sizeof(float)) == 0;
    if (!same)
        fprintf(stderr, "bench_reduce: rank %d: other bits than by hand\n", b->world.rank);
    oct_exchange_close(&b->exchange);
    oct_host_memory_free(&b->memory);
    free(b->contribution);
    free(b->residual);
    free(b->plain_residual);
    return same;
}

int main(int argc, char **argv)
{
    static bench b;
    const oct_world_options options = oct_world_options_default();
    if (oct_world_init(&b.world, &options) != OCT_OK)
        return 3;
    bool same = b.world.size == 2 && b.world.host_size == 2;
    if (!same)
        fprintf(stderr, "bench_reduce: expected 2 ranks on one host: mpirun -np 2 bench_reduce\n");
    oct_wait_configure(false);
    oct_cpu_enter_thread();
    oct_progress_phase(OCT_PHASE_DECODE);
    for (int i = 1; same && i < (argc > 1 ? argc : 3); i++)
        same = compare(&b, argc > 1 ? atoll(argv[i]) / OCT_TILE_ROWS * OCT_TILE_ROWS : i == 1 ? 576 : 4096);
    oct_world_finish(&b.world);
    return same ? 0 : 1;
}
