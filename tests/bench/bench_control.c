// What a step descriptor takes from rank 0 to the last rank through the control channel over UCX, against a bare UCP
// active message of as many bytes with a worker of its own. Both in one run, alternating, medians of 9 repeats.
//
//   mpirun -np 2 bench_control [COLUMNS …]      1 and 8 columns by default
//
// Bare: half a round trip of active messages that both sides wait for by nothing but progress. Octet: the way there by
// oct_control_send() and oct_control_receive() with all their checks, the way back by the bare message, whose half
// round trip is taken off. Leaves with 1 where something else arrives than was sent.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/control_message.h"
#include "ranks/ucx_star.h"
#include "ranks/wait.h"
#include "runtime/bandwidth.h"
#include "tests/bench/rounds.h"

enum { REPEATS = 9, PING = 1 };

typedef struct bench {
    oct_world world;
    oct_control *control;
    oct_ucx_star star;
    uint64_t pings;  // received
    int32_t peer;    // the other of rank 0 and the last rank; elsewhere -1
    uint8_t *buffer; // a message
    oct_control_step *step;
    size_t step_bytes, message_bytes;
    bool same;
} bench;

static const oct_control_limits limits = {.slots = 64, .columns = 4096, .vocabulary = 1000, .context = 8192};

static ucs_status_t on_ping(void *context, const void *header, size_t header_bytes, void *data, size_t bytes,
                            const ucp_am_recv_param_t *parameters)
{
    (void)header;
    (void)header_bytes;
    (void)data;
    (void)bytes;
    (void)parameters;
    ((bench *)context)->pings++;
    return UCS_OK;
}

static void ping(bench *b)
{
    const ucp_request_param_t parameters = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_AM_SEND_FLAG_EAGER};
    void *request = ucp_am_send_nbx(b->star.peers[b->peer].endpoint, PING, NULL, 0, b->buffer, b->message_bytes,
                                    &parameters);
    if (!UCS_PTR_IS_PTR(request))
        return;
    while (ucp_request_check_status(request) == UCS_INPROGRESS)
        ucp_worker_progress(b->star.worker);
    ucp_request_free(request);
}

static void await_ping(bench *b)
{
    for (const uint64_t before = b->pings; b->pings == before;)
        ucp_worker_progress(b->star.worker);
}

static void round_trip_bare(void *context)
{
    bench *b = context;
    if (b->world.rank == 0) {
        ping(b);
        await_ping(b);
    } else if (b->peer == 0) {
        await_ping(b);
        ping(b);
    }
}

static void round_trip_by_channel(void *context)
{
    bench *b = context;
    oct_control_kind kind;
    const void *payload;
    size_t bytes;
    const oct_status status = b->world.rank == 0
                                  ? oct_control_send(b->control, OCT_CONTROL_STEP, b->step, b->step_bytes)
                                  : oct_control_receive(b->control, &kind, &payload, &bytes);
    if (status != OCT_OK)
        oct_world_abort(&b->world, status);
    if (b->world.rank == 0) {
        await_ping(b);
        return;
    }
    if (b->peer == 0)
        ping(b);
    b->same = b->same && bytes == b->step_bytes && memcmp(payload, b->step, bytes) == 0;
}

static void measure(bench *b, int32_t columns)
{
    double ours[REPEATS], bare[REPEATS], ratio[REPEATS];
    b->step->count = columns;
    for (int32_t i = 0; i < columns; i++)
        b->step->columns[i] = (oct_control_column){
            .token = i % limits.vocabulary, .slot = i % limits.slots, .want = OCT_WANT_TOKEN};
    b->step_bytes = oct_control_step_bytes(columns, 0);
    oct_control_pack(b->buffer, &b->message_bytes, &limits, 1, OCT_CONTROL_STEP, b->step, b->step_bytes);
    nanoseconds_of(&b->world, round_trip_bare, b);
    nanoseconds_of(&b->world, round_trip_by_channel, b);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        bare[repeat] = nanoseconds_of(&b->world, round_trip_bare, b) / 2;
        ours[repeat] = nanoseconds_of(&b->world, round_trip_by_channel, b) - bare[repeat];
        ratio[repeat] = ours[repeat] / bare[repeat];
    }
    if (b->world.rank != 0)
        return;
    const double middle = oct_percentile(ratio, REPEATS, 50);
    printf("%4d columns, %5zu bytes: octet %7.1f ns, bare %7.1f ns, ratio %.2f (%.2f .. %.2f)\n", columns,
           b->message_bytes, oct_percentile(ours, REPEATS, 50), oct_percentile(bare, REPEATS, 50), middle, ratio[0],
           ratio[REPEATS - 1]);
}

static oct_status prepare(bench *b)
{
    const int32_t last = b->world.size - 1;
    b->same = true;
    b->peer = b->world.rank == 0 ? last : b->world.rank == last ? 0 : -1;
    b->buffer = calloc(2, oct_control_message_bytes(&limits));
    b->step = calloc(2, oct_control_message_bytes(&limits));
    oct_status status = oct_control_open(&b->control, &b->world, OCT_CONTROL_UCX, &limits);
    if (status == OCT_OK)
        status = oct_world_agree(&b->world, oct_ucx_star_start(&b->star, &b->world));
    if (status == OCT_OK)
        status = oct_world_agree(&b->world, oct_ucx_star_listen(&b->star, PING, on_ping, b));
    return status == OCT_OK ? oct_world_agree(&b->world, oct_ucx_star_connect(&b->star)) : status;
}

int main(int argc, char **argv)
{
    static bench b;
    const oct_world_options options = oct_world_options_deadline(0); // what spins here makes no progress to be seen
    if (oct_world_init(&b.world, &options) != OCT_OK)
        return 3;
    bool ready = b.world.size > 1 && b.world.host_count == 1;
    if (!ready)
        fprintf(stderr, "bench_control: expected ranks of one host: mpirun -np 2 bench_control\n");
    ready = ready && prepare(&b) == OCT_OK;
    oct_wait_configure(false);
    oct_progress_phase(OCT_PHASE_DECODE);
    for (int i = 1; ready && i < (argc > 1 ? argc : 3); i++)
        measure(&b, argc > 1 ? atoi(argv[i]) : i == 1 ? 1 : 8);
    if (ready && !b.same)
        fprintf(stderr, "bench_control: rank %d: something else arrived than was sent\n", b.world.rank);
    MPI_Barrier(b.world.all); // a worker that stops looks like a lost rank
    oct_ucx_star_stop(&b.star);
    oct_control_close(b.control);
    oct_world_finish(&b.world);
    free(b.buffer);
    free(b.step);
    return ready && b.same ? 0 : 1;
}
