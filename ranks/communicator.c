// NCCL's communicator: its unique id by MPI, its making and its calls without blocking.
#include "ranks/communicator.h"

enum { FAILED_TAG = 5 };

// A peer that is gone shows as an error of the network or of the peer.
static oct_status status_of(ncclResult_t result)
{
    return result == ncclRemoteError || result == ncclSystemError ? OCT_ERR_LOST : OCT_ERR_MACHINE;
}

static oct_status fail(const oct_communicator *communicator, oct_status status, ncclResult_t result, const char *doing)
{
    const char *detail = ncclGetLastError(communicator->nccl);
    return oct_fail(status, "NCCL failed while %s: %s%s%s (NCCL_DEBUG=WARN says more)", doing,
                    ncclGetErrorString(result), detail[0] != '\0' ? ": " : "", detail);
}

static ncclResult_t state_of(const oct_communicator *communicator)
{
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = ncclCommGetAsyncError(communicator->nccl, &state);
    return result != ncclSuccess ? result : state;
}

static oct_status expired(const oct_world *world, const char *doing)
{
    return oct_fail(OCT_ERR_LOST,
                    "a rank did not come within %.1f s while %s, or there is no way to it (NCCL_DEBUG=INFO says what "
                    "NCCL tries, NCCL_SOCKET_IFNAME names the network, --deadline changes the time)",
                    world->options.start_deadline_s, doing);
}

// Polls until the result is not ncclInProgress, or the wait has to be given up; *told: so because another rank says
// that it has failed (NULL: nobody does).
static oct_status await_result(oct_communicator *communicator, ncclResult_t *result, const char *doing, bool *told)
{
    oct_world *world = communicator->world;
    const int64_t limit_ns = (int64_t)(world->options.start_deadline_s * 1e9), began_ns = oct_now_ns();
    oct_wait wait = oct_wait_begin(-1);
    oct_status status = OCT_OK;
    while (status == OCT_OK && *result == ncclInProgress) {
        int found = 0;
        if (told != NULL)
            MPI_Iprobe(MPI_ANY_SOURCE, FAILED_TAG, world->all, &found, MPI_STATUS_IGNORE);
        if (found) {
            *told = true;
            break;
        }
        if (limit_ns > 0 && oct_now_ns() - began_ns > limit_ns)
            status = expired(world, doing);
        else
            status = oct_wait_poll(&wait);
        *result = state_of(communicator);
    }
    oct_wait_end(&wait);
    communicator->busy = *result != ncclSuccess;
    return status;
}

// Tells the other ranks, which may wait inside NCCL for this one, to come to the agreement.
static void tell_failure(oct_world *world)
{
    for (int rank = 0; rank < world->size; rank++) {
        MPI_Request request;
        if (rank != world->rank && MPI_Isend(NULL, 0, MPI_BYTE, rank, FAILED_TAG, world->all, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
}

// Takes what was told and has arrived: MPI ends better without messages on their way.
static void hear_failures(oct_world *world)
{
    for (int found = 1; found;) {
        MPI_Iprobe(MPI_ANY_SOURCE, FAILED_TAG, world->all, &found, MPI_STATUS_IGNORE);
        if (found)
            MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, FAILED_TAG, world->all, MPI_STATUS_IGNORE);
    }
}

static oct_status share_id(oct_world *world, ncclUniqueId *id)
{
    oct_status status = OCT_OK;
    if (world->rank == 0) {
        const ncclResult_t result = ncclGetUniqueId(id);
        if (result != ncclSuccess)
            status = oct_fail(OCT_ERR_MACHINE, "NCCL has no unique id: %s; expected a network interface that it can "
                                               "use (NCCL_SOCKET_IFNAME names one)",
                              ncclGetErrorString(result));
    }
    status = oct_world_agree(world, status);
    if (status != OCT_OK)
        return status;
    MPI_Request request;
    if (MPI_Ibcast(id, sizeof *id, MPI_BYTE, 0, world->all, &request) != MPI_SUCCESS)
        return oct_fail(OCT_ERR_LOST, "MPI cannot send NCCL's unique id");
    return oct_wait_request(&request, 0);
}

oct_status oct_communicator_create(oct_communicator *communicator, oct_world *world)
{
    static const char doing[] = "connecting the devices of the ranks";
    *communicator = (oct_communicator){.world = world};
    ncclUniqueId id;
    oct_status status = share_id(world, &id);
    if (status == OCT_ERR_LOST)
        oct_world_abort(world, status);
    if (status != OCT_OK)
        return status;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    bool told = false;
    ncclResult_t result = ncclCommInitRankConfig(&communicator->nccl, world->size, id, world->rank, &config);
    status = await_result(communicator, &result, doing, &told);
    if (status == OCT_OK && !told && result != ncclSuccess) {
        status = fail(communicator, OCT_ERR_MACHINE, result, doing);
        tell_failure(world);
    }
    if (status == OCT_ERR_LOST) // there is nobody to agree with
        oct_world_abort(world, status);
    status = oct_world_agree(world, status);
    hear_failures(world);
    if (status != OCT_OK) {
        communicator->busy = true; // some rank has none: nobody would answer
        oct_communicator_destroy(communicator);
    }
    return status;
}

oct_status oct_communicator_settle(oct_communicator *communicator, ncclResult_t result, const char *doing)
{
    const oct_status status = await_result(communicator, &result, doing, NULL);
    if (status != OCT_OK || result == ncclSuccess)
        return status;
    return fail(communicator, status_of(result), result, doing);
}

oct_status oct_communicator_check(oct_communicator *communicator)
{
    const ncclResult_t state = state_of(communicator);
    const bool sound = state == ncclSuccess || state == ncclInProgress;
    return sound ? OCT_OK : fail(communicator, status_of(state), state, "devices exchanged data");
}

void oct_communicator_destroy(oct_communicator *communicator)
{
    if (communicator->nccl == NULL)
        return;
    bool finished = !communicator->busy;
    if (finished)
        finished = oct_communicator_settle(communicator, ncclCommFinalize(communicator->nccl),
                                           "disconnecting the devices") == OCT_OK;
    if (finished)
        ncclCommDestroy(communicator->nccl);
    else
        ncclCommAbort(communicator->nccl);
    communicator->nccl = NULL;
}
