// The exchange between devices under emulation, on any number of ranks: gathers, gathers and the end of a reduction in
// a graph, reductions that read the other ranks' symmetric memory; every sum has the bits of one rank's tree.
//
// With an argument rank 1 misbehaves: `absent` (it never comes to NCCL), `deviceless` (it has no device), `killed` and
// `stopped` (between two steps). A job like that must end in time with the documented code.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exchange_test.h"
#include "kernels/cuda/reduction.h"
#include "launch/guard.h"
#include "ranks/launch_check.h"

enum { COLUMNS = 3, HIDDEN = 20, NODE = COLUMNS * HIDDEN, STEPS = 3 };

static uint8_t byte_of(int rank, size_t i, int round)
{
    return (uint8_t)(i * 7 + (size_t)rank * 31 + (size_t)round * 11 + i / 251);
}

// Gathers of all kinds of sizes; what stands behind them stays.
static void test_gathers(const oct_device_exchange *exchange, cudaStream_t stream)
{
    static const size_t sizes[] = {1, 4, 12, 1000, 4096, 30000, 0};
    enum { MOST = 30000, BEHIND = 64 };
    const size_t ranks = (size_t)world.size;
    oct_device_memory from, to;
    must(exchange->allocate(exchange->context, MOST, &from));
    must(exchange->allocate(exchange->context, ranks * MOST + BEHIND, &to));
    check(from.own == from.of_rank[world.rank] && from.bytes == MOST, "memory of this rank", 0);
    uint8_t *host = malloc(ranks * MOST + BEHIND);
    CUDA(cudaMemcpy(host, to.own, to.bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < to.bytes; i++)
        check(host[i] == 0, "memory is zeroed", (long)i);
    for (size_t round = 0; round < sizeof sizes / sizeof sizes[0]; round++) {
        const size_t bytes = sizes[round];
        for (size_t i = 0; i < MOST; i++)
            host[i] = byte_of(world.rank, i, (int)round);
        CUDA(cudaMemcpy(from.own, host, MOST, cudaMemcpyHostToDevice));
        CUDA(cudaMemset(to.own, 0xa5, to.bytes));
        CUDA(cudaDeviceSynchronize());
        must(exchange->gather(exchange->context, stream, from.own, to.own, bytes));
        await_stream(exchange, stream);
        CUDA(cudaMemcpy(host, to.own, to.bytes, cudaMemcpyDeviceToHost));
        bool good = true;
        for (size_t i = 0; i < to.bytes; i++)
            good = good && host[i] == (i < ranks * bytes ? byte_of((int)(i / bytes), i % bytes, (int)round) : 0xa5);
        check(good, "a gather of so many bytes", (long)bytes);
    }
    free(host);
}

// The residual after a step against the tree of a single rank.
static void check_residual(const float *residual, int granules, int step, const char *what)
{
    float root[NODE], host[NODE];
    CUDA(cudaMemcpy(host, residual, sizeof host, cudaMemcpyDeviceToHost));
    const int nodes = add_subtrees(root, NODE, granules, (oct_run){0, granules}, step);
    bool good = nodes == 1;
    for (int element = 0; element < NODE; element++) {
        const float expected = before(element) + root[element];
        good = good && memcmp(&expected, &host[element], sizeof expected) == 0;
    }
    check(good, what, granules);
}

typedef struct reduction {
    int granules, most_nodes;
    oct_tree_finish tree;
    oct_run run; // of this rank
    oct_device_memory nodes, gathered;
    float *residual;
    cudaStream_t stream;
} reduction;

static reduction make_reduction(const oct_device_exchange *exchange, const oct_device_memory *nodes,
                                const oct_device_memory *gathered, int granules, float *residual, cudaStream_t stream)
{
    reduction r = {
        .granules = granules, .nodes = *nodes, .gathered = *gathered, .residual = residual, .stream = stream};
    oct_tree_schedule_finish(&r.tree, granules, exchange->ranks);
    for (int rank = 0; rank < exchange->ranks; rank++)
        r.most_nodes = r.tree.nodes_of_rank[rank] > r.most_nodes ? r.tree.nodes_of_rank[rank] : r.most_nodes;
    r.run = oct_partition_cut(granules, exchange->ranks, exchange->rank);
    return r;
}

static void write_inputs(const reduction *r, int step)
{
    static float nodes[OCT_MAX_NODES * NODE];
    float residual[NODE];
    for (int element = 0; element < NODE; element++)
        residual[element] = before(element);
    const int count = add_subtrees(nodes, NODE, r->granules, r->run, step);
    check(count == r->tree.nodes_of_rank[world.rank], "nodes of this rank", count);
    CUDA(cudaMemcpy(r->residual, residual, sizeof residual, cudaMemcpyHostToDevice));
    if (count > 0)
        CUDA(cudaMemcpy(r->nodes.own, nodes, (size_t)count * NODE * sizeof(float), cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());
}

static void finish_tree(const reduction *r, const float *const *of_rank)
{
    oct_cuda_finish finish;
    oct_cuda_plan_finish(&finish, &r->tree, of_rank, world.size, COLUMNS, HIDDEN, r->residual);
    must(oct_cuda_finish_tree(&finish, r->stream));
}

// The gather of the nodes and the end of the tree, as a graph.
static cudaGraphExec_t capture(const oct_device_exchange *exchange, const reduction *r)
{
    const size_t bytes = (size_t)r->most_nodes * NODE * sizeof(float);
    const float *of_rank[OCT_MAX_RANKS];
    for (int rank = 0; rank < world.size; rank++)
        of_rank[rank] = (const float *)r->gathered.own + (size_t)rank * (size_t)r->most_nodes * NODE;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
    must(exchange->gather(exchange->context, r->stream, r->nodes.own, r->gathered.own, bytes));
    finish_tree(r, of_rank);
    CUDA(cudaStreamEndCapture(r->stream, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return executable;
}

static void test_graph(const oct_device_exchange *exchange, const reduction *r)
{
    cudaGraphExec_t graph = capture(exchange, r);
    for (int step = 0; step < STEPS; step++) {
        write_inputs(r, step);
        CUDA(cudaGraphLaunch(graph, r->stream));
        await_stream(exchange, r->stream);
        check_residual(r->residual, r->granules, step, "a gathered reduction of so many granules");
    }
    CUDA(cudaGraphExecDestroy(graph));
}

// Without a gather: kernels read the nodes where they are.
static void test_symmetric(const oct_device_exchange *exchange, const reduction *r)
{
    const float *of_rank[OCT_MAX_RANKS];
    for (int rank = 0; rank < world.size; rank++)
        of_rank[rank] = r->nodes.of_rank[rank];
    write_inputs(r, STEPS);
    meet(); // all nodes are there
    finish_tree(r, of_rank);
    await_stream(exchange, r->stream);
    meet(); // all have read them
    check_residual(r->residual, r->granules, STEPS, "a reduction of so many granules in symmetric memory");
}

static void test_reductions(const oct_device_exchange *exchange, cudaStream_t stream)
{
    static const int granules[] = {1, 2, 3, 4, 5, 9, 14, 40, 64};
    const size_t bytes = (size_t)OCT_MAX_NODES * NODE * sizeof(float);
    const char *symmetric = getenv("CUDA_EMULATION_NCCL_SYMMETRIC");
    oct_device_memory nodes, gathered;
    must(exchange->allocate(exchange->context, bytes, &nodes));
    must(exchange->allocate(exchange->context, bytes * (size_t)world.size, &gathered));
    check(nodes.symmetric == (symmetric == NULL || strcmp(symmetric, "1") == 0), "the path", nodes.symmetric);
    for (int rank = 0; rank < world.size; rank++)
        check((nodes.of_rank[rank] != NULL) == (nodes.symmetric || rank == world.rank), "memory of rank", rank);
    float *residual;
    CUDA(cudaMalloc((void **)&residual, NODE * sizeof(float)));
    for (size_t i = 0; i < sizeof granules / sizeof granules[0]; i++) {
        const reduction r = make_reduction(exchange, &nodes, &gathered, granules[i], residual, stream);
        test_graph(exchange, &r);
        if (nodes.symmetric)
            test_symmetric(exchange, &r);
    }
    CUDA(cudaFree(residual));
}

// Steps until rank 1 does what it was told to do.
static void lose_rank(const oct_device_exchange *exchange, cudaStream_t stream, int number)
{
    oct_device_memory from, to;
    must(exchange->allocate(exchange->context, 256, &from));
    must(exchange->allocate(exchange->context, 256 * (size_t)world.size, &to));
    oct_progress_phase(OCT_PHASE_DECODE);
    for (int step = 0;; step++) {
        oct_progress_step(step);
        if (step == 20 && world.rank == 1)
            raise(number);
        must(exchange->gather(exchange->context, stream, from.own, to.own, 256));
        await_stream(exchange, stream);
    }
}

// Comes as far as NCCL's unique id, and then waits for something else as long as it is let.
static void stay_away(void)
{
    char id[128];
    MPI_Request request;
    must(oct_world_agree(&world, OCT_OK));
    must(oct_world_agree(&world, OCT_OK));
    MPI_Ibcast(id, sizeof id, MPI_BYTE, 0, world.all, &request);
    must(oct_wait_request(&request, 0));
    for (oct_wait wait = oct_wait_begin(-1);;)
        must(oct_wait_poll(&wait));
}

// Of the environment, so a rank without devices has to begin again with it.
static void lose_devices(char **arguments)
{
    const char *devices = getenv("CUDA_EMULATION_DEVICES");
    if (oct_launch_read().rank != 1 || (devices != NULL && strcmp(devices, "0") == 0))
        return;
    setenv("CUDA_EMULATION_DEVICES", "0", 1);
    execv("/proc/self/exe", arguments);
}

int main(int count, char **arguments)
{
    const char *mistake = count > 1 ? arguments[1] : "";
    if (strcmp(mistake, "deviceless") == 0)
        lose_devices(arguments);
    const char *deadline = getenv("DEADLINE");
    oct_log_configure(OCT_VERBOSE);
    oct_guard_begin();
    const oct_world_options options = oct_world_options_deadline(deadline != NULL ? atof(deadline) : 60);
    oct_status status = oct_world_init(&world, &options);
    if (status == OCT_OK) {
        const bool is_first = strcmp(mistake, "together") == 0; // all ranks with one device
        cudaSetDevice(is_first ? 0 : world.rank);               // fails where there is none
        if (strcmp(mistake, "absent") == 0 && world.rank == 1)
            stay_away();
        oct_device_exchange exchange;
        status = oct_device_exchange_open(&exchange, &world);
        if (status == OCT_OK) {
            cudaStream_t stream;
            CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
            if (strcmp(mistake, "killed") == 0 || strcmp(mistake, "stopped") == 0)
                lose_rank(&exchange, stream, mistake[0] == 'k' ? SIGKILL : SIGSTOP);
            test_gathers(&exchange, stream);
            test_reductions(&exchange, stream);
            CUDA(cudaStreamDestroy(stream));
            oct_device_exchange_close(&exchange);
            if (failures == 0)
                printf("rank %d of %d: all good\n", world.rank, world.size);
        }
    }
    oct_world_finish(&world);
    fflush(stdout);
    const int code = status != OCT_OK ? (int)status : failures != 0;
    oct_progress_goodbye(code);
    return code;
}
