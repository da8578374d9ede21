// Both paths of the exchange. Shared memory: each rank has a sequence number and two slots; round s uses slot s mod
// 2, so a rank may write its next contribution while others still read the last: before it writes the one
// after that, everybody has published the round in between and has therefore finished reading.
#include "ranks/exchange.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/host_memory.h"
#include "ranks/wait.h"
#include "runtime/partition.h"

enum { LINE = 128 };

// The head of a rank's part of the shared memory; its two slots follow.
typedef struct published {
    _Alignas(LINE) _Atomic uint64_t round; // how many rounds this rank has published
} published;

typedef struct exchange_state {
    oct_world *world;
    size_t stride;          // bytes of a slot
    uint64_t round;         // rounds begun by this rank
    oct_host_memory memory; // shared memory path
    uint8_t *own;           // MPI path, and one rank: [2][stride]
    uint8_t *all;           // MPI path: [2][ranks][stride]
    int counts[OCT_MAX_RANKS], displacements[OCT_MAX_RANKS];
} exchange_state;

static uint8_t *memory_slot(const exchange_state *state, int32_t rank, uint64_t round)
{
    uint8_t *part = oct_host_memory_part(&state->memory, rank);
    return part + sizeof(published) + (round & 1) * state->stride;
}

static void *slot_in_memory(void *context)
{
    exchange_state *state = context;
    return memory_slot(state, state->world->host_rank, state->round);
}

static oct_status round_in_memory(void *context, const size_t *bytes_of_rank)
{
    (void)bytes_of_rank;
    exchange_state *state = context;
    published *own = oct_host_memory_part(&state->memory, state->world->host_rank);
    const uint64_t round = ++state->round;
    atomic_store_explicit(&own->round, round, memory_order_release);
    for (int32_t rank = 0; rank < state->world->size; rank++) {
        published *peer = oct_host_memory_part(&state->memory, rank);
        oct_wait wait = oct_wait_begin(rank);
        oct_status status = OCT_OK;
        while (status == OCT_OK && atomic_load_explicit(&peer->round, memory_order_acquire) < round)
            status = oct_wait_poll(&wait);
        oct_wait_end(&wait);
        if (status != OCT_OK)
            return status;
    }
    return OCT_OK;
}

static const void *peer_in_memory(void *context, int32_t rank)
{
    exchange_state *state = context;
    return memory_slot(state, rank, state->round - 1);
}

static void *slot_of_own(void *context)
{
    exchange_state *state = context;
    return state->own + (state->round & 1) * state->stride;
}

static oct_status round_by_mpi(void *context, const size_t *bytes_of_rank)
{
    exchange_state *state = context;
    const int32_t ranks = state->world->size;
    uint8_t *own = slot_of_own(context);
    uint8_t *all = state->all + (state->round & 1) * (size_t)ranks * state->stride;
    for (int32_t rank = 0; rank < ranks; rank++)
        state->counts[rank] = (int)bytes_of_rank[rank];
    state->round++;
    MPI_Request request;
    const int code = MPI_Iallgatherv(own, state->counts[state->world->rank], MPI_BYTE, all, state->counts,
                                     state->displacements, MPI_BYTE, state->world->all, &request);
    if (code != MPI_SUCCESS)
        return oct_fail(OCT_ERR_LOST, "MPI cannot start an exchange between the ranks");
    return oct_wait_request(&request, -1);
}

static const void *peer_by_mpi(void *context, int32_t rank)
{
    exchange_state *state = context;
    const uint64_t last = (state->round - 1) & 1;
    return state->all + (last * (size_t)state->world->size + (size_t)rank) * state->stride;
}

static oct_status no_round(void *context, const size_t *bytes_of_rank)
{
    (void)bytes_of_rank;
    ((exchange_state *)context)->round++;
    return OCT_OK;
}

static const void *peer_of_one(void *context, int32_t rank)
{
    (void)rank;
    exchange_state *state = context;
    return state->own + ((state->round - 1) & 1) * state->stride;
}

static oct_status open_private(oct_exchange *exchange, exchange_state *state, oct_world *world)
{
    const size_t ranks = (size_t)world->size;
    state->own = aligned_alloc(LINE, 2 * state->stride);
    if (ranks > 1)
        state->all = aligned_alloc(LINE, 2 * ranks * state->stride);
    for (size_t rank = 0; rank < ranks; rank++)
        state->displacements[rank] = (int)(rank * state->stride);
    exchange->slot = slot_of_own;
    exchange->round = ranks > 1 ? round_by_mpi : no_round;
    exchange->peer = ranks > 1 ? peer_by_mpi : peer_of_one;
    if (state->own == NULL || (ranks > 1 && state->all == NULL))
        return oct_fail(OCT_ERR_MACHINE, "no memory for exchange buffers of %zu bytes", 2 * ranks * state->stride);
    return OCT_OK;
}

oct_status oct_exchange_open(oct_exchange *exchange, oct_world *world, size_t capacity, oct_exchange_path path)
{
    exchange_state *state = calloc(1, sizeof *state);
    oct_status status = OCT_OK;
    if (state == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory for the exchange");
    if (path == OCT_EXCHANGE_MEMORY && world->host_count > 1)
        status = oct_fail(OCT_ERR_MACHINE, "the ranks are on %d hosts and share no memory; use --exchange mpi",
                          world->host_count);
    status = oct_world_agree(world, status);
    if (status != OCT_OK) {
        free(state);
        return status;
    }
    state->world = world;
    state->stride = (capacity + LINE - 1) / LINE * LINE;
    *exchange = (oct_exchange){.context = state, .ranks = world->size, .rank = world->rank, .capacity = capacity};
    if (world->size > 1 && world->host_count == 1 && path != OCT_EXCHANGE_MPI) {
        exchange->slot = slot_in_memory;
        exchange->round = round_in_memory;
        exchange->peer = peer_in_memory;
        status = oct_host_memory_allocate(&state->memory, world, sizeof(published) + 2 * state->stride);
    } else {
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
    free(state->own);
    free(state->all);
    free(state);
    memset(exchange, 0, sizeof *exchange);
}
