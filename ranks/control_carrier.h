// What carries control messages from rank 0 to the others: a table of functions for each way. The messages are bytes
// to it; ranks/control_message.h says what they mean.
#ifndef OCT_RANKS_CONTROL_CARRIER_H
#define OCT_RANKS_CONTROL_CARRIER_H

#include <stddef.h>
#include <stdint.h>

#include "ranks/world.h"

typedef struct oct_control_carrier {
    const char *name;

    // Opens the way for messages of up to message_bytes to all ranks of a world of two and more. COLLECTIVE; where it
    // fails on one rank it fails on all of them, and those with a reason have kept it (oct_failure_text()). Errors:
    // OCT_ERR_MACHINE.
    oct_status (*open)(void **state, oct_world *world, size_t message_bytes);

    // Lets all messages arrive, then frees everything. COLLECTIVE.
    void (*close)(void *state);

    // Rank 0: *message [message_bytes], 8-byte aligned, is where to put the next message; may wait until it is free.
    // Errors: OCT_ERR_LOST.
    oct_status (*prepare)(void *state, uint8_t **message);

    // Rank 0: sends the first `bytes` of what `prepare` gave to all other ranks. Errors: OCT_ERR_LOST.
    oct_status (*send)(void *state, size_t bytes);

    // Other ranks: waits for the next message, in the order of sending. *message, 8-byte aligned, is valid until the
    // next call. Errors: OCT_ERR_LOST; OCT_ERR_INTERNAL where something else arrived than was sent.
    oct_status (*receive)(void *state, const uint8_t **message, size_t *bytes);
} oct_control_carrier;

extern const oct_control_carrier oct_control_mpi;
extern const oct_control_carrier oct_control_ucx; // in builds with UCX (OCTET_HAVE_UCX)

#endif
