// The control channel over MPI: point-to-point messages from rank 0 to each rank, in two buffers in turn, so
// that sending the next message waits only for the one before the last.
#include <stdlib.h>
#include <string.h>

#include "ranks/control_carrier.h"
#include "ranks/wait.h"

enum { CONTROL_TAG = 7 };

typedef struct mpi_carrier {
    oct_world *world;
    size_t message_bytes;
    uint8_t *buffers[2];   // rank 0: messages under way; others: the first holds the message received
    MPI_Request *requests; // rank 0: [2][ranks]
    int32_t next;
} mpi_carrier;

static void free_all(mpi_carrier *carrier)
{
    if (carrier == NULL)
        return;
    for (int i = 0; i < 2; i++)
        free(carrier->buffers[i]);
    free(carrier->requests);
    free(carrier);
}

static oct_status open_mpi(void **state, oct_world *world, size_t message_bytes)
{
    mpi_carrier *carrier = calloc(1, sizeof *carrier);
    const size_t ranks = (size_t)world->size;
    if (carrier != NULL) {
        carrier->world = world;
        carrier->message_bytes = message_bytes;
        carrier->requests = malloc(2 * ranks * sizeof *carrier->requests);
        for (size_t i = 0; carrier->requests != NULL && i < 2 * ranks; i++)
            carrier->requests[i] = MPI_REQUEST_NULL;
        for (int i = 0; i < 2; i++)
            carrier->buffers[i] = malloc(message_bytes);
    }
    int failed = carrier == NULL || carrier->requests == NULL || carrier->buffers[0] == NULL ||
                 carrier->buffers[1] == NULL;
    if (failed)
        oct_fail(OCT_ERR_MACHINE, "no memory for control messages of %zu bytes", message_bytes);
    oct_world_allreduce(world, &failed, 1, MPI_INT, MPI_MAX);
    if (failed) {
        free_all(carrier);
        return OCT_ERR_MACHINE;
    }
    *state = carrier;
    return OCT_OK;
}

// Waits until all ranks have one of the buffers' message.
static oct_status complete(mpi_carrier *carrier, int32_t buffer)
{
    MPI_Request *requests = carrier->requests + (size_t)buffer * (size_t)carrier->world->size;
    oct_status status = OCT_OK;
    for (int32_t rank = 1; status == OCT_OK && rank < carrier->world->size; rank++)
        status = oct_wait_request(&requests[rank], rank);
    return status;
}

static void close_mpi(void *state)
{
    mpi_carrier *carrier = state;
    oct_status status = complete(carrier, 0);
    if (status == OCT_OK)
        status = complete(carrier, 1);
    if (status != OCT_OK)
        oct_world_abort(carrier->world, status);
    free_all(carrier);
}

static oct_status prepare_mpi(void *state, uint8_t **message)
{
    mpi_carrier *carrier = state;
    const oct_status status = complete(carrier, carrier->next);
    *message = carrier->buffers[carrier->next];
    return status;
}

static oct_status send_mpi(void *state, size_t bytes)
{
    mpi_carrier *carrier = state;
    const int32_t ranks = carrier->world->size;
    MPI_Request *requests = carrier->requests + (size_t)carrier->next * (size_t)ranks;
    for (int32_t rank = 1; rank < ranks; rank++)
        if (MPI_Isend(carrier->buffers[carrier->next], (int)bytes, MPI_BYTE, rank, CONTROL_TAG, carrier->world->all,
                      &requests[rank]) != MPI_SUCCESS)
            return oct_fail(OCT_ERR_LOST, "MPI cannot send a control message to rank %d", rank);
    carrier->next ^= 1;
    return OCT_OK;
}

static oct_status receive_mpi(void *state, const uint8_t **message, size_t *bytes)
{
    mpi_carrier *carrier = state;
    MPI_Request request;
    MPI_Status arrived;
    if (MPI_Irecv(carrier->buffers[0], (int)carrier->message_bytes, MPI_BYTE, 0, CONTROL_TAG, carrier->world->all,
                  &request) != MPI_SUCCESS)
        return oct_fail(OCT_ERR_LOST, "MPI cannot receive control messages");
    const oct_status status = oct_wait_arrival(&request, 0, &arrived);
    if (status != OCT_OK)
        return status;
    int count = 0;
    MPI_Get_count(&arrived, MPI_BYTE, &count);
    *message = carrier->buffers[0];
    *bytes = (size_t)count;
    return OCT_OK;
}

const oct_control_carrier oct_control_mpi = {
    .name = "mpi",
    .open = open_mpi,
    .close = close_mpi,
    .prepare = prepare_mpi,
    .send = send_mpi,
    .receive = receive_mpi,
};
