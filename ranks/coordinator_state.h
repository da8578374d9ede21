// Inside the coordinator: what its files share.
#ifndef OCT_RANKS_COORDINATOR_STATE_H
#define OCT_RANKS_COORDINATOR_STATE_H

#include "ranks/coordinator.h"
#include "runtime/page_table.h"

// A request on its way. tokens[count - 1] is the newest token, which is not in the KV cache while it decodes.
typedef struct oct_sequence {
    oct_sequence_request request;
    int64_t order;   // of submission
    int32_t *tokens; // [context] prompt and output
    int32_t count;
    int32_t limit; // that count may reach
    int32_t slot;  // -1 while it waits
} oct_sequence;

// The part of a sequence in the step at hand.
typedef struct oct_step_part {
    oct_sequence *sequence;
    bool decodes;
    int32_t first_choice, choices; // of the step's; none while more of the prompt follows
    int32_t draft_count;           // choices - 1, where it decodes
    int32_t proposed;              // drafts, of which the first draft_count are verified
    oct_draft drafts[OCT_MAX_DRAFT_TOKENS];
} oct_step_part;

struct oct_coordinator {
    oct_engine *engine;
    oct_coordinator_options options;
    oct_coordinator_figures figures;
    int32_t context, slot_count, step_columns, chunk, pages; // of the engine
    int32_t capacity;

    oct_sequence *sequences; // [capacity]
    oct_sequence **live;     // [capacity] in the order of submission; the first `running` of them have slots
    int32_t live_count, running;
    oct_sequence **unused;   // [capacity - live_count]
    oct_sequence **slots;    // [slot_count] whose they are, or NULL
    int32_t *token_memory;   // [capacity][context]
    int64_t orders;          // given so far
    int64_t turn;            // order of the sequence whose prompt came last

    // The step at hand.
    oct_control_column *columns; // [step_columns]
    oct_choice *choices;         // [step_columns]
    oct_step_part *parts;        // [slot_count]
    oct_proposal *proposals;     // [slot_count] of the first parts, for the controller
    oct_draft_wish *wishes;      // [slot_count] of those of them that may have drafts
    int32_t *most;               // [slot_count] drafts that they may have
    int32_t column_count, choice_count, part_count;
    int32_t promised; // pages that the columns will take
};

static inline int32_t oct_sequence_length(const oct_coordinator *coordinator, const oct_sequence *sequence)
{
    return oct_engine_length(coordinator->engine, sequence->slot);
}

// Only its newest token is missing in the KV cache, and that is no prompt's.
static inline bool oct_sequence_decodes(const oct_coordinator *coordinator, const oct_sequence *sequence)
{
    return sequence->count > sequence->request.prompt_tokens &&
           oct_sequence_length(coordinator, sequence) == sequence->count - 1;
}

// Takes the slot of the youngest running sequence away, which waits from now on.
void oct_coordinator_preempt(oct_coordinator *coordinator);

// A sequence has ended: its slot is free, and it is forgotten.
void oct_coordinator_retire(oct_coordinator *coordinator, oct_sequence *sequence);

// Writes the columns of the next step and whose they are.
oct_status oct_coordinator_plan(oct_coordinator *coordinator, oct_step_report *report);

// What the step took, for the figures and the controller.
void oct_coordinator_time(oct_coordinator *coordinator, const oct_step_report *report);

// Hands the step's choices to their sequences, and takes wrong drafts back.
oct_status oct_coordinator_take(oct_coordinator *coordinator, oct_step_report *report);

#endif
