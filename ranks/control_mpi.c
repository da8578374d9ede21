// The control channel over MPI: point-to-point messages from rank 0 to each rank, in two buffers in turn, so
// that sending the next message waits only for the one before the last.
#include "ranks/control.h"

#include <stdlib.h>
#include <string.h>

#include "ranks/wait.h"

enum { CONTROL_TAG = 7 };

typedef struct message_header {
    int32_t kind;
    int32_t bytes;
} message_header;

struct oct_control {
    oct_world *world;
    size_t max_bytes;
    uint8_t *buffers[2];   // rank 0: messages under way; others: the first holds the message received
    MPI_Request *requests; // rank 0: [2][ranks]
    int32_t next;
};

oct_status oct_control_open(oct_control **out, oct_world *world, size_t max_bytes)
{
    oct_control *control = calloc(1, sizeof *control);
    oct_status status = OCT_OK;
    const size_t ranks = (size_t)world->size;
    if (control != NULL) {
        control->world = world;
        control->max_bytes = max_bytes;
        control->requests = malloc(2 * ranks * sizeof *control->requests);
        for (size_t i = 0; control->requests != NULL && i < 2 * ranks; i++)
            control->requests[i] = MPI_REQUEST_NULL;
        for (int i = 0; i < 2; i++)
            control->buffers[i] = malloc(sizeof(message_header) + max_bytes);
    }
    if (control == NULL || control->requests == NULL || control->buffers[0] == NULL || control->buffers[1] == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory for the control channel");
    status = oct_world_agree(world, status);
    if (status != OCT_OK) {
        oct_control_close(control);
        return status;
    }
    *out = control;
    return OCT_OK;
}

void oct_control_close(oct_control *control)
{
    if (control == NULL)
        return;
    for (int i = 0; i < 2; i++)
        free(control->buffers[i]);
    free(control->requests);
    free(control);
}

oct_status oct_control_send(oct_control *control, oct_control_kind kind, const void *payload, size_t bytes)
{
    const int32_t ranks = control->world->size;
    MPI_Request *requests = control->requests + (size_t)control->next * (size_t)ranks;
    uint8_t *buffer = control->buffers[control->next];
    if (bytes > control->max_bytes)
        return oct_fail(OCT_ERR_INTERNAL, "a control message of %zu bytes passes the limit of %zu", bytes,
                        control->max_bytes);
    for (int32_t rank = 1; rank < ranks; rank++) {
        const oct_status status = oct_wait_request(&requests[rank], rank);
        if (status != OCT_OK)
            return status;
    }
    const message_header header = {.kind = (int32_t)kind, .bytes = (int32_t)bytes};
    memcpy(buffer, &header, sizeof header);
    if (bytes > 0)
        memcpy(buffer + sizeof header, payload, bytes);
    for (int32_t rank = 1; rank < ranks; rank++) {
        const int code = MPI_Isend(buffer, (int)(sizeof header + bytes), MPI_BYTE, rank, CONTROL_TAG,
                                   control->world->all, &requests[rank]);
        if (code != MPI_SUCCESS)
            return oct_fail(OCT_ERR_LOST, "MPI cannot send a control message to rank %d", rank);
    }
    control->next ^= 1;
    if (kind != OCT_CONTROL_FINISH)
        return OCT_OK;
    for (int32_t rank = 1; rank < ranks; rank++) {
        const oct_status status = oct_wait_request(&requests[rank], rank);
        if (status != OCT_OK)
            return status;
    }
    return OCT_OK;
}

oct_status oct_control_receive(oct_control *control, oct_control_kind *kind, const void **payload, size_t *bytes)
{
    MPI_Request request;
    uint8_t *buffer = control->buffers[0];
    memset(buffer, 0, sizeof(message_header));
    const int code = MPI_Irecv(buffer, (int)(sizeof(message_header) + control->max_bytes), MPI_BYTE, 0, CONTROL_TAG,
                               control->world->all, &request);
    if (code != MPI_SUCCESS)
        return oct_fail(OCT_ERR_LOST, "MPI cannot receive control messages");
    const oct_status status = oct_wait_request(&request, 0);
    if (status != OCT_OK)
        return status;
    message_header header;
    memcpy(&header, buffer, sizeof header);
    if (header.kind < 0 || header.kind > OCT_CONTROL_FINISH || header.bytes < 0 ||
        (size_t)header.bytes > control->max_bytes)
        return oct_fail(OCT_ERR_INTERNAL, "rank %d received a malformed control message (kind %d, %d bytes)",
                        control->world->rank, header.kind, header.bytes);
    *kind = (oct_control_kind)header.kind;
    *payload = buffer + sizeof header;
    *bytes = (size_t)header.bytes;
    return OCT_OK;
}
