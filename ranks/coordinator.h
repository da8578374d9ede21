// The coordinator: many sequences through one engine, on rank 0. It puts the next tokens of all running sequences,
// drafts for them, and pieces of new prompts into each step, takes what the step chose, and takes back what was drafted
// wrong. A sequence's tokens do not depend on its company: not on the batch, the budget of a step, drafts, or
// pre-emption.
//
// Order. Requests begin in the order of their submission, as slots and pages of the KV cache come free. A step first
// has one token of every sequence that decodes, then their drafts (the prompts that wait keep half of a chunk), then
// prompts, whose turn goes round. Where pages run out, the youngest sequence gives up its slot: it is decoded again
// later from its prompt and the tokens that it has, ahead of everything younger. So the oldest always goes on, and
// nobody starves. Prompts that begin alike share pages (runtime/page_table.h), and one that begins as a sequence that
// is over, output included (the next turn of a conversation), shares that one's.
//
// All of it is rank 0's and LOCAL, apart from the engine's steps. Everything is allocated at creation.
#ifndef OCT_RANKS_COORDINATOR_H
#define OCT_RANKS_COORDINATOR_H

#include "ranks/controller.h"
#include "ranks/drafter.h"
#include "ranks/engine.h"

enum { OCT_MAX_DRAFT_TOKENS = 32 };

typedef struct oct_coordinator oct_coordinator;

typedef struct oct_coordinator_options {
    oct_drafter *drafter; // borrowed; NULL: no speculation
    int32_t draft_tokens; // of a sequence in a step, at most; 0 … OCT_MAX_DRAFT_TOKENS
    oct_controller *controller; // borrowed; chooses how many of them are verified, and learns; NULL: all
} oct_coordinator_options;

// Why a sequence ended.
typedef enum oct_sequence_end {
    OCT_SEQUENCE_STOPPED, // on_token said so
    OCT_SEQUENCE_FULL,    // max_tokens, or the context
    OCT_SEQUENCE_FAILED   // the status says why, its text is the kept failure
} oct_sequence_end;

typedef struct oct_sequence_request {
    int64_t number;            // the drafter's name for it
    const int32_t *prompt;     // [prompt_tokens], borrowed for the call
    int32_t prompt_tokens;     // at least one
    int32_t max_tokens;        // at least one
    const oct_sampling *sampling; // checked; borrowed until on_end
    // Each token in its order and once; true ends the sequence behind it.
    bool (*on_token)(void *context, const oct_choice *choice);
    // The last call. Neither callback may call the coordinator.
    void (*on_end)(void *context, oct_sequence_end reason, oct_status status);
    void *context;
} oct_sequence_request;

// What a step did.
typedef struct oct_step_report {
    int32_t columns, prompt_columns; // all, and those of prompts (and of sequences that are decoded again)
    int32_t decoding;                // sequences that decoded
    int32_t decoded_tokens;          // tokens that they gained; the first token of a sequence is its prompt's
    int32_t first_tokens;
    double attended; // positions, summed over the sequences in the step
    double seconds;  // all of it
    double engine_s; // inside the engine's step
} oct_step_report;

// Counts from creation on.
typedef struct oct_coordinator_figures {
    int64_t drafted, accepted;
    int64_t drafted_at[OCT_MAX_DRAFT_TOKENS], accepted_at[OCT_MAX_DRAFT_TOKENS]; // by place in a run of drafts
    int64_t drafted_by[OCT_DRAFT_SOURCES], accepted_by[OCT_DRAFT_SOURCES];       // by oct_draft_source
    int64_t preempted;     // sequences that gave up their slots
    int64_t shared_tokens; // that sequences found in the KV cache when they began
    double draft_s;        // inside the drafter
    double verify_s;       // inside the engine, of the steps with drafts
} oct_coordinator_figures;

// A coordinator over all slots of an engine, whose sequences nobody else touches meanwhile. Errors: OCT_ERR_MACHINE
// (memory); OCT_ERR_USAGE where draft_tokens is out of range, a step has no room for them in every slot, or the KV
// cache none for a whole context.
oct_status oct_coordinator_create(oct_coordinator **coordinator, oct_engine *engine,
                                  const oct_coordinator_options *options);

// Measures for the controller what steps of 1, 2, 4, … columns take, within about a tenth of a second, and longer only
// where that does not suffice for the first two. No effect without a controller. The coordinator must be idle. Errors:
// the engine's.
oct_status oct_coordinator_measure_costs(oct_coordinator *coordinator);

// Sequences that have not ended are dropped without a call. NULL is allowed.
void oct_coordinator_destroy(oct_coordinator *coordinator);

// Sequences that can be submitted and not have ended: twice the slots, so that the next ones wait at hand.
int32_t oct_coordinator_capacity(const oct_coordinator *coordinator);
bool oct_coordinator_has_room(const oct_coordinator *coordinator);

// At most so many steps with decoding sequences in them are left: each gains them a token, or ends one.
int64_t oct_coordinator_steps_left(const oct_coordinator *coordinator);

// True where there is nothing to step.
bool oct_coordinator_is_idle(const oct_coordinator *coordinator);

// Takes a request; there must be room. A sequence that would pass the context ends there. Errors, which concern only
// this request (no callback is called): OCT_ERR_USAGE where the prompt is empty or leaves no room in the context.
oct_status oct_coordinator_submit(oct_coordinator *coordinator, const oct_sequence_request *request);

// One step of the engine; must not be idle. Allocates nothing. Errors: the engine's, and the drafter's; the job can
// only end then.
oct_status oct_coordinator_step(oct_coordinator *coordinator, oct_step_report *report);

const oct_coordinator_figures *oct_coordinator_read_figures(const oct_coordinator *coordinator);

#endif
