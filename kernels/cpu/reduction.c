// The reduction between ranks on the CPU: publishing the nodes of this rank, waiting for those of the others, adding
// them to the root and the root to the residual.
#include "kernels/cpu/executor.h"
#include "runtime/progress.h"

// Of so many rounds of the team one is timed: two reads of the clock, which wait for everything before them, take 200
// ns and a round of a small model 1 µs. Odd, so that both kinds of projections have their turn.
enum { ROUNDS_A_TIMED_ONE = 9 };

// Fewer bytes than these are not worth a message of their own.
enum { PART_BYTES = 32 << 10 };

static int32_t count_parts(const oct_cpu_backend *backend, const oct_tree_finish *finish, int64_t hidden)
{
    const oct_exchange *exchange = backend->exchange;
    if (exchange->team_round != NULL)
        return 1;
    const int64_t bytes = (int64_t)finish->nodes * backend->step->columns * hidden * (int64_t)sizeof(float);
    const int64_t parts = bytes / exchange->ranks / PART_BYTES;
    return parts < 1 ? 1 : parts < OCT_EXCHANGE_PARTS ? (int32_t)parts : OCT_EXCHANGE_PARTS;
}

void oct_cpu_plan_reduction(const oct_cpu_backend *backend, const oct_tree_finish *finish, int64_t hidden,
                            int32_t thread, int32_t threads, oct_reduction *reduction)
{
    reduction->finish = finish;
    reduction->hidden = hidden;
    reduction->parts = count_parts(backend, finish, hidden);
    for (int32_t i = 0; i < reduction->parts; i++) {
        const oct_run part = oct_thread_run(hidden / OCT_TILE_ROWS, i, reduction->parts);
        const oct_run run = oct_thread_run(part.end - part.begin, thread, threads);
        reduction->part[i] = part;
        reduction->mine[i] = (oct_run){part.begin + run.begin, part.begin + run.end};
    }
}

// Floats of a rank's nodes in front of a part, and in it.
static size_t floats_of(const oct_cpu_backend *backend, const oct_reduction *reduction, int32_t rank, int32_t strips)
{
    return (size_t)reduction->finish->nodes_of_rank[rank] * (size_t)backend->step->columns * (size_t)strips *
           OCT_TILE_ROWS;
}

float *oct_cpu_part_nodes(const oct_cpu_backend *backend, const oct_reduction *reduction, int32_t part, int32_t thread)
{
    const oct_exchange *exchange = backend->exchange;
    float *slot = exchange->slot(exchange->context, thread);
    return slot + floats_of(backend, reduction, exchange->rank, reduction->part[part].begin);
}

static void keep_failure(oct_cpu_backend *backend, oct_status status)
{
    if (status != OCT_OK)
        atomic_store(&backend->failed, (int)status);
}

void oct_cpu_publish_part(oct_cpu_backend *backend, const oct_reduction *reduction, int32_t part, int32_t thread)
{
    const oct_exchange *exchange = backend->exchange;
    if (exchange->team_round != NULL)
        return; // each thread publishes what it has, all at once
    oct_team_barrier(backend->team);
    if (thread != 0 || atomic_load_explicit(&backend->failed, memory_order_relaxed) != OCT_OK)
        return;
    const oct_run strips = reduction->part[part];
    size_t offsets[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < exchange->ranks; rank++) {
        offsets[rank] = floats_of(backend, reduction, rank, strips.begin) * sizeof(float);
        backend->round_bytes[rank] = floats_of(backend, reduction, rank, strips.end - strips.begin) * sizeof(float);
    }
    const uint64_t begin = (uint64_t)oct_now_ns();
    keep_failure(backend, exchange->begin_part(exchange->context, offsets, backend->round_bytes));
    backend->exchange_ns += (uint64_t)oct_now_ns() - begin;
}

// Waits for the nodes of the other ranks: those of the same rows where every thread can do so for itself.
static bool await_nodes(oct_cpu_backend *backend, int32_t thread)
{
    const oct_exchange *exchange = backend->exchange;
    const bool by_team = exchange->team_round != NULL;
    const bool timed = thread == 0 && (!by_team || backend->times != NULL ||
                                       backend->team_rounds++ % ROUNDS_A_TIMED_ONE == 0);
    const uint64_t begin = timed ? (uint64_t)oct_now_ns() : 0;
    oct_status status = OCT_OK;
    if (by_team)
        status = exchange->team_round(exchange->context, thread);
    else if (thread == 0 && atomic_load_explicit(&backend->failed, memory_order_relaxed) == OCT_OK)
        status = exchange->finish_parts(exchange->context);
    keep_failure(backend, status);
    if (timed) {
        backend->exchange_ns += (uint64_t)oct_now_ns() - begin;
        backend->exchange_rounds++;
    }
    if (by_team)
        return status == OCT_OK;
    oct_team_barrier(backend->team);
    return atomic_load_explicit(&backend->failed, memory_order_relaxed) == OCT_OK;
}

// Adds the nodes of one part to the residual, for the strips of it that this thread has computed.
static void add_part(oct_cpu_backend *backend, const oct_reduction *reduction, int32_t part, int32_t thread)
{
    const oct_exchange *exchange = backend->exchange;
    const oct_run strips = reduction->part[part], mine = reduction->mine[part];
    const int32_t columns = backend->step->columns;
    const int64_t rows = (int64_t)(strips.end - strips.begin) * OCT_TILE_ROWS;
    const int64_t n = (int64_t)(mine.end - mine.begin) * OCT_TILE_ROWS;
    const float *nodes[OCT_MAX_GRANULES];
    int32_t count = 0;
    for (int32_t rank = 0; rank < exchange->ranks; rank++) {
        const float *theirs = exchange->peer(exchange->context, thread, rank);
        theirs += floats_of(backend, reduction, rank, strips.begin) + (mine.begin - strips.begin) * OCT_TILE_ROWS;
        for (int32_t i = 0; i < reduction->finish->nodes_of_rank[rank]; i++)
            nodes[count++] = theirs + i * columns * rows;
    }
    for (int32_t c = 0; c < columns; c++) {
        float *residual = backend->residual + c * reduction->hidden + (int64_t)mine.begin * OCT_TILE_ROWS;
        backend->kernels->add_tree(residual, nodes, reduction->finish->merges, count, n);
        for (int32_t node = 0; node < count; node++)
            nodes[node] += rows;
    }
}

void oct_cpu_reduce(oct_cpu_backend *backend, const oct_reduction *reduction, int32_t thread)
{
    if (!await_nodes(backend, thread))
        return;
    for (int32_t part = 0; part < reduction->parts; part++)
        add_part(backend, reduction, part, thread);
}
