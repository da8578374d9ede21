// The exchange between devices: its memory, its gathers, and the choice of the path.
#include "ranks/device_exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/communicator.h"
#include "ranks/device_stream.h"
#include "ranks/device_windows.h"
#include "ranks/monitor.h"

// A trial moves a node of a column of 8192 elements several times in a row. At ten microseconds a gather all trials
// take two milliseconds; where ranks wait for a core there are fewer of them.
enum { MEMORIES = 16, TRIAL_BYTES = 32 << 10, LEAST_TRIALS = 3, MOST_TRIALS = 20, TRIAL_GATHERS = 10 };
static const int64_t TRIALS_NS = 100000000;

typedef struct memory {
    void *at;
    ncclWindow_t window; // NULL: none; see is_symmetric()
} memory;

typedef struct exchange_state {
    oct_world *world;
    oct_communicator communicator;
    bool symmetric;
    memory memories[MEMORIES];
    int32_t memory_count;
    void **pointers;     // of the device, [ranks]; symmetric
    uint32_t *abort;     // oct_device_exchange.abort
    cudaStream_t stream; // of what is done when it is opened
} exchange_state;

static oct_status look(exchange_state *state, int from)
{
    oct_wait wait = oct_wait_begin(from); // its end is the caller's
    const oct_status status = oct_wait_slow(&wait);
    const uint32_t word = state->abort != NULL ? *(volatile uint32_t *)state->abort : OCT_DEVICE_WAITS;
    if (status != OCT_OK || word == OCT_DEVICE_LEAVES)
        return OCT_ERR_LOST;
    if (word >= OCT_DEVICE_GAVE_UP)
        return oct_fail(OCT_ERR_LOST,
                        "the device of rank %d has waited in vain for that of rank %d; the job ends (--deadline "
                        "changes how long that may take)",
                        state->world->rank, (int)(word - OCT_DEVICE_GAVE_UP));
    return oct_communicator_check(&state->communicator);
}

static oct_status check(void *context)
{
    return look(context, -1);
}

static oct_status check_kernels(void *context)
{
    return look(context, OCT_WAITS_FOR_DEVICE);
}

static void leave(void *context, oct_status status)
{
    oct_world *world = ((exchange_state *)context)->world;
    char text[1024];
    snprintf(text, sizeof text, "%s", oct_failure_text());
    oct_failure_clear();
    oct_fail(status, "%s (rank %d on host %s)", text, world->rank, world->host_names[world->host_index]);
    oct_world_abort(world, status);
}

// Waits for the exchange's own stream.
static oct_status await_stream(exchange_state *state, const char *doing)
{
    return oct_device_await(state->stream, check, state, doing);
}

static oct_status gather(void *context, void *stream, const void *from, void *to, size_t bytes)
{
    exchange_state *state = context;
    if (bytes == 0)
        return OCT_OK;
    return oct_communicator_settle(&state->communicator,
                                   ncclAllGather(from, to, bytes, ncclUint8, state->communicator.nccl, stream),
                                   "queueing a gather");
}

// This rank's part, not yet agreed on.
static oct_status allocate_own(exchange_state *state, size_t bytes, memory *m)
{
    if (state->memory_count == MEMORIES)
        return oct_fail(OCT_ERR_INTERNAL, "more than %d memories for gathers", MEMORIES);
    const ncclResult_t result = ncclMemAlloc(&m->at, bytes);
    if (result != ncclSuccess) {
        m->at = NULL;
        return oct_fail(OCT_ERR_MACHINE, "no memory of the device for gathers of %zu bytes: %s", bytes,
                        ncclGetErrorString(result));
    }
    const oct_status status =
        oct_device_check(cudaMemsetAsync(m->at, 0, bytes, state->stream), "clearing memory for gathers");
    return status != OCT_OK ? status : await_stream(state, "clearing memory for gathers");
}

// Whether kernels can use the window. Where NCCL makes no memory symmetric (devices that do not reach each other,
// NCCL_WIN_ENABLE=0, NCCL_CUMEM_ENABLE=0) it gives the handle of a local registration for one, an address of the host's
// memory, or none (NCCL 2.28, dev_runtime.cc); what it gives kernels to read is in the device's.
static bool is_symmetric(const memory *m)
{
    struct cudaPointerAttributes attributes;
    return m->window != NULL && cudaPointerGetAttributes(&attributes, m->window) == cudaSuccess &&
           attributes.type == cudaMemoryTypeDevice;
}

// Makes memory symmetric where NCCL does that. COLLECTIVE.
static oct_status register_window(exchange_state *state, memory *m, size_t bytes)
{
    ncclComm_t nccl = state->communicator.nccl;
    return oct_communicator_settle(&state->communicator,
                                   ncclCommWindowRegister(nccl, m->at, bytes, &m->window, NCCL_WIN_COLL_SYMMETRIC),
                                   "making memory symmetric");
}

// Looks up where this rank sees the memory of the others.
static oct_status map_window(exchange_state *state, const memory *m, oct_device_memory *out)
{
    static const char doing[] = "looking up the memory of other ranks";
    const int ranks = state->world->size;
    if (!is_symmetric(m))
        return oct_fail(OCT_ERR_MACHINE, "NCCL made memory symmetric before, and does not now (NCCL_WIN_ENABLE=0 does "
                                         "without it)");
    oct_status status =
        oct_device_check(oct_device_windows_map(m->window, ranks, state->pointers, state->stream), doing);
    if (status == OCT_OK)
        status =
            oct_device_check(cudaMemcpyAsync(out->of_rank, state->pointers, (size_t)ranks * sizeof *state->pointers,
                                             cudaMemcpyDeviceToHost, state->stream),
                             doing);
    return status != OCT_OK ? status : await_stream(state, doing);
}

// Whether all ranks may go on. One that has failed keeps its status, and says why when the ranks agree on it later; the
// others have a status without words. A peer may be lost while others wait for it in NCCL: then this process ends.
static oct_status join(const exchange_state *state, oct_status status)
{
    if (status == OCT_ERR_LOST)
        oct_world_abort(state->world, status);
    int worst = (int)status;
    oct_world_allreduce(state->world, &worst, 1, MPI_INT, MPI_MAX);
    return status != OCT_OK || worst == OCT_OK ? status : OCT_ERR_MACHINE;
}

static void free_memory(exchange_state *state, const memory *m)
{
    if (m->window != NULL)
        oct_communicator_settle(&state->communicator, ncclCommWindowDeregister(state->communicator.nccl, m->window),
                                "freeing a window");
    if (m->at != NULL)
        ncclMemFree(m->at);
}

static oct_status allocate(void *context, size_t bytes, oct_device_memory *out)
{
    exchange_state *state = context;
    memory m = {0};
    oct_device_memory made = {.bytes = bytes, .symmetric = state->symmetric};
    const size_t taken = bytes > 0 ? bytes : 1;
    oct_status status = join(state, allocate_own(state, taken, &m));
    if (status == OCT_OK && state->symmetric) {
        status = register_window(state, &m, taken);
        if (status == OCT_OK)
            status = map_window(state, &m, &made);
        status = join(state, status);
    }
    if (status != OCT_OK) {
        free_memory(state, &m);
        return status;
    }
    made.own = made.of_rank[state->world->rank] = m.at;
    state->memories[state->memory_count++] = m;
    *out = made;
    return OCT_OK;
}

// How many ranks each device reaches, at least. COLLECTIVE.
static int least_reach(exchange_state *state)
{
    int reach = oct_device_windows_reach(state->communicator.nccl);
    oct_world_allreduce(state->world, &reach, 1, MPI_INT, MPI_MIN);
    return reach;
}

// Which path: by trial, and as all ranks can. COLLECTIVE.
static oct_status choose_path(exchange_state *state, int reach)
{
    const int ranks = state->world->size;
    memory *m = &state->memories[0];
    oct_status status = allocate_own(state, TRIAL_BYTES, m);
    if (status == OCT_OK)
        status = oct_device_check(cudaMalloc((void **)&state->pointers, (size_t)ranks * sizeof *state->pointers),
                                  "allocating a list of ranks");
    status = join(state, status);
    if (status == OCT_OK && reach == ranks)
        status = join(state, register_window(state, m, TRIAL_BYTES));
    int symmetric = status == OCT_OK && is_symmetric(m);
    if (status == OCT_OK)
        oct_world_allreduce(state->world, &symmetric, 1, MPI_INT, MPI_MIN);
    state->symmetric = symmetric;
    free_memory(state, m);
    *m = (memory){0};
    return status;
}

// Gathers in a row; *least_ns becomes the time of one where it is less.
static oct_status try_gathers(exchange_state *state, const oct_device_memory *from, const oct_device_memory *to,
                              int64_t *least_ns)
{
    oct_status status = OCT_OK;
    const int64_t began_ns = oct_now_ns();
    for (int i = 0; status == OCT_OK && i < TRIAL_GATHERS; i++)
        status = gather(state, state->stream, from->own, to->own, TRIAL_BYTES);
    if (status == OCT_OK)
        status = await_stream(state, "trying a gather");
    const int64_t took_ns = (oct_now_ns() - began_ns) / TRIAL_GATHERS;
    *least_ns = took_ns < *least_ns ? took_ns : *least_ns;
    return status;
}

// The least time of a gather, in ns. As many trials on every rank: until the first of them has spent enough time on it.
// COLLECTIVE.
static oct_status time_gathers(exchange_state *state, const oct_device_memory *from, const oct_device_memory *to,
                               int64_t *least_ns)
{
    const int64_t began_ns = oct_now_ns();
    oct_status status = OCT_OK;
    int is_over = 0;
    *least_ns = INT64_MAX;
    for (int trial = 1; status == OCT_OK && !is_over && trial <= MOST_TRIALS; trial++) {
        status = join(state, try_gathers(state, from, to, least_ns));
        is_over = trial >= LEAST_TRIALS && oct_now_ns() - began_ns > TRIALS_NS;
        oct_world_allreduce(state->world, &is_over, 1, MPI_INT, MPI_MAX);
    }
    return status;
}

// Kernels that wait for others need all their blocks to be there, and a word by which the host can call them back.
// COLLECTIVE.
static oct_status allow_kernels(exchange_state *state, oct_device_exchange *exchange)
{
    int device = 0, cooperative = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&state->abort, sizeof *state->abort);
    if (error == cudaSuccess)
        *state->abort = OCT_DEVICE_WAITS;
    oct_status status = join(state, oct_device_check(error, "preparing exchanges inside kernels"));
    oct_world_allreduce(state->world, &cooperative, 1, MPI_INT, MPI_MIN);
    if (status != OCT_OK || !state->symmetric || !cooperative)
        return status;
    exchange->abort = state->abort;
    exchange->check = check_kernels;
    exchange->leave = leave;
    oct_monitor_attach_word((_Atomic uint32_t *)(void *)state->abort);
    return OCT_OK;
}

static void describe_path(const exchange_state *state, int reach, int64_t gather_ns)
{
    int version = 0;
    ncclGetVersion(&version);
    const int ranks = state->world->size;
    char why[160];
    if (state->symmetric)
        snprintf(why, sizeof why, "symmetric memory: each of the %d reaches that of all", ranks);
    else if (reach == ranks)
        snprintf(why, sizeof why, "its own buffers: it makes no symmetric memory (devices that do not reach each "
                                  "other, NCCL_WIN_ENABLE=0)");
    else
        snprintf(why, sizeof why, "its own buffers: not every device reaches the memory of all %d", ranks);
    oct_note("devices exchange data by NCCL %d.%d.%d through %s; a gather of %d KiB a rank takes %.1f us",
             version / 10000, version / 100 % 100, version % 100, why, TRIAL_BYTES >> 10, (double)gather_ns * 1e-3);
}

static oct_status open_state(exchange_state *state, oct_device_exchange *exchange)
{
    oct_status status = join(
        state, oct_device_check(cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking), "making a stream"));
    if (status != OCT_OK)
        return status;
    const int reach = least_reach(state);
    oct_device_memory from, to;
    int64_t gather_ns = 0;
    status = choose_path(state, reach);
    if (status == OCT_OK)
        status = allow_kernels(state, exchange);
    if (status == OCT_OK)
        status = allocate(state, TRIAL_BYTES, &from);
    if (status == OCT_OK)
        status = allocate(state, (size_t)state->world->size * TRIAL_BYTES, &to);
    if (status == OCT_OK)
        status = time_gathers(state, &from, &to, &gather_ns);
    if (status == OCT_OK)
        describe_path(state, reach, gather_ns);
    return status;
}

oct_status oct_device_exchange_open(oct_device_exchange *exchange, oct_world *world)
{
    exchange_state *state = calloc(1, sizeof *state);
    oct_status status = state == NULL ? oct_fail(OCT_ERR_MACHINE, "no memory for the exchange of devices") : OCT_OK;
    status = oct_world_agree(world, status);
    *exchange = (oct_device_exchange){.context = state,
                                      .ranks = world->size,
                                      .rank = world->rank,
                                      .allocate = allocate,
                                      .gather = gather,
                                      .check = check};
    if (status == OCT_OK) {
        state->world = world;
        status = oct_communicator_create(&state->communicator, world);
    }
    if (status == OCT_OK)
        status = oct_world_agree(world, open_state(state, exchange));
    if (status != OCT_OK)
        oct_device_exchange_close(exchange);
    return status;
}

void oct_device_exchange_close(oct_device_exchange *exchange)
{
    exchange_state *state = exchange->context;
    if (state == NULL)
        return;
    for (int32_t i = state->memory_count - 1; i >= 0; i--)
        free_memory(state, &state->memories[i]);
    oct_monitor_attach_word(NULL);
    if (state->abort != NULL)
        cudaFreeHost(state->abort);
    if (state->pointers != NULL)
        cudaFree(state->pointers);
    if (state->stream != NULL)
        cudaStreamDestroy(state->stream);
    oct_communicator_destroy(&state->communicator);
    free(state);
    memset(exchange, 0, sizeof *exchange);
}
