// The control channel over UCX active messages.
//
// A message travels in chunks that fit one packet of any transport, always sent eagerly: UCX then neither allocates nor
// asks back (rendezvous), and a chunk says to which message it belongs and where, so that the order in which chunks
// arrive does not matter. A rank has room for WINDOW messages and tells rank 0 now and then how many it has taken;
// rank 0 sends no more than fit. So a receiver that computes may be sent to, and nothing is allocated on the way.
#include <stdlib.h>
#include <string.h>

#include "ranks/control_carrier.h"
#include "ranks/ucx_star.h"
#include "ranks/wait.h"

enum {
    CHUNK_ID = 1,
    TAKEN_ID = 2,
    WINDOW = 8,         // messages
    CHUNK_BYTES = 3584, // with UCX's headers below the 4096 bytes of the smallest packets (InfiniBand UD)
    HELLO_BYTES = 8
};
static const int64_t hello_ns = 10000000000; // a longer round trip at start-up is none

typedef struct chunk_header {
    uint64_t number; // of the message, from 1
    uint32_t offset; // of the chunk in the message
    uint32_t bytes;  // of the whole message
} chunk_header;

typedef struct taken_header {
    uint64_t arrived; // messages that the rank has
    uint64_t taken;   // of them, those that it does not need any more
    int32_t rank;
} taken_header;

// A message as it arrives.
typedef struct arrival {
    uint8_t *message; // [message_bytes]
    uint64_t number;
    uint32_t bytes, arrived;
} arrival;

typedef struct ucx_carrier {
    oct_world *world;
    oct_ucx_star star;
    oct_wait_mover mover;
    size_t message_bytes;
    bool watched;     // a lost peer is a lost job (not while the channel opens or closes)
    int64_t until_ns; // when to give up waiting for the first messages, 0: the monitor's affair
    int32_t *sending; // [ranks] messages to a rank that UCX has not taken over yet
    const char *odd;  // what has arrived that nobody sends, or NULL

    // Rank 0.
    uint8_t *message;
    chunk_header *headers; // of its chunks
    uint64_t sent;         // messages
    uint64_t *arrived;     // [ranks] how many of them each has, as far as it has said so
    uint64_t *taken;       // [ranks] of those, how many it does not need any more

    // The other ranks.
    arrival arrivals[WINDOW]; // message n is in n mod WINDOW
    uint64_t read, told;      // messages given to the caller; of those, what rank 0 knows that it may replace
    taken_header taken_now;
} ucx_carrier;

static oct_status check(const ucx_carrier *carrier)
{
    if (carrier->odd != NULL)
        return oct_fail(OCT_ERR_INTERNAL, "UCX delivered to rank %d what is no part of a control message: %s",
                        carrier->world->rank, carrier->odd);
    const int32_t lost = carrier->star.lost_rank;
    if (lost < 0)
        return OCT_OK;
    return oct_fail(carrier->watched ? OCT_ERR_LOST : OCT_ERR_MACHINE, "rank %d on host %s was lost: UCX says \"%s\"",
                    lost, carrier->world->host_names[carrier->world->host_of_rank[lost]],
                    ucs_status_string(carrier->star.lost_status));
}

// In every wait of this thread.
static oct_status move(void *context)
{
    ucx_carrier *carrier = context;
    ucp_worker_progress(carrier->star.worker);
    return carrier->watched ? check(carrier) : OCT_OK;
}

// Progresses UCX until done(carrier, rank), which `rank` will bring about.
static oct_status await(ucx_carrier *carrier, int32_t rank, bool (*done)(ucx_carrier *carrier, int32_t rank))
{
    if (done(carrier, rank))
        return OCT_OK;
    oct_wait wait = oct_wait_begin(rank);
    oct_status status = OCT_OK;
    for (;;) {
        ucp_worker_progress(carrier->star.worker);
        if (done(carrier, rank))
            break;
        status = check(carrier);
        if (status == OCT_OK && carrier->until_ns != 0 && oct_now_ns() > carrier->until_ns)
            status = oct_fail(OCT_ERR_MACHINE, "UCX carries no message between rank %d and rank %d within %lld s; use "
                              "--control mpi, or see ucx_info -d", carrier->world->rank, rank,
                              (long long)(hello_ns / 1000000000));
        if (status == OCT_OK)
            status = oct_wait_poll(&wait);
        if (status != OCT_OK)
            break;
    }
    oct_wait_end(&wait);
    return status;
}

// Whether a chunk is one, and has its place.
static const char *odd_chunk(const ucx_carrier *carrier, const void *header, size_t header_bytes, size_t bytes,
                             uint64_t attributes)
{
    chunk_header chunk;
    if (header_bytes != sizeof chunk || (attributes & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0)
        return "a header of another length, or a rendezvous";
    memcpy(&chunk, header, sizeof chunk);
    if (chunk.number <= carrier->told || chunk.number > carrier->told + WINDOW)
        return "a message for which there is no room";
    if (chunk.bytes == 0 || chunk.bytes > carrier->message_bytes || bytes == 0 || bytes > chunk.bytes ||
        chunk.offset > chunk.bytes - bytes)
        return "a chunk that does not fit its message";
    const arrival *at = &carrier->arrivals[chunk.number % WINDOW];
    if (at->number == chunk.number && (at->bytes != chunk.bytes || bytes > at->bytes - at->arrived))
        return "chunks of two messages of one number";
    return NULL;
}

static ucs_status_t on_chunk(void *context, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *parameters)
{
    ucx_carrier *carrier = context;
    const char *odd = odd_chunk(carrier, header, header_bytes, bytes, parameters->recv_attr);
    if (odd != NULL) {
        carrier->odd = odd;
        return UCS_OK;
    }
    chunk_header chunk;
    memcpy(&chunk, header, sizeof chunk);
    arrival *at = &carrier->arrivals[chunk.number % WINDOW];
    if (at->number != chunk.number) {
        at->number = chunk.number;
        at->bytes = chunk.bytes;
        at->arrived = 0;
    }
    memcpy(at->message + chunk.offset, data, bytes);
    at->arrived += (uint32_t)bytes;
    return UCS_OK;
}

static ucs_status_t on_taken(void *context, const void *header, size_t header_bytes, void *data, size_t bytes,
                             const ucp_am_recv_param_t *parameters)
{
    (void)data;
    (void)parameters;
    ucx_carrier *carrier = context;
    taken_header taken;
    if (header_bytes != sizeof taken || bytes != 0) {
        carrier->odd = "an acknowledgement of another length";
        return UCS_OK;
    }
    memcpy(&taken, header, sizeof taken);
    if (taken.rank < 1 || taken.rank >= carrier->world->size || taken.arrived > carrier->sent ||
        taken.arrived < carrier->arrived[taken.rank] || taken.taken > taken.arrived ||
        taken.taken < carrier->taken[taken.rank]) {
        carrier->odd = "an acknowledgement of what was not sent";
        return UCS_OK;
    }
    carrier->arrived[taken.rank] = taken.arrived;
    carrier->taken[taken.rank] = taken.taken;
    return UCS_OK;
}

static void on_sent(void *request, ucs_status_t status, void *context)
{
    (void)status; // a failure of a peer is told to the endpoint's handler
    int32_t *sending = context;
    --*sending;
    ucp_request_free(request);
}

// What UCX said to a request for a rank.
static oct_status note_request(ucx_carrier *carrier, int32_t rank, void *request)
{
    if (UCS_PTR_IS_ERR(request)) {
        const oct_status status = check(carrier); // the endpoint's handler may know why
        return status != OCT_OK ? status
                                : oct_fail(carrier->watched ? OCT_ERR_LOST : OCT_ERR_MACHINE,
                                           "UCX cannot send a control message to rank %d: %s", rank,
                                           ucs_status_string(UCS_PTR_STATUS(request)));
    }
    if (request != NULL)
        carrier->sending[rank]++;
    return OCT_OK;
}

// Sends header and data, which must stay as they are while carrier->sending[rank] is not 0.
static oct_status post(ucx_carrier *carrier, int32_t rank, unsigned id, const void *header, size_t header_bytes,
                       const void *data, size_t bytes)
{
    const ucp_request_param_t parameters = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .flags = UCP_AM_SEND_FLAG_EAGER,
        .cb.send = on_sent,
        .user_data = &carrier->sending[rank],
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };
    const ucp_ep_h endpoint = carrier->star.peers[rank].endpoint;
    return note_request(carrier, rank, ucp_am_send_nbx(endpoint, id, header, header_bytes, data, bytes, &parameters));
}

static bool is_sent(ucx_carrier *carrier, int32_t rank)
{
    return carrier->sending[rank] == 0;
}

static bool has_room(ucx_carrier *carrier, int32_t rank)
{
    return carrier->sent - carrier->taken[rank] < WINDOW;
}

static bool has_all(ucx_carrier *carrier, int32_t rank)
{
    return carrier->arrived[rank] == carrier->sent;
}

static oct_status prepare_ucx(void *state, uint8_t **message)
{
    *message = ((ucx_carrier *)state)->message;
    return OCT_OK;
}

static oct_status send_ucx(void *state, size_t bytes)
{
    ucx_carrier *carrier = state;
    const int32_t ranks = carrier->world->size;
    oct_status status = OCT_OK;
    for (int32_t rank = 1; status == OCT_OK && rank < ranks; rank++)
        status = await(carrier, rank, has_room);
    carrier->sent++;
    size_t chunk = 0;
    for (size_t offset = 0; offset < bytes; offset += CHUNK_BYTES, chunk++) {
        carrier->headers[chunk] =
            (chunk_header){.number = carrier->sent, .offset = (uint32_t)offset, .bytes = (uint32_t)bytes};
        const size_t rest = bytes - offset;
        for (int32_t rank = 1; status == OCT_OK && rank < ranks; rank++)
            status = post(carrier, rank, CHUNK_ID, &carrier->headers[chunk], sizeof carrier->headers[chunk],
                          carrier->message + offset, rest < CHUNK_BYTES ? rest : CHUNK_BYTES);
    }
    for (int32_t rank = 1; status == OCT_OK && rank < ranks; rank++)
        status = await(carrier, rank, is_sent);
    // Over TCP the end of a long message may wait in UCX for the next progress, which may be after the step.
    for (int32_t rank = 1; status == OCT_OK && chunk > 1 && rank < ranks; rank++)
        status = await(carrier, rank, has_all);
    return status;
}

// Tells rank 0 what has arrived, and that the first `taken` messages may be replaced.
static oct_status tell_taken(ucx_carrier *carrier, uint64_t taken)
{
    const oct_status status = await(carrier, 0, is_sent); // the last word about it
    if (status != OCT_OK)
        return status;
    carrier->told = taken;
    carrier->taken_now = (taken_header){.arrived = carrier->read, .taken = taken, .rank = carrier->world->rank};
    return post(carrier, 0, TAKEN_ID, &carrier->taken_now, sizeof carrier->taken_now, NULL, 0);
}

static bool next_is_here(ucx_carrier *carrier, int32_t rank)
{
    (void)rank;
    const uint64_t next = carrier->read + 1;
    const arrival *at = &carrier->arrivals[next % WINDOW];
    return at->number == next && at->arrived == at->bytes;
}

static oct_status receive_ucx(void *state, const uint8_t **message, size_t *bytes)
{
    ucx_carrier *carrier = state;
    oct_status status = OCT_OK;
    if (carrier->read - carrier->told >= WINDOW / 2)
        status = tell_taken(carrier, carrier->read);
    if (status == OCT_OK)
        status = await(carrier, 0, next_is_here);
    if (status != OCT_OK)
        return status;
    const arrival *at = &carrier->arrivals[++carrier->read % WINDOW];
    *message = at->message;
    *bytes = at->bytes;
    return at->bytes > CHUNK_BYTES ? tell_taken(carrier, carrier->read - 1) : OCT_OK; // rank 0 waits for it
}

static oct_status allocate(ucx_carrier *carrier)
{
    const size_t ranks = (size_t)carrier->world->size, bytes = carrier->message_bytes;
    carrier->sending = calloc(ranks, sizeof *carrier->sending);
    carrier->arrived = calloc(ranks, sizeof *carrier->arrived);
    carrier->taken = calloc(ranks, sizeof *carrier->taken);
    carrier->headers = calloc(bytes / CHUNK_BYTES + 1, sizeof *carrier->headers);
    carrier->message = calloc(1, bytes);
    bool complete = carrier->sending != NULL && carrier->arrived != NULL && carrier->taken != NULL &&
                    carrier->headers != NULL && carrier->message != NULL;
    for (int i = 0; carrier->world->rank != 0 && i < WINDOW; i++) {
        carrier->arrivals[i].message = calloc(1, bytes);
        complete = complete && carrier->arrivals[i].message != NULL;
    }
    return complete ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for control messages of %zu bytes", bytes);
}

static void free_all(ucx_carrier *carrier)
{
    if (carrier == NULL)
        return;
    oct_wait_detach(&carrier->mover);
    oct_ucx_star_stop(&carrier->star);
    free(carrier->sending);
    free(carrier->arrived);
    free(carrier->taken);
    free(carrier->headers);
    free(carrier->message);
    for (int i = 0; i < WINDOW; i++)
        free(carrier->arrivals[i].message);
    free(carrier);
}

static oct_status start(ucx_carrier *carrier, oct_world *world, size_t message_bytes)
{
    carrier->world = world;
    carrier->message_bytes = message_bytes;
    carrier->mover = (oct_wait_mover){.move = move, .context = carrier};
    oct_status status = allocate(carrier);
    if (status == OCT_OK)
        status = oct_ucx_star_start(&carrier->star, world);
    if (status == OCT_OK)
        status = world->rank == 0 ? oct_ucx_star_listen(&carrier->star, TAKEN_ID, on_taken, carrier)
                                  : oct_ucx_star_listen(&carrier->star, CHUNK_ID, on_chunk, carrier);
    if (status == OCT_OK)
        oct_wait_attach(&carrier->mover);
    return status;
}

// A message to everyone and its acknowledgement: all ways are there, and connected before the first step.
static oct_status greet(ucx_carrier *carrier)
{
    const uint8_t *message;
    size_t bytes;
    carrier->until_ns = oct_now_ns() + hello_ns;
    oct_status status = carrier->world->rank == 0 ? send_ucx(carrier, HELLO_BYTES)
                                                  : receive_ucx(carrier, &message, &bytes);
    if (status == OCT_OK && carrier->world->rank != 0)
        status = tell_taken(carrier, carrier->read);
    for (int32_t rank = 1; status == OCT_OK && carrier->world->rank == 0 && rank < carrier->world->size; rank++)
        status = await(carrier, rank, has_all);
    carrier->until_ns = 0;
    return status;
}

static oct_status agree(oct_world *world, oct_status status)
{
    int fails = status != OCT_OK;
    oct_world_allreduce(world, &fails, 1, MPI_INT, MPI_MAX);
    return fails ? OCT_ERR_MACHINE : OCT_OK;
}

static oct_status open_ucx(void **state, oct_world *world, size_t message_bytes)
{
    ucx_carrier *carrier = calloc(1, sizeof *carrier);
    oct_status status = carrier != NULL ? start(carrier, world, message_bytes)
                                        : oct_fail(OCT_ERR_MACHINE, "no memory for the control channel");
    status = agree(world, status);
    if (status == OCT_OK)
        status = agree(world, oct_ucx_star_connect(&carrier->star));
    if (status == OCT_OK)
        status = agree(world, greet(carrier));
    if (status != OCT_OK) {
        free_all(carrier);
        return status;
    }
    carrier->watched = true;
    *state = carrier;
    return OCT_OK;
}

// Ranks do not close at the same moment, and a closed endpoint looks like a lost rank to its peer: all stop watching
// before anyone closes.
static void close_ucx(void *state)
{
    ucx_carrier *carrier = state;
    carrier->watched = false;
    agree(carrier->world, OCT_OK);
    free_all(carrier);
}

const oct_control_carrier oct_control_ucx = {
    .name = "ucx",
    .open = open_ucx,
    .close = close_ucx,
    .prepare = prepare_ucx,
    .send = send_ucx,
    .receive = receive_ucx,
};
