// Gathers through pinned memory of the host: from the device, between the ranks by MPI, to the device.
#include "ranks/device_relay.h"

#include <stdlib.h>
#include <string.h>

#include "ranks/device_stream.h"

enum { MEMORIES = 16 };

typedef struct relay_state {
    oct_world *world;
    void *memories[MEMORIES]; // of the device
    int32_t memory_count;
    uint8_t *staging; // pinned, as long as the largest memory
    size_t staging_bytes;
} relay_state;

static oct_status check(void *context)
{
    (void)context;
    oct_wait wait = oct_wait_begin(-1); // its end is the caller's
    return oct_wait_slow(&wait);
}

// What the last gather has put into the staging memory is on the device when the stream has ended.
static oct_status gather(void *context, void *stream, const void *from, void *to, size_t bytes)
{
    relay_state *state = context;
    const size_t ranks = (size_t)state->world->size, own = (size_t)state->world->rank;
    if (bytes == 0)
        return OCT_OK;
    if (ranks * bytes > state->staging_bytes)
        return oct_fail(OCT_ERR_INTERNAL, "a gather of %zu bytes for a memory of %zu", ranks * bytes,
                        state->staging_bytes);
    oct_status status = oct_device_check(
        cudaMemcpyAsync(state->staging + own * bytes, from, bytes, cudaMemcpyDeviceToHost, stream), "fetching a node");
    if (status == OCT_OK)
        status = oct_device_await(stream, check, NULL, "fetching a node");
    if (status != OCT_OK)
        return status;
    MPI_Request request;
    if (MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, state->staging, (int)bytes, MPI_BYTE, state->world->all,
                       &request) != MPI_SUCCESS)
        return oct_fail(OCT_ERR_LOST, "MPI cannot start an exchange between the ranks");
    status = oct_wait_request(&request, -1);
    return status != OCT_OK
               ? status
               : oct_device_check(cudaMemcpyAsync(to, state->staging, ranks * bytes, cudaMemcpyHostToDevice, stream),
                                  "sending nodes");
}

static oct_status grow_staging(relay_state *state, size_t bytes)
{
    if (bytes <= state->staging_bytes)
        return OCT_OK;
    if (state->staging != NULL)
        cudaFreeHost(state->staging);
    state->staging = NULL;
    state->staging_bytes = 0;
    const oct_status status =
        oct_device_check(cudaMallocHost((void **)&state->staging, bytes), "allocating pinned memory for gathers");
    if (status == OCT_OK)
        state->staging_bytes = bytes;
    return status;
}

static oct_status allocate(void *context, size_t bytes, oct_device_memory *out)
{
    relay_state *state = context;
    void *memory = NULL;
    if (state->memory_count == MEMORIES)
        return oct_fail(OCT_ERR_INTERNAL, "more than %d memories for gathers", MEMORIES);
    const size_t taken = bytes > 0 ? bytes : 1;
    oct_status status = grow_staging(state, taken);
    if (status == OCT_OK)
        status = oct_device_check(cudaMalloc(&memory, taken), "allocating memory for gathers");
    if (status != OCT_OK)
        return status;
    state->memories[state->memory_count++] = memory;
    status = oct_device_check(cudaMemsetAsync(memory, 0, taken, NULL), "clearing memory for gathers");
    if (status == OCT_OK)
        status = oct_device_await(NULL, check, NULL, "clearing memory for gathers");
    *out = (oct_device_memory){.own = memory, .bytes = bytes};
    out->of_rank[state->world->rank] = memory;
    return status;
}

oct_status oct_device_relay_open(oct_device_exchange *exchange, oct_world *world)
{
    relay_state *state = calloc(1, sizeof *state);
    *exchange = (oct_device_exchange){.context = state,
                                      .ranks = world->size,
                                      .rank = world->rank,
                                      .waits = true,
                                      .allocate = allocate,
                                      .gather = gather,
                                      .check = check};
    oct_status status = OCT_OK;
    if (state == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory for the exchange of devices");
    else
        state->world = world;
    status = oct_world_agree(world, status);
    if (status != OCT_OK)
        oct_device_relay_close(exchange);
    return status;
}

void oct_device_relay_close(oct_device_exchange *exchange)
{
    relay_state *state = exchange->context;
    if (state == NULL)
        return;
    for (int32_t i = 0; i < state->memory_count; i++)
        cudaFree(state->memories[i]);
    if (state->staging != NULL)
        cudaFreeHost(state->staging);
    free(state);
    memset(exchange, 0, sizeof *exchange);
}
