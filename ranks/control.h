// The control channel: rank 0 tells the other ranks what to do next. A message is one of a few kinds with a plain
// payload; every rank gets every message, in order. Today it travels by MPI; another carrier implements the
// same functions.
#ifndef OCT_RANKS_CONTROL_H
#define OCT_RANKS_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "ranks/world.h"

typedef enum oct_control_kind {
    OCT_CONTROL_SEQUENCE, // payload oct_sampling: a new sequence takes the place of the last one
    OCT_CONTROL_STEP,     // payload oct_control_step: tokens go through the model
    OCT_CONTROL_LOGITS,   // no payload: rank 0 needs all logits of the last step's columns
    OCT_CONTROL_PROBE,    // no payload: all ranks measure their read bandwidth
    OCT_CONTROL_TOUCH,    // payload int64_t positions: all ranks read once what a step at that length reads
    OCT_CONTROL_IDLE,     // no payload: nothing to do until the next message, however long it takes
    OCT_CONTROL_PASS,     // no payload: the next messages are for another engine of the same ranks
    OCT_CONTROL_FINISH    // no payload: leave the loop
} oct_control_kind;

// What rank 0 wants to know after a step.
typedef enum oct_want {
    OCT_WANT_NOTHING, // more of the prompt follows
    OCT_WANT_TOKEN,   // the next token after the last column
    OCT_WANT_LOGITS   // the logits of every column, unchanged
} oct_want;

typedef struct oct_control_step {
    int32_t position; // of the first token in its sequence; the others follow
    int32_t columns;
    int32_t want;     // oct_want
    int32_t prompt;   // 1: the tokens belong to the prompt
    int32_t tokens[]; // [columns]
} oct_control_step;

typedef struct oct_control oct_control;

// A channel for payloads of up to max_bytes. COLLECTIVE. Errors: OCT_ERR_MACHINE (memory), agreed on.
oct_status oct_control_open(oct_control **control, oct_world *world, size_t max_bytes);
void oct_control_close(oct_control *control);

// Rank 0: sends a message to all other ranks; returns when the payload may be changed again. Errors: OCT_ERR_LOST.
oct_status oct_control_send(oct_control *control, oct_control_kind kind, const void *payload, size_t bytes);

// Other ranks: waits for the next message. *payload (8-byte aligned) is valid until the next call. Errors:
// OCT_ERR_LOST; OCT_ERR_INTERNAL for a message that is malformed.
oct_status oct_control_receive(oct_control *control, oct_control_kind *kind, const void **payload, size_t *bytes);

#endif
