// The control channel: rank 0 tells the other ranks what to do next. A message is one of a few kinds with a plain
// payload; every rank gets every message, in order, by UCX active messages or by MPI, whichever was chosen
// (ranks/control_carrier.h); nothing that a rank does depends on which.
#ifndef OCT_RANKS_CONTROL_H
#define OCT_RANKS_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "ranks/world.h"
#include "runtime/sampling.h"

typedef enum oct_control_kind {
    OCT_CONTROL_SEQUENCE, // payload oct_control_sequence: a new sequence takes the place of a slot's last one
    OCT_CONTROL_STEP,     // payload oct_control_step: tokens go through the model
    OCT_CONTROL_LOGITS,   // payload int32_t: rank 0 needs all logits of this logit column of the last step
    OCT_CONTROL_PROBE,    // no payload: all ranks measure their read bandwidth
    OCT_CONTROL_TOUCH,    // payload int64_t positions: all ranks read once what a step at that length reads
    OCT_CONTROL_IDLE,     // no payload: nothing to do until the next message, however long it takes
    OCT_CONTROL_PASS,     // no payload: the next messages are for another engine of the same ranks
    OCT_CONTROL_FINISH    // no payload: leave the loop
} oct_control_kind;

// What rank 0 wants to know behind a column.
typedef enum oct_want {
    OCT_WANT_NOTHING, // more of the prompt follows
    OCT_WANT_TOKEN,   // the token after it
    OCT_WANT_LOGITS   // the logits of the token after it, unchanged
} oct_want;

// A column of a step: a token that goes behind the sequence of a slot. Columns of one slot follow each other there in
// their order.
typedef struct oct_control_column {
    int32_t token, slot;
    int32_t want;   // oct_want
    int32_t prompt; // 1: the token belongs to the prompt
} oct_control_column;

// A roll-back: the sequence of a slot loses what is behind its first `length` tokens.
typedef struct oct_control_cut {
    int32_t slot, length;
} oct_control_cut;

// Cuts travel with the next step or sequence, and come before it, in their order: all page tables see the same calls.
// At most so many of a slot wait for that.
enum { OCT_CONTROL_CUTS = 2 };

typedef struct oct_control_step {
    int32_t count, cut_count;
    oct_control_column columns[]; // [count], behind them oct_control_cut [cut_count]
} oct_control_step;

// The tokens that the sequence will begin with, so that every rank finds the same pages for them in its own table; the
// first prompt_count of them are prompt.
typedef struct oct_control_sequence {
    int32_t slot, cut_count;
    int32_t count, prompt_count;
    oct_sampling sampling;
    int32_t tokens[]; // [count], behind them oct_control_cut [cut_count]
} oct_control_sequence;

static inline oct_control_cut *oct_control_step_cuts(const oct_control_step *step)
{
    return (oct_control_cut *)(step->columns + step->count);
}

static inline oct_control_cut *oct_control_sequence_cuts(const oct_control_sequence *begun)
{
    return (oct_control_cut *)(begun->tokens + begun->count);
}

// Bytes of the two payloads.
static inline size_t oct_control_step_bytes(int64_t columns, int64_t cuts)
{
    return sizeof(oct_control_step) + (size_t)columns * sizeof(oct_control_column) +
           (size_t)cuts * sizeof(oct_control_cut);
}

static inline size_t oct_control_sequence_bytes(int64_t tokens, int64_t cuts)
{
    return sizeof(oct_control_sequence) + (size_t)tokens * sizeof(int32_t) + (size_t)cuts * sizeof(oct_control_cut);
}

// What a message may ask for; the same on all ranks.
typedef struct oct_control_limits {
    int32_t slots;      // of sequences
    int32_t columns;    // of a step
    int32_t vocabulary; // tokens
    int64_t context;    // positions of a sequence
} oct_control_limits;

// What carries the messages.
typedef enum oct_control_path {
    OCT_CONTROL_AUTO, // UCX where it is built in and works, otherwise MPI
    OCT_CONTROL_UCX,
    OCT_CONTROL_MPI
} oct_control_path;

typedef struct oct_control oct_control;

// Opens a channel. COLLECTIVE over the world. Errors, agreed on and printed: OCT_ERR_MACHINE (memory; UCX is asked for
// and not in this build or does not work, with its reason).
oct_status oct_control_open(oct_control **control, oct_world *world, oct_control_path path,
                            const oct_control_limits *limits);

// Lets what was sent arrive and frees everything. COLLECTIVE over the world; control may be NULL (on all ranks).
void oct_control_close(oct_control *control);

// What carries the messages: "ucx", "mpi", or "none" where one rank is all.
const char *oct_control_name(const oct_control *control);

// Rank 0: sends a message to all other ranks; returns when the payload may be changed again. Errors: OCT_ERR_LOST.
oct_status oct_control_send(oct_control *control, oct_control_kind kind, const void *payload, size_t bytes);

// Other ranks: waits for the next message. *payload (8-byte aligned) is valid until the next call; it is what its kind
// says and within the limits. Errors: OCT_ERR_LOST; OCT_ERR_INTERNAL for a message that is malformed.
oct_status oct_control_receive(oct_control *control, oct_control_kind *kind, const void **payload, size_t *bytes);

// Gives signals back the actions that they had before UCX's library was loaded: it catches those of crashes and SIGHUP
// when the process starts, but what becomes of a crashed rank is its guard's affair. Once, at the start. LOCAL.
void oct_control_restore_signals(void);

#endif
