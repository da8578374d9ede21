// NCCL's host interface over MPI: collectives, messages between two ranks, groups. What a call does is queued on its
// stream (and captured into graphs like any other work); the calls of a process run in the order of their issue,
// whatever their streams, and a call that waits for other ranks leaves the stream unfinished.
//
// Before a collective moves data the ranks compare what each of them calls: a rank that brings another
// collective, or none, ends the process with a message, where NCCL would hang.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "chained_launches.h"
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

// The ranks' agreement on a collective.
struct Agreement {
    uint64_t mine[4], greatest[4];
    MPI_Request request;
    int64_t deadline_ns;
    bool begun;
};

using Messages = std::vector<MPI_Request>;

// A call between ncclGroupStart() and ncclGroupEnd().
struct Grouped_call {
    ncclComm_t communicator;
    std::function<ncclResult_t()> issue;   // a collective
    std::function<void(Messages &)> start; // or a message
    cudaStream_t stream;
};

static Chain order_of_issue;
static std::vector<Grouped_call> group;
static int group_depth;

static void begin_agreement(Agreement &agreement, ncclComm_t communicator, const Collective_call &call)
{
    uint64_t what = (uint64_t)call.kind << 56 | (uint64_t)call.type << 48 | (uint64_t)(call.operation & 0xff) << 40 |
                    (uint32_t)call.root;
    agreement.mine[0] = what;
    agreement.mine[1] = ~what;
    agreement.mine[2] = call.count;
    agreement.mine[3] = ~(uint64_t)call.count;
    agreement.begun = true;
    agreement.deadline_ns = now_ns() + nccl_patience_ns();
    communicator->collectives++;
    MPI_Iallreduce(agreement.mine, agreement.greatest, 4, MPI_UINT64_T, MPI_MAX, communicator->mpi, &agreement.request);
}

// Whether all ranks have come.
static bool agree(Agreement &agreement, ncclComm_t communicator, const Collective_call &call)
{
    if (!agreement.begun)
        begin_agreement(agreement, communicator, call);
    int done = 0;
    MPI_Test(&agreement.request, &done, MPI_STATUS_IGNORE);
    if (!done) {
        if (now_ns() > agreement.deadline_ns)
            die("NCCL: rank %d waits for its peers in collective %llu, of kind %d", communicator->rank,
                (unsigned long long)communicator->collectives, (int)call.kind);
        return false;
    }
    agreement.begun = false;
    const uint64_t *greatest = agreement.greatest;
    if (greatest[0] != ~greatest[1] || greatest[2] != ~greatest[3]) // the greatest is not the least
        die("NCCL: the ranks disagree on collective %llu: rank %d brings %016llx with %zu elements",
            (unsigned long long)communicator->collectives, communicator->rank, (unsigned long long)agreement.mine[0],
            call.count);
    return true;
}

static ncclResult_t issue(cudaStream_t stream, Work work)
{
    return submit_work(stream, std::move(work), &order_of_issue) ? ncclUnhandledCudaError : ncclSuccess;
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
    nccl_expect_idle(communicator, "a collective");
    auto agreement = std::make_shared<Agreement>();
    auto work = [=]() {
        if (!agree(*agreement, communicator, call))
            return false;
        move();
        return true;
    };
    auto issue_it = [=]() { return issue(stream, work); };
    if (!group_depth)
        return nccl_finish(communicator, issue_it);
    group.push_back({communicator, issue_it, nullptr, stream});
    return ncclSuccess;
}

static ncclResult_t message(bool sends, void *at, size_t count, ncclDataType_t type, int peer,
                            ncclComm_t communicator, cudaStream_t stream)
{
    size_t bytes = count * nccl_element_bytes(type);
    nccl_expect_idle(communicator, "a message");
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
    group.push_back({communicator, nullptr, start, stream});
    return ncclGroupEnd();
}

// The messages of a group go at once, or a ring of them would wait for itself.
static ncclResult_t issue_messages(cudaStream_t stream, std::vector<std::function<void(Messages &)>> starts)
{
    auto messages = std::make_shared<Messages>();
    return issue(stream, [messages, starts]() {
        messages->reserve(starts.size()); // MPI keeps the addresses of the requests
        if (messages->empty()) {
            memory_watch_pause(1);
            for (auto &start : starts)
                start(*messages);
        }
        int done = 0;
        MPI_Testall((int)messages->size(), messages->data(), &done, MPI_STATUSES_IGNORE);
        if (done) {
            messages->clear();
            memory_watch_pause(-1);
        }
        return done != 0;
    });
}

static ncclResult_t issue_group(const std::vector<Grouped_call> &calls)
{
    std::vector<std::function<void(Messages &)>> starts;
    ncclResult_t result = ncclSuccess;
    cudaStream_t stream = nullptr;
    for (const Grouped_call &call : calls) {
        if (!call.start) {
            result = std::max(result, call.issue());
            continue;
        }
        if (!starts.empty() && call.stream != stream)
            return ncclInvalidUsage;
        stream = call.stream;
        starts.push_back(call.start);
    }
    return starts.empty() ? result : std::max(result, issue_messages(stream, starts));
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
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
    std::vector<Grouped_call> calls = std::move(group);
    group.clear();
    if (calls.empty())
        return ncclSuccess;
    return nccl_finish(calls[0].communicator, [calls]() { return issue_group(calls); });
}
}
