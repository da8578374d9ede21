// A UCP worker and its endpoints: rank 0 is connected with every rank, and every rank with rank 0. In builds with UCX
// only.
//
// The worker belongs to the thread that starts it. UCX's settings come from OCTET_UCX_… (and from UCX_… where that does
// not say otherwise, as UCX itself has it); peers are watched: their loss is seen in milliseconds where UCX can see it
// (a killed process; not a stopped one, not a cut link), while the worker is progressed.
#ifndef OCT_RANKS_UCX_STAR_H
#define OCT_RANKS_UCX_STAR_H

#include <ucp/api/ucp.h>

#include "ranks/world.h"

typedef struct oct_ucx_peer {
    struct oct_ucx_star *star;
    int32_t rank;
    ucp_ep_h endpoint; // NULL: not connected
} oct_ucx_peer;

typedef struct oct_ucx_star {
    oct_world *world;
    ucp_context_h context;
    ucp_worker_h worker;
    oct_ucx_peer *peers;      // [world->size]
    int32_t lost_rank;        // a peer that UCX has lost, -1: none
    ucs_status_t lost_status; // in UCX's words
} oct_ucx_star;

// Makes the worker, so that handlers of messages can be set. LOCAL. Errors: OCT_ERR_MACHINE; oct_ucx_star_stop() frees
// what is there then too.
oct_status oct_ucx_star_start(oct_ucx_star *star, oct_world *world);

// Calls `callback` with `context` for active messages of an id, while the worker is progressed. LOCAL. Errors:
// OCT_ERR_MACHINE.
oct_status oct_ucx_star_listen(oct_ucx_star *star, unsigned id, ucp_am_recv_callback_t callback, void *context);

// Exchanges addresses over MPI and makes the endpoints, whose first message connects them. To ranks of other hosts
// the address names network devices only: shared memory may seem to reach them (containers) and does not. COLLECTIVE;
// call it when all ranks have started. Errors, of this rank alone: OCT_ERR_MACHINE.
oct_status oct_ucx_star_connect(oct_ucx_star *star);

// Drops the endpoints without a word to the peers, who may see that as a loss, and frees everything. LOCAL.
void oct_ucx_star_stop(oct_ucx_star *star);

#endif
