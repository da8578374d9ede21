// Starting, connecting and stopping a UCP worker; the settings that Octet's own UCX has.
#include "ranks/ucx_star.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>

#include "ranks/control.h"
#include "ranks/wait.h"

enum { CLOSE_NS = 1000000000 };

void oct_control_restore_signals(void)
{
    static const int caught[] = {SIGHUP, SIGILL, SIGBUS, SIGFPE, SIGSEGV}; // unless UCX_… says otherwise
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        struct sigaction action;
        if (sigaction(caught[i], NULL, &action) == 0 && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN)
            ucs_debug_disable_signal(caught[i]);
    }
}

static oct_status failed(const char *what, ucs_status_t status)
{
    return oct_fail(OCT_ERR_MACHINE, "UCX %s: %s fails: %s; use --control mpi, or see ucx_info -d",
                    ucp_get_version_string(), what, ucs_status_string(status));
}

// Peers are watched over shared memory only on demand, and every 20 s by default.
static oct_status read_settings(ucp_config_t **config)
{
    static const char *const settings[][2] = {{"MM_ERROR_HANDLING", "y"}, {"KEEPALIVE_INTERVAL", "100ms"}};
    ucs_status_t status = ucp_config_read("OCTET", NULL, config);
    if (status != UCS_OK)
        return failed("reading OCTET_UCX_…", status);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        status = ucp_config_modify(*config, settings[i][0], settings[i][1]);
        if (status != UCS_OK) {
            ucp_config_release(*config);
            return failed(settings[i][0], status);
        }
    }
    return OCT_OK;
}

static oct_status make_worker(oct_ucx_star *star, const ucp_config_t *config)
{
    const ucp_params_t context = {.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
                                  .features = UCP_FEATURE_AM,
                                  .estimated_num_eps = star->world->rank == 0 ? (size_t)star->world->size : 1};
    const ucp_worker_params_t worker = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                        .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucs_status_t status = ucp_init(&context, config, &star->context);
    if (status != UCS_OK)
        return failed("its start", status);
    status = ucp_worker_create(star->context, &worker, &star->worker);
    return status == UCS_OK ? OCT_OK : failed("making a worker", status);
}

// What UCX says while it starts. By itself it writes to stdout, where only results belong; and it complains about our
// own settings where somebody's choice of transports leaves out those that they are for.
static ucs_log_func_rc_t on_words(const char *file, unsigned line, const char *function, ucs_log_level_t level,
                                  const ucs_log_component_config_t *component, const char *format, va_list values)
{
    (void)file;
    (void)line;
    (void)function;
    (void)level;
    (void)component;
    char text[512];
    vsnprintf(text, sizeof text, format, values);
    oct_note("UCX: %s", text);
    return UCS_LOG_FUNC_RC_STOP;
}

static oct_status start(oct_ucx_star *star, oct_world *world)
{
    *star = (oct_ucx_star){.world = world, .lost_rank = -1};
    star->peers = calloc((size_t)world->size, sizeof *star->peers);
    if (star->peers == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a table of %d ranks", world->size);
    for (int32_t rank = 0; rank < world->size; rank++)
        star->peers[rank] = (oct_ucx_peer){.star = star, .rank = rank};
    ucp_config_t *config;
    oct_status status = read_settings(&config);
    if (status != OCT_OK)
        return status;
    status = make_worker(star, config);
    ucp_config_release(config);
    return status;
}

oct_status oct_ucx_star_start(oct_ucx_star *star, oct_world *world)
{
    ucs_log_push_handler(on_words);
    const oct_status status = start(star, world);
    ucs_log_pop_handler();
    return status;
}

oct_status oct_ucx_star_listen(oct_ucx_star *star, unsigned id, ucp_am_recv_callback_t callback, void *context)
{
    const ucp_am_handler_param_t parameters = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                                                             UCP_AM_HANDLER_PARAM_FIELD_CB |
                                                             UCP_AM_HANDLER_PARAM_FIELD_ARG,
                                               .id = id,
                                               .cb = callback,
                                               .arg = context};
    const ucs_status_t status = ucp_worker_set_am_recv_handler(star->worker, &parameters);
    return status == UCS_OK ? OCT_OK : failed("a handler of active messages", status);
}

// An address of the worker, or NULL; to be released with ucp_worker_release_address().
static ucp_address_t *find_address(oct_ucx_star *star, bool network_only, size_t *bytes)
{
    ucp_worker_attr_t attributes = {.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS};
    if (network_only) {
        attributes.field_mask |= UCP_WORKER_ATTR_FIELD_ADDRESS_FLAGS;
        attributes.address_flags = UCP_WORKER_ADDRESS_FLAG_NET_ONLY;
    }
    const ucs_status_t status = ucp_worker_query(star->worker, &attributes);
    *bytes = status == UCS_OK ? attributes.address_length : 0;
    if (status == UCS_OK)
        return attributes.address;
    failed(network_only ? "the address for other hosts" : "the worker's address", status);
    return NULL;
}

// Every rank's address for its own host and, behind it, that for other hosts: [size][2][*bytes], to be freed. NULL
// where one of this rank's is missing. COLLECTIVE.
static uint8_t *gather_addresses(oct_ucx_star *star, uint64_t *bytes)
{
    oct_world *world = star->world;
    size_t lengths[2];
    ucp_address_t *own[2] = {find_address(star, false, &lengths[0]), find_address(star, true, &lengths[1])};
    const size_t ranks = (size_t)world->size;
    *bytes = lengths[0] > lengths[1] ? lengths[0] : lengths[1];
    oct_world_allreduce(world, bytes, 1, MPI_UINT64_T, MPI_MAX);
    uint8_t *all = calloc(ranks, 2 * *bytes);
    if (all == NULL)
        oct_world_abort(world, oct_fail(OCT_ERR_MACHINE, "no memory for the addresses of %zu ranks", ranks));
    for (int i = 0; i < 2; i++)
        if (own[i] != NULL)
            memcpy(all + ((size_t)world->rank * 2 + (size_t)i) * *bytes, own[i], lengths[i]);
    MPI_Request request;
    const int count = (int)(2 * *bytes);
    oct_status status = OCT_ERR_LOST;
    if (MPI_Iallgather(MPI_IN_PLACE, count, MPI_BYTE, all, count, MPI_BYTE, world->all, &request) == MPI_SUCCESS)
        status = oct_wait_request(&request, -1);
    if (status != OCT_OK)
        oct_world_abort(world, status);
    const bool complete = own[0] != NULL && own[1] != NULL;
    for (int i = 0; i < 2; i++)
        if (own[i] != NULL)
            ucp_worker_release_address(star->worker, own[i]);
    if (complete)
        return all;
    free(all);
    return NULL;
}

static void on_lost(void *context, ucp_ep_h endpoint, ucs_status_t status)
{
    (void)endpoint;
    const oct_ucx_peer *peer = context;
    if (peer->star->lost_rank >= 0)
        return; // the first one is the cause
    peer->star->lost_rank = peer->rank;
    peer->star->lost_status = status;
}

static oct_status connect_peer(oct_ucx_star *star, int32_t rank, const uint8_t *addresses, uint64_t bytes)
{
    const oct_world *world = star->world;
    const bool near = world->host_of_rank[rank] == world->host_index;
    const ucp_ep_params_t parameters = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = (const ucp_address_t *)(addresses + ((size_t)rank * 2 + (near ? 0 : 1)) * bytes),
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_lost, .arg = &star->peers[rank]},
    };
    const ucs_status_t status = ucp_ep_create(star->worker, &parameters, &star->peers[rank].endpoint);
    if (status == UCS_OK)
        return OCT_OK;
    star->peers[rank].endpoint = NULL;
    return oct_fail(OCT_ERR_MACHINE, "UCX %s finds no way to rank %d on host %s that notices its loss (%s); use "
                    "--control mpi, or see ucx_info -d", ucp_get_version_string(), rank,
                    world->host_names[world->host_of_rank[rank]], ucs_status_string(status));
}

oct_status oct_ucx_star_connect(oct_ucx_star *star)
{
    uint64_t bytes = 0;
    uint8_t *addresses = gather_addresses(star, &bytes);
    oct_status status = addresses == NULL ? OCT_ERR_MACHINE : OCT_OK;
    const int32_t first = star->world->rank == 0 ? 1 : 0, end = star->world->rank == 0 ? star->world->size : 1;
    ucs_log_push_handler(on_words);
    for (int32_t rank = first; status == OCT_OK && rank < end; rank++)
        status = connect_peer(star, rank, addresses, bytes);
    ucs_log_pop_handler();
    free(addresses);
    return status;
}

static void drop(oct_ucx_star *star, ucp_ep_h endpoint)
{
    const ucp_request_param_t parameters = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    void *request = ucp_ep_close_nbx(endpoint, &parameters);
    if (!UCS_PTR_IS_PTR(request))
        return;
    const int64_t end = oct_now_ns() + CLOSE_NS; // nothing is waited for but UCX itself
    while (ucp_request_check_status(request) == UCS_INPROGRESS && oct_now_ns() < end)
        ucp_worker_progress(star->worker);
    ucp_request_free(request);
}

void oct_ucx_star_stop(oct_ucx_star *star)
{
    for (int32_t rank = 0; star->peers != NULL && rank < star->world->size; rank++)
        if (star->peers[rank].endpoint != NULL)
            drop(star, star->peers[rank].endpoint);
    if (star->worker != NULL)
        ucp_worker_destroy(star->worker);
    if (star->context != NULL)
        ucp_cleanup(star->context);
    free(star->peers);
    *star = (oct_ucx_star){.lost_rank = -1};
}
