// NCCL under emulation, on any number of ranks: collectives, messages, graphs, reductions inside kernels. With an
// argument: a mistake that must end the process with the emulation's message instead of a hang: `mismatch` (another
// count on rank 1), `missing` (rank 1 does not come), `other` (another collective on rank 1), `hasty` (a call while the
// communicator is busy with the one before).
#include <mpi.h>
#include <nccl.h>
#include <nccl_device.h>

#include "examples/all_reduce.h"
#include "test_support.h"

#define NCCL(call) nccl_check((call), #call, __LINE__)

static int rank, ranks, failures;
static ncclComm_t communicator;

static void nccl_check(ncclResult_t result, const char *call, int line)
{
    if (!result)
        return;
    fprintf(stderr, "rank %d, line %d: %s: %d\n", rank, line, call, (int)result);
    exit(2);
}

static void check(const char *what, bool good)
{
    if (good)
        return;
    fprintf(stderr, "FAILED on rank %d of %d: %s\n", rank, ranks, what);
    failures++;
}

// What rank r brings: small integers, whose sums are exact.
static float value_of(int r, size_t i)
{
    return (float)((r + 1) * (int)(i % 50));
}

static float sum_of(size_t i)
{
    return (float)(ranks * (ranks + 1) / 2) * (float)(i % 50);
}

static std::vector<float> values_of(int r, size_t count)
{
    std::vector<float> values(count);
    for (size_t i = 0; i < count; i++)
        values[i] = value_of(r, i);
    return values;
}

template <class Expected>
static void check_values(const char *what, const Array<float> &found, Expected expected)
{
    std::vector<float> values = found.values();
    bool good = true;
    for (size_t i = 0; i < values.size(); i++)
        good &= values[i] == expected(i);
    check(what, good);
}

static void collectives(const Stream &stream)
{
    size_t n = 1000, all = n * (size_t)ranks;
    Array<float> mine(values_of(rank, n)), gathered(all), sum(n), part(n), root(n), shared(n);
    NCCL(ncclAllGather(mine.at, gathered.at, n, ncclFloat32, communicator, stream.handle));
    NCCL(ncclAllReduce(mine.at, sum.at, n, ncclFloat32, ncclSum, communicator, stream.handle));
    NCCL(ncclReduceScatter(gathered.at, part.at, n, ncclFloat32, ncclMax, communicator, stream.handle));
    NCCL(ncclReduce(mine.at, root.at, n, ncclFloat32, ncclProd, ranks - 1, communicator, stream.handle));
    NCCL(ncclBroadcast(mine.at, shared.at, n, ncclFloat32, 0, communicator, stream.handle));
    stream.wait();
    check_values("all-gather", gathered, [=](size_t i) { return value_of((int)(i / n), i % n); });
    check_values("all-reduce", sum, sum_of);
    check_values("reduce-scatter", part, [](size_t i) { return value_of(rank, i); });
    check_values("broadcast", shared, [](size_t i) { return value_of(0, i); });
    if (rank == ranks - 1)
        check_values("reduce", root, [](size_t i) {
            float product = 1;
            for (int r = 0; r < ranks; r++)
                product *= value_of(r, i);
            return product;
        });
    float host;
    check("memory of the host is refused", ncclAllReduce(&host, &host, 1, ncclFloat32, ncclSum, communicator,
                                                         stream.handle) == ncclInvalidArgument);
}

// From three ranks: 10^8, 1, -10^8. In the order of ranks the 1 is lost in every element; a ring that begins
// at rank 2 keeps it, and elements differ.
static void order_of_sums(const Stream &stream)
{
    const char *order = getenv("CUDA_EMULATION_NCCL_SUM");
    bool ring = order && !strcmp(order, "ring");
    const float brought[] = {1e8f, 1, -1e8f};
    Array<float> values(std::vector<float>(12, rank < 3 ? brought[rank] : 0));
    NCCL(ncclAllReduce(values.at, values.at, 12, ncclFloat32, ncclSum, communicator, stream.handle));
    stream.wait();
    if (ranks == 3)
        check_values("order of a sum", values, [=](size_t i) { return ring && i >= 8 ? 1.0f : 0.0f; });
}

static void messages(const Stream &stream)
{
    size_t n = 77;
    Array<float> mine(values_of(rank, n)), theirs(n), sum(n);
    int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
    NCCL(ncclGroupStart());
    NCCL(ncclSend(mine.at, n, ncclFloat32, next, communicator, stream.handle));
    NCCL(ncclRecv(theirs.at, n, ncclFloat32, previous, communicator, stream.handle));
    NCCL(ncclAllReduce(mine.at, sum.at, n, ncclFloat32, ncclSum, communicator, stream.handle));
    NCCL(ncclGroupEnd());
    stream.wait();
    check_values("a ring of messages", theirs, [=](size_t i) { return value_of(previous, i); });
    check_values("all-reduce in a group", sum, sum_of);
}

// Two collectives on two streams go in the order of their issue on every rank, whichever stream runs first.
static void order_over_streams(const Stream &stream)
{
    size_t n = 10;
    Stream other;
    Array<float> a(values_of(rank, n)), b(n);
    cuda_emulation_configure("random", (uint64_t)rank + 1, "lazy");
    for (int repeat = 0; repeat < 5; repeat++) {
        NCCL(ncclAllReduce(a.at, b.at, n, ncclFloat32, ncclSum, communicator, stream.handle));
        NCCL(ncclBroadcast(a.at, a.at, n, ncclFloat32, 0, communicator, other.handle));
        CUDA(cudaDeviceSynchronize());
    }
    cuda_emulation_configure("fifo", 1, "eager");
    check_values("broadcast on another stream", a, [](size_t i) { return value_of(0, i); });
}

static void graphs(const Stream &stream)
{
    size_t n = 100;
    Array<float> mine(n), sum(n);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeGlobal));
    NCCL(ncclAllReduce(mine.at, sum.at, n, ncclFloat32, ncclSum, communicator, stream.handle));
    NCCL(ncclAllReduce(sum.at, sum.at, n, ncclFloat32, ncclSum, communicator, stream.handle));
    CUDA(cudaStreamEndCapture(stream.handle, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    for (int repeat = 0; repeat < 3; repeat++) {
        std::vector<float> values = values_of(rank + repeat, n);
        CUDA(cudaMemcpyAsync(mine.at, values.data(), n * sizeof(float), cudaMemcpyHostToDevice,
                             stream.handle));
        CUDA(cudaGraphLaunch(executable, stream.handle));
        stream.wait();
        check_values("two all-reduces in a graph", sum, [=](size_t i) {
            return (sum_of(i) + (float)(repeat * ranks) * (float)(i % 50)) * (float)ranks;
        });
    }
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaGraphExecDestroy(executable));
}

// Symmetric memory with a window over it.
struct Symmetric {
    void *at;
    size_t bytes;
    ncclWindow_t window;

    explicit Symmetric(size_t size) : bytes(size)
    {
        NCCL(ncclMemAlloc(&at, bytes));
        NCCL(ncclCommWindowRegister(communicator, at, bytes, &window, NCCL_WIN_COLL_SYMMETRIC));
    }

    Symmetric(const Symmetric &) = delete;
    Symmetric &operator=(const Symmetric &) = delete;

    ~Symmetric()
    {
        NCCL(ncclCommWindowDeregister(communicator, window));
        NCCL(ncclMemFree(at));
    }
};

static ncclDevComm device_communicator()
{
    ncclDevCommRequirements wanted = {};
    wanted.lsaBarrierCount = ALL_REDUCE_BLOCKS;
    wanted.lsaMultimem = true;
    ncclDevComm created;
    NCCL(ncclDevCommCreate(communicator, &wanted, &created));
    return created;
}

static void reductions_in_kernels(const Stream &stream)
{
    int n = 1000;
    ncclDevComm device = device_communicator();
    {
        Symmetric buffer(2 * (size_t)n * sizeof(float));
        Array<float> mine((size_t)n), sum((size_t)n);
        for (int repeat = 0; repeat < 6; repeat++) {
            cuda_emulation_configure("random", (uint64_t)(repeat + 1), "eager");
            std::vector<float> values = values_of(rank + repeat, (size_t)n);
            CUDA(cudaMemcpy(mine.at, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
            CUDA(all_reduce_in_order(sum.at, mine.at, n, &device, buffer.window, repeat % 2, stream.handle));
            stream.wait();
            check_values("reduction in a kernel", sum,
                         [=](size_t i) { return sum_of(i) + (float)(repeat * ranks) * (float)(i % 50); });
        }
    }
    cuda_emulation_configure("fifo", 1, "eager");
    {
        Symmetric buffer((size_t)n * sizeof(uint16_t));
        std::vector<uint16_t> ones((size_t)n, 0x3f80); // 1 as bf16
        CUDA(cudaMemcpy(buffer.at, ones.data(), buffer.bytes, cudaMemcpyHostToDevice));
        CUDA(all_reduce_multicast(n, &device, buffer.window, stream.handle));
        stream.wait();
        CUDA(cudaMemcpy(ones.data(), buffer.at, buffer.bytes, cudaMemcpyDeviceToHost));
        bool good = true;
        for (uint16_t value : ones)
            good &= from_bf16(value) == (float)ranks;
        check("multicast reduction", good);
    }
    void *alone;
    ncclWindow_t window;
    NCCL(ncclMemAlloc(&alone, 8192));
    check("a window of another size on a rank is refused",
          ranks == 1 || ncclCommWindowRegister(communicator, alone, rank ? 4096 : 8192, &window,
                                               NCCL_WIN_COLL_SYMMETRIC) == ncclInvalidArgument);
    NCCL(ncclMemFree(alone));
    NCCL(ncclDevCommDestroy(communicator, &device));
}

static void parts_of_ranks(const Stream &stream)
{
    ncclComm_t part;
    NCCL(ncclCommSplit(communicator, rank % 2, rank, &part, nullptr));
    int part_ranks;
    NCCL(ncclCommCount(part, &part_ranks));
    Array<float> mine(std::vector<float>{1}), sum(1);
    NCCL(ncclAllReduce(mine.at, sum.at, 1, ncclFloat32, ncclSum, part, stream.handle));
    stream.wait();
    check("split", part_ranks == (ranks + 1 - rank % 2) / 2 && sum.values()[0] == (float)part_ranks);
    NCCL(ncclCommDestroy(part));
}

static ncclComm_t communicator_without_blocking()
{
    ncclUniqueId id;
    ncclComm_t created;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (!rank)
        NCCL(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    check("a communicator that does not block comes later",
          ncclCommInitRankConfig(&created, ranks, id, rank, &config) == ncclInProgress);
    return created;
}

static void ask_until_done(ncclComm_t asked)
{
    ncclResult_t result = ncclInProgress;
    while (result == ncclInProgress)
        NCCL(ncclCommGetAsyncError(asked, &result));
    NCCL(result);
}

// Calls that do not block take effect when the communicator says so; a stream waits for the other ranks while the host
// goes on.
static void without_blocking(const Stream &stream)
{
    size_t n = 10;
    Array<float> mine(values_of(rank, n)), early(n), sum(std::vector<float>(n, -1.0f));
    cuda_emulation_configure("fifo", 1, "lazy");
    ncclComm_t created = communicator_without_blocking();
    ask_until_done(created);
    check("a call that does not block", ncclAllReduce(mine.at, sum.at, n, ncclFloat32, ncclSum, created,
                                                      stream.handle) == ncclInProgress);
    CUDA(cudaMemcpyAsync(early.at, sum.at, n * sizeof(float), cudaMemcpyDeviceToDevice, stream.handle));
    ask_until_done(created);
    int waited = 0;
    while (!rank && waited < 5 && cudaStreamQuery(stream.handle) == cudaErrorNotReady)
        waited++;
    check("the host goes on while a stream waits for other ranks", rank || ranks == 1 || waited == 5);
    MPI_Barrier(MPI_COMM_WORLD); // now the others begin to wait
    stream.wait();
    check_values("work before the call was done", early, [](size_t) { return -1; });
    check_values("all-reduce without blocking", sum, sum_of);
    cuda_emulation_configure("fifo", 1, "eager");
    NCCL(ncclCommAbort(created));
}

static void make_mistake(const char *mistake, const Stream &stream)
{
    Array<float> values(std::vector<float>(8, 1.0f));
    if (!strcmp(mistake, "hasty")) {
        ncclComm_t created = communicator_without_blocking();
        NCCL(ncclAllReduce(values.at, values.at, 8, ncclFloat32, ncclSum, created, stream.handle));
    }
    if (rank == 1 && !strcmp(mistake, "missing")) {
        MPI_Barrier(MPI_COMM_WORLD); // until the others have given up
        return;
    }
    if (rank == 1 && !strcmp(mistake, "other"))
        NCCL(ncclBroadcast(values.at, values.at, 8, ncclFloat32, 0, communicator, stream.handle));
    else
        NCCL(ncclAllReduce(values.at, values.at, rank == 1 && !strcmp(mistake, "mismatch") ? 4 : 8,
                           ncclFloat32, ncclSum, communicator, stream.handle));
    stream.wait();
}

int main(int count, char **arguments)
{
    MPI_Init(&count, &arguments);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (cudaSetDevice(rank) != cudaSuccess)
        fprintf(stderr, "no device for rank %d (CUDA_EMULATION_DEVICES)\n", rank);
    ncclUniqueId id;
    if (!rank)
        NCCL(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    NCCL(ncclCommInitRank(&communicator, ranks, id, rank));
    {
        Stream stream;
        if (count > 1)
            make_mistake(arguments[1], stream);
        collectives(stream);
        order_of_sums(stream);
        messages(stream);
        order_over_streams(stream);
        graphs(stream);
        without_blocking(stream);
        reductions_in_kernels(stream);
        parts_of_ranks(stream);
    }
    NCCL(ncclCommDestroy(communicator));
    MPI_Finalize();
    if (!failures)
        printf("rank %d of %d: all good\n", rank, ranks);
    return failures != 0;
}
