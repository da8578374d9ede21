// NCCL's communicators over MPI. One that does not block (ncclConfig_t) is made, and finishes its calls, only while
// ncclCommGetAsyncError() is asked.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <sched.h>
#include <unistd.h>

#include <nccl_device.h>

#include "nccl_emulation.h"
#include "scheduler.h"
#include "settings.h"

namespace cuda_emulation
{
// A communicator on its way: MPI's is made, then the unique ids are compared, then the devices.
struct Creation {
    MPI_Request request;
    ncclUniqueId id, first;
    int device;
    std::vector<int> devices;
    int phase;
};

int64_t nccl_patience_ns()
{
    const char *text = getenv("CUDA_EMULATION_NCCL_TIMEOUT");
    return (text ? atoll(text) : 60) * 1000000000ll;
}

static bool symmetric_is(const char *what)
{
    const char *text = getenv("CUDA_EMULATION_NCCL_SYMMETRIC");
    return strcmp(text ? text : "1", what) == 0;
}

bool nccl_is_symmetric()
{
    return symmetric_is("1");
}

ncclResult_t nccl_finish(ncclComm_t communicator, std::function<ncclResult_t()> step)
{
    if (!communicator->blocking) {
        communicator->pending = [step = std::move(step), asked = false]() mutable {
            bool was_asked = asked;
            asked = true;
            return was_asked ? step() : ncclInProgress;
        };
        return ncclInProgress;
    }
    int64_t deadline_ns = now_ns() + nccl_patience_ns();
    for (;;) {
        ncclResult_t result = step();
        if (result != ncclInProgress)
            return result;
        if (now_ns() > deadline_ns)
            die("NCCL: rank %d waits for its peers, to make a communicator", communicator->rank);
        sched_yield();
    }
}

void nccl_expect_idle(ncclComm_t communicator, const char *call)
{
    if (communicator->pending)
        die("NCCL: %s, while the communicator is busy with the call before: ask ncclCommGetAsyncError() until it is "
            "not ncclInProgress",
            call);
}

// The next step of a creation. COLLECTIVE.
static ncclResult_t create_step(ncclComm_t communicator, Creation &creation)
{
    int done = 0;
    MPI_Test(&creation.request, &done, MPI_STATUS_IGNORE);
    if (!done)
        return ncclInProgress;
    switch (creation.phase++) {
    case 0:
        creation.first = creation.id;
        MPI_Ibcast(&creation.first, sizeof creation.first, MPI_BYTE, 0, communicator->mpi, &creation.request);
        return ncclInProgress;
    case 1:
        if (memcmp(&creation.first, &creation.id, sizeof creation.id))
            die("ncclCommInitRank: rank %d has another unique id than the rest", communicator->rank);
        creation.devices.resize((size_t)communicator->ranks);
        MPI_Iallgather(&creation.device, 1, MPI_INT, creation.devices.data(), 1, MPI_INT, communicator->mpi,
                       &creation.request);
        return ncclInProgress;
    default: // as NCCL since 2.5
        return std::count(creation.devices.begin(), creation.devices.end(), creation.device) > 1 ? ncclInvalidUsage
                                                                                                 : ncclSuccess;
    }
}

static ncclResult_t create_world(ncclComm_t *communicator, int ranks, const ncclUniqueId &id, int rank, bool blocking)
{
    int started, world_ranks, world_rank;
    MPI_Initialized(&started);
    if (!started)
        MPI_Init(nullptr, nullptr);
    MPI_Comm_size(MPI_COMM_WORLD, &world_ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
    if (world_ranks != ranks || world_rank != rank)
        return ncclInvalidArgument; // fewer than all ranks: by ncclCommSplit()
    if (settings.devices.empty())
        return ncclUnhandledCudaError;
    ncclComm_t created = *communicator = new ncclComm{MPI_COMM_NULL, rank, ranks, 0, blocking, nullptr};
    auto creation = std::make_shared<Creation>(Creation{MPI_REQUEST_NULL, id, {}, current_machine_device(), {}, 0});
    MPI_Comm_idup(MPI_COMM_WORLD, &created->mpi, &creation->request);
    return nccl_finish(created, [=]() { return create_step(created, *creation); });
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
    return create_world(communicator, ranks, id, rank, true);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *communicator, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    return create_world(communicator, ranks, id, rank, !config || config->blocking != 0);
}

ncclResult_t ncclCommSplit(ncclComm_t communicator, int color, int key, ncclComm_t *part, ncclConfig_t *)
{
    nccl_expect_idle(communicator, "ncclCommSplit");
    MPI_Comm mpi;
    MPI_Comm_split(communicator->mpi, color < 0 ? MPI_UNDEFINED : color, key, &mpi);
    *part = nullptr;
    if (mpi == MPI_COMM_NULL)
        return ncclSuccess;
    *part = new ncclComm{mpi, 0, 0, 0, true, nullptr};
    MPI_Comm_rank(mpi, &(*part)->rank);
    MPI_Comm_size(mpi, &(*part)->ranks);
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t communicator)
{
    nccl_expect_idle(communicator, "ncclCommFinalize");
    return nccl_finish(communicator, []() { return ncclSuccess; });
}

ncclResult_t ncclCommDestroy(ncclComm_t communicator)
{
    nccl_expect_idle(communicator, "ncclCommDestroy");
    MPI_Comm_free(&communicator->mpi);
    delete communicator;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t communicator)
{
    static auto *abandoned = new std::vector<ncclComm_t>; // MPI may still write to them, to the very end
    if (communicator->pending)
        abandoned->push_back(communicator);
    else
        delete communicator; // MPI_Comm_free() would wait for the others
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t *error)
{
    *error = communicator->pending ? communicator->pending() : ncclSuccess;
    if (*error != ncclInProgress)
        communicator->pending = nullptr;
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

ncclTeam_t ncclTeamLsa(ncclComm_t communicator)
{
    nccl_expect_idle(communicator, "ncclTeamLsa");
    if (symmetric_is("hosts"))
        return {1, 0, 1};
    return {communicator->ranks, communicator->rank, 1};
}
}
