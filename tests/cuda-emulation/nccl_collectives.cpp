// NCCL's host interface over MPI: communicators, collectives, messages between two ranks, groups. What a call
// does is queued on its stream (and captured into graphs like any other work); the calls of a process run in
// the order of their issue, whatever their streams.
//
// Before a collective moves data the ranks compare what each of them calls: a rank that brings another
// collective, or none, ends the process with a message, where NCCL would hang.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include <sched.h>
#include <unistd.h>

#include "device_memory.h"
#include "nccl_elements.h"
#include "nccl_emulation.h"
#include "settings.h"
#include "streams.h"

namespace cuda_emulation
{
enum class Kind { ALL_REDUCE = 1, REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST };
enum { MESSAGE_TAG = 7 };

// A collective, as all ranks must agree on it.
struct Collective_call {
    Kind kind;
    ncclDataType_t type;
    int operation, root;
    size_t count;
};

using Messages = std::vector<MPI_Request>;

// A call between ncclGroupStart() and ncclGroupEnd().
struct Grouped_call {
    std::function<ncclResult_t()> issue;   // a collective
    std::function<void(Messages &)> start; // or a message
    cudaStream_t stream;
};

static Chain order_of_issue;
static std::vector<Grouped_call> group;
static int group_depth;

static int64_t patience_ns()
{
    const char *text = getenv("CUDA_EMULATION_NCCL_TIMEOUT");
    return (text ? atoll(text) : 60) * 1000000000ll;
}

static void agree(ncclComm_t communicator, const Collective_call &call)
{
    uint64_t what = (uint64_t)call.kind << 56 | (uint64_t)call.type << 48 |
                    (uint64_t)(call.operation & 0xff) << 40 | (uint32_t)call.root;
    uint64_t mine[4] = {what, ~what, call.count, ~(uint64_t)call.count}, greatest[4];
    uint64_t number = ++communicator->collectives;
    MPI_Request request;
    MPI_Iallreduce(mine, greatest, 4, MPI_UINT64_T, MPI_MAX, communicator->mpi, &request);
    int64_t deadline = now_ns() + patience_ns();
    for (int done = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE), !done;) {
        sched_yield();
        if (now_ns() > deadline)
            die("NCCL: rank %d waits for its peers in collective %llu, of kind %d", communicator->rank,
                (unsigned long long)number, (int)call.kind);
    }
    if (greatest[0] != ~greatest[1] || greatest[2] != ~greatest[3]) // the greatest is not the least
        die("NCCL: the ranks disagree on collective %llu: rank %d brings %016llx with %zu elements",
            (unsigned long long)number, communicator->rank, (unsigned long long)what, call.count);
}

static ncclResult_t issue(cudaStream_t stream, std::function<void()> body)
{
    return submit(stream, std::move(body), &order_of_issue) ? ncclUnhandledCudaError : ncclSuccess;
}

static bool is_device_memory(const char *name, const void *at, size_t bytes)
{
    if (!bytes || memory_of(at, bytes) == Memory::DEVICE)
        return true;
    fprintf(stderr, "cuda_emulation: %s: %p is not memory of the device\n", name, at);
    return false;
}

// Issues a collective, or leaves it to the end of the group.
static ncclResult_t collective(cudaStream_t stream, ncclComm_t communicator, const Collective_call &call,
                               std::function<void()> move)
{
    auto body = [=]() {
        agree(communicator, call);
        move();
    };
    if (!group_depth)
        return issue(stream, body);
    group.push_back({[=]() { return issue(stream, body); }, nullptr, stream});
    return ncclSuccess;
}

static ncclResult_t message(bool sends, void *at, size_t count, ncclDataType_t type, int peer,
                            ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type);
    if (!is_device_memory(sends ? "ncclSend" : "ncclRecv", at, bytes) || peer < 0 ||
        peer >= communicator->ranks)
        return ncclInvalidArgument;
    auto start = [=](Messages &messages) {
        messages.emplace_back();
        if (sends)
            MPI_Isend(at, (int)bytes, MPI_BYTE, peer, MESSAGE_TAG, communicator->mpi, &messages.back());
        else
            MPI_Irecv(at, (int)bytes, MPI_BYTE, peer, MESSAGE_TAG, communicator->mpi, &messages.back());
    };
    ncclGroupStart(); // a message alone is a group of one
    group.push_back({nullptr, start, stream});
    return ncclGroupEnd();
}

// The messages of a group go at once, or a ring of them would wait for itself.
static ncclResult_t issue_group(std::vector<Grouped_call> calls)
{
    std::vector<std::function<void(Messages &)>> starts;
    ncclResult_t result = ncclSuccess;
    cudaStream_t stream = nullptr;
    for (Grouped_call &call : calls) {
        if (!call.start) {
            result = std::max(result, call.issue());
            continue;
        }
        if (!starts.empty() && call.stream != stream)
            return ncclInvalidUsage;
        stream = call.stream;
        starts.push_back(call.start);
    }
    if (starts.empty())
        return result;
    ncclResult_t issued = issue(stream, [starts]() {
        Messages messages;
        messages.reserve(starts.size()); // MPI keeps the addresses of the requests
        for (auto &start : starts)
            start(messages);
        MPI_Waitall((int)messages.size(), messages.data(), MPI_STATUSES_IGNORE);
    });
    return std::max(result, issued);
}

static ncclComm_t create(MPI_Comm mpi)
{
    ncclComm_t communicator = new ncclComm{mpi, 0, 0, 0};
    MPI_Comm_rank(mpi, &communicator->rank);
    MPI_Comm_size(mpi, &communicator->ranks);
    return communicator;
}

static ncclResult_t create_world(ncclComm_t *communicator, int ranks, const ncclUniqueId &id, int rank)
{
    int started, world_ranks;
    MPI_Initialized(&started);
    if (!started)
        MPI_Init(nullptr, nullptr);
    MPI_Comm_size(MPI_COMM_WORLD, &world_ranks);
    if (world_ranks != ranks || rank < 0 || rank >= ranks)
        return ncclInvalidArgument; // fewer than all ranks: by ncclCommSplit()
    MPI_Comm mpi;
    MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &mpi);
    ncclComm_t created = create(mpi);
    ncclUniqueId first = id;
    MPI_Bcast(&first, sizeof first, MPI_BYTE, 0, mpi);
    if (created->rank != rank || memcmp(&first, &id, sizeof id))
        die("ncclCommInitRank: rank %d has another unique id, or another number, than the rest", rank);
    *communicator = created;
    return ncclSuccess;
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result ? "an error of the emulated NCCL" : "no error";
}

const char *ncclGetLastError(ncclComm_t)
{
    return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "emulated %d %lld", (int)getpid(), (long long)now_ns());
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *communicator, int ranks, ncclUniqueId id, int rank)
{
    return create_world(communicator, ranks, id, rank);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *communicator, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *)
{
    return create_world(communicator, ranks, id, rank);
}

ncclResult_t ncclCommSplit(ncclComm_t communicator, int color, int key, ncclComm_t *part, ncclConfig_t *)
{
    MPI_Comm mpi;
    MPI_Comm_split(communicator->mpi, color < 0 ? MPI_UNDEFINED : color, key, &mpi);
    *part = mpi == MPI_COMM_NULL ? nullptr : create(mpi);
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t)
{
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t communicator)
{
    MPI_Comm_free(&communicator->mpi);
    delete communicator;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t communicator)
{
    delete communicator; // MPI_Comm_free() would wait for the others
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *error)
{
    *error = ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t communicator, int *ranks)
{
    *ranks = communicator->ranks;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t communicator, int *rank)
{
    *rank = communicator->rank;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type);
    if (!is_device_memory("ncclAllReduce", from, bytes) || !is_device_memory("ncclAllReduce", to, bytes))
        return ncclInvalidArgument;
    return collective(stream, communicator, {Kind::ALL_REDUCE, type, operation, 0, count}, [=]() {
        std::vector<char> all(bytes * (size_t)communicator->ranks);
        MPI_Allgather(from, (int)bytes, MPI_BYTE, all.data(), (int)bytes, MPI_BYTE, communicator->mpi);
        nccl_reduce_elements(to, all.data(), count, communicator->ranks, type, operation);
    });
}

ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                        int root, ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type);
    bool is_root = communicator->rank == root;
    if (!is_device_memory("ncclReduce", from, bytes) ||
        (is_root && !is_device_memory("ncclReduce", to, bytes)))
        return ncclInvalidArgument;
    return collective(stream, communicator, {Kind::REDUCE, type, operation, root, count}, [=]() {
        std::vector<char> all(is_root ? bytes * (size_t)communicator->ranks : 0);
        MPI_Gather(from, (int)bytes, MPI_BYTE, all.data(), (int)bytes, MPI_BYTE, root, communicator->mpi);
        if (is_root)
            nccl_reduce_elements(to, all.data(), count, communicator->ranks, type, operation);
    });
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type), all_bytes = bytes * (size_t)communicator->ranks;
    if (!is_device_memory("ncclReduceScatter", from, all_bytes) ||
        !is_device_memory("ncclReduceScatter", to, bytes))
        return ncclInvalidArgument;
    return collective(stream, communicator, {Kind::REDUCE_SCATTER, type, operation, 0, count}, [=]() {
        std::vector<char> all(all_bytes);
        MPI_Alltoall(from, (int)bytes, MPI_BYTE, all.data(), (int)bytes, MPI_BYTE, communicator->mpi);
        nccl_reduce_elements(to, all.data(), count, communicator->ranks, type, operation);
    });
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type);
    if (!is_device_memory("ncclAllGather", from, bytes) ||
        !is_device_memory("ncclAllGather", to, bytes * (size_t)communicator->ranks))
        return ncclInvalidArgument;
    return collective(stream, communicator, {Kind::ALL_GATHER, type, 0, 0, count}, [=]() {
        std::vector<char> mine((const char *)from, (const char *)from + bytes); // it may lie in `to`
        MPI_Allgather(mine.data(), (int)bytes, MPI_BYTE, to, (int)bytes, MPI_BYTE, communicator->mpi);
    });
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type);
    bool is_root = communicator->rank == root;
    if (!is_device_memory("ncclBroadcast", to, bytes) ||
        (is_root && !is_device_memory("ncclBroadcast", from, bytes)))
        return ncclInvalidArgument;
    return collective(stream, communicator, {Kind::BROADCAST, type, 0, root, count}, [=]() {
        if (is_root)
            memmove(to, from, bytes);
        MPI_Bcast(to, (int)bytes, MPI_BYTE, root, communicator->mpi);
    });
}

ncclResult_t ncclBcast(void *at, size_t count, ncclDataType_t type, int root, ncclComm_t communicator,
                       cudaStream_t stream)
{
    return ncclBroadcast(at, at, count, type, root, communicator, stream);
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream)
{
    return message(true, (void *)from, count, type, peer, communicator, stream);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream)
{
    return message(false, to, count, type, peer, communicator, stream);
}

ncclResult_t ncclGroupStart()
{
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd()
{
    if (!group_depth)
        return ncclInvalidUsage;
    if (--group_depth)
        return ncclSuccess;
    return issue_group(std::move(group));
}
}
