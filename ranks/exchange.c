// Both paths of the exchange. Shared memory: each thread of a rank has a sequence number, the rank two slots; round s
// uses slot s mod 2, so a rank may write its next contribution while others still read the last: before it writes the
// one after that, it has seen everybody publish the round in between, and therefore finish reading. (In a round of the
// team each thread has seen it of some threads, and the team meets before the next round.)
#include "ranks/exchange.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/host_memory.h"
#include "ranks/wait.h"
#include "runtime/partition.h"

enum { LINE = 128 }; // two cache lines: the prefetcher fetches them in pairs

// The head of a rank's part of the shared memory: one for each thread; the rank's two slots follow.
typedef struct published {
    _Alignas(LINE) _Atomic uint64_t round; // the last round that this thread has published
    int32_t threads;                       // of the rank, in the first one
} published;

// What one thread of this rank knows of the rounds.
typedef struct seat {
    _Alignas(LINE) uint64_t round; // rounds begun
} seat;

// A part of a round under way by MPI, which reads the arrays until it is done.
typedef struct message {
    MPI_Request request;
    int counts[OCT_MAX_RANKS], displacements[OCT_MAX_RANKS];
} message;

typedef struct exchange_state {
    oct_world *world;
    size_t stride;          // bytes of a slot
    int32_t threads;        // of this rank
    int32_t most_threads;   // of any rank
    int32_t threads_of_rank[OCT_MAX_RANKS]; // shared memory path
    seat *seats;            // [threads]
    oct_host_memory memory; // shared memory path
    uint8_t *own;           // MPI path, and one rank: [2][stride]
    uint8_t *all;           // MPI path: [2][ranks][stride]
    message messages[OCT_EXCHANGE_PARTS];
    int32_t begun; // of them, in this round
} exchange_state;

static published *heads_of(const exchange_state *state, int32_t rank)
{
    return oct_host_memory_part(&state->memory, rank);
}

static uint8_t *memory_slot(const exchange_state *state, int32_t rank, uint64_t round)
{
    return (uint8_t *)(heads_of(state, rank) + state->most_threads) + (round & 1) * state->stride;
}

static void *slot_in_memory(void *context, int32_t thread)
{
    const exchange_state *state = context;
    return memory_slot(state, state->world->rank, state->seats[thread].round);
}

// The main thread alone holds a round: the others, which wait for it, count it too.
static uint64_t count_round(exchange_state *state)
{
    const uint64_t round = state->seats[0].round + 1;
    for (int32_t thread = 0; thread < state->threads; thread++)
        state->seats[thread].round = round;
    return round;
}

// Waits until the threads [first, last) of a rank have published the round.
static oct_status await_threads(const exchange_state *state, int32_t rank, int32_t first, int32_t last, uint64_t round)
{
    const published *heads = heads_of(state, rank);
    oct_wait wait = oct_wait_begin(rank);
    oct_status status = OCT_OK;
    for (int32_t thread = first; status == OCT_OK && thread < last; thread++)
        while (status == OCT_OK && atomic_load_explicit(&heads[thread].round, memory_order_acquire) < round)
            status = oct_wait_poll(&wait);
    oct_wait_end(&wait);
    return status;
}

static oct_status round_in_memory(void *context, const size_t *bytes_of_rank)
{
    (void)bytes_of_rank;
    exchange_state *state = context;
    const uint64_t round = count_round(state);
    atomic_store_explicit(&heads_of(state, state->world->rank)->round, round, memory_order_release);
    oct_status status = OCT_OK;
    for (int32_t rank = 0; status == OCT_OK && rank < state->world->size; rank++)
        status = await_threads(state, rank, 0, 1, round);
    return status;
}

static oct_status team_round_in_memory(void *context, int32_t thread)
{
    exchange_state *state = context;
    const int32_t own = state->world->rank;
    const uint64_t round = ++state->seats[thread].round;
    atomic_store_explicit(&heads_of(state, own)[thread].round, round, memory_order_release);
    oct_status status = OCT_OK;
    for (int32_t rank = 0; status == OCT_OK && rank < state->world->size; rank++) {
        const int32_t threads = state->threads_of_rank[rank];
        const bool alike = threads == state->threads;
        if (rank != own)
            status = await_threads(state, rank, alike ? thread : 0, alike ? thread + 1 : threads, round);
    }
    return status;
}

static const void *peer_in_memory(void *context, int32_t thread, int32_t rank)
{
    const exchange_state *state = context;
    return memory_slot(state, rank, state->seats[thread].round - 1);
}

static void *slot_of_own(void *context, int32_t thread)
{
    const exchange_state *state = context;
    return state->own + (state->seats[thread].round & 1) * state->stride;
}

static oct_status begin_part_by_mpi(void *context, const size_t *offset_of_rank, const size_t *bytes_of_rank)
{
    exchange_state *state = context;
    const int32_t ranks = state->world->size, own = state->world->rank;
    message *m = &state->messages[state->begun];
    uint8_t *all = state->all + (state->seats[0].round & 1) * (size_t)ranks * state->stride;
    for (int32_t rank = 0; rank < ranks; rank++) {
        m->counts[rank] = (int)bytes_of_rank[rank];
        m->displacements[rank] = (int)((size_t)rank * state->stride + offset_of_rank[rank]);
    }
    const int code = MPI_Iallgatherv((uint8_t *)slot_of_own(context, 0) + offset_of_rank[own], m->counts[own], MPI_BYTE,
                                     all, m->counts, m->displacements, MPI_BYTE, state->world->all, &m->request);
    if (code != MPI_SUCCESS)
        return oct_fail(OCT_ERR_LOST, "MPI cannot start an exchange between the ranks");
    state->begun++;
    int done; // a large message goes on only inside MPI
    for (int32_t part = 0; part + 1 < state->begun; part++)
        MPI_Test(&state->messages[part].request, &done, MPI_STATUS_IGNORE);
    return OCT_OK;
}

static oct_status finish_parts_by_mpi(void *context)
{
    exchange_state *state = context;
    oct_status status = OCT_OK;
    for (int32_t part = 0; status == OCT_OK && part < state->begun; part++)
        status = oct_wait_request(&state->messages[part].request, -1);
    state->begun = 0;
    count_round(state);
    return status;
}

static oct_status round_by_mpi(void *context, const size_t *bytes_of_rank)
{
    static const size_t offset_of_rank[OCT_MAX_RANKS];
    const oct_status status = begin_part_by_mpi(context, offset_of_rank, bytes_of_rank);
    return status != OCT_OK ? status : finish_parts_by_mpi(context);
}

static const void *peer_by_mpi(void *context, int32_t thread, int32_t rank)
{
    const exchange_state *state = context;
    const uint64_t last = (state->seats[thread].round - 1) & 1;
    return state->all + (last * (size_t)state->world->size + (size_t)rank) * state->stride;
}

static oct_status no_round(void *context, const size_t *bytes_of_rank)
{
    (void)bytes_of_rank;
    count_round(context);
    return OCT_OK;
}

static const void *peer_of_one(void *context, int32_t thread, int32_t rank)
{
    (void)rank;
    const exchange_state *state = context;
    return state->own + ((state->seats[thread].round - 1) & 1) * state->stride;
}

static oct_status open_private(oct_exchange *exchange, exchange_state *state, oct_world *world)
{
    const size_t ranks = (size_t)world->size;
    state->own = aligned_alloc(LINE, 2 * state->stride);
    if (ranks > 1)
        state->all = aligned_alloc(LINE, 2 * ranks * state->stride);
    exchange->slot = slot_of_own;
    exchange->round = ranks > 1 ? round_by_mpi : no_round;
    exchange->begin_part = ranks > 1 ? begin_part_by_mpi : NULL;
    exchange->finish_parts = ranks > 1 ? finish_parts_by_mpi : NULL;
    exchange->peer = ranks > 1 ? peer_by_mpi : peer_of_one;
    if (state->own == NULL || (ranks > 1 && state->all == NULL))
        return oct_fail(OCT_ERR_MACHINE, "no memory for exchange buffers of %zu bytes", 2 * ranks * state->stride);
    return OCT_OK;
}

static oct_status open_shared(oct_exchange *exchange, exchange_state *state, oct_world *world)
{
    exchange->slot = slot_in_memory;
    exchange->round = round_in_memory;
    exchange->team_round = team_round_in_memory;
    exchange->peer = peer_in_memory;
    oct_world_allreduce(world, &state->most_threads, 1, MPI_INT32_T, MPI_MAX);
    oct_status status = oct_host_memory_allocate(
        &state->memory, world, (size_t)state->most_threads * sizeof(published) + 2 * state->stride);
    if (status != OCT_OK)
        return status;
    heads_of(state, world->rank)->threads = state->threads;
    status = oct_world_agree(world, OCT_OK); // everybody's is written before anybody reads it
    for (int32_t rank = 0; rank < world->size; rank++)
        state->threads_of_rank[rank] = heads_of(state, rank)->threads;
    return status;
}

static oct_status make_state(exchange_state **out, oct_world *world, size_t capacity, int32_t threads)
{
    exchange_state *state = calloc(1, sizeof *state);
    if (state == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the exchange");
    *out = state;
    state->world = world;
    state->stride = (capacity + LINE - 1) / LINE * LINE;
    state->threads = state->most_threads = threads;
    state->seats = aligned_alloc(LINE, (size_t)threads * sizeof *state->seats);
    if (state->seats == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the exchange of %d threads", threads);
    memset(state->seats, 0, (size_t)threads * sizeof *state->seats);
    return OCT_OK;
}

oct_status oct_exchange_open(oct_exchange *exchange, oct_world *world, size_t capacity, int32_t threads,
                             oct_exchange_path path)
{
    exchange_state *state = NULL;
    oct_status status = make_state(&state, world, capacity, threads);
    *exchange = (oct_exchange){.context = state, .ranks = world->size, .rank = world->rank, .capacity = capacity};
    if (path == OCT_EXCHANGE_MEMORY && world->host_count > 1)
        status = oct_fail(OCT_ERR_MACHINE, "the ranks are on %d hosts and share no memory; use --exchange mpi",
                          world->host_count);
    status = oct_world_agree(world, status);
    if (status == OCT_OK) {
        if (world->size > 1 && world->host_count == 1 && path != OCT_EXCHANGE_MPI)
            status = open_shared(exchange, state, world);
        else
            status = oct_world_agree(world, open_private(exchange, state, world));
    }
    if (status != OCT_OK)
        oct_exchange_close(exchange);
    return status;
}

void oct_exchange_close(oct_exchange *exchange)
{
    exchange_state *state = exchange->context;
    if (state == NULL)
        return;
    oct_host_memory_free(&state->memory);
    free(state->seats);
    free(state->own);
    free(state->all);
    free(state);
    memset(exchange, 0, sizeof *exchange);
}
