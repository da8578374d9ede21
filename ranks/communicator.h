// NCCL's communicator of all ranks. In builds with CUDA only.
//
// It does not block (ncclConfig_t): it is made, and its calls finish, while the main thread polls, so that a lost peer
// always ends the wait (ranks/wait.h) and a rank that never comes ends it within the deadline of start-up.
#ifndef OCT_RANKS_COMMUNICATOR_H
#define OCT_RANKS_COMMUNICATOR_H

#include <nccl.h>

#include "ranks/world.h"

typedef struct oct_communicator {
    oct_world *world;
    ncclComm_t nccl; // NULL: there is none
    bool busy;       // a call has not finished: it can only be aborted
} oct_communicator;

// Makes the communicator for the current device of each rank. COLLECTIVE over the world; a failure is agreed on, and
// ends the wait of the other ranks at once. Errors: OCT_ERR_MACHINE (no device, no way between devices). Where a peer
// is lost, or does not come within the deadline of start-up, the process ends (exit 5).
oct_status oct_communicator_create(oct_communicator *communicator, oct_world *world);

// Waits until a call that returned `result` has finished (its work is in its stream, or captured); `doing` says in a
// message what it was for. Every call with the communicator goes through this. Errors: OCT_ERR_LOST (a peer is gone, or
// the deadline of start-up is over), OCT_ERR_MACHINE.
oct_status oct_communicator_settle(oct_communicator *communicator, ncclResult_t result, const char *doing);

// Whether the communicator is still sound. LOCAL, never waits. Errors: as above.
oct_status oct_communicator_check(oct_communicator *communicator);

// Ends it. COLLECTIVE, when no stream has work of it left and no graph holds any. Not where a peer is lost: then the
// process leaves without it, because NCCL would wait for the device.
void oct_communicator_destroy(oct_communicator *communicator);

#endif
