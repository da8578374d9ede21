// The controller: how many of the proposed drafts a step verifies. It knows what a step of so many columns takes and
// how often drafts like these were right, and chooses for all sequences together what gives the most tokens a second;
// often that is none. It changes only the speed: a draft that is not verified is as good as never proposed.
//
// One thread owns a controller and makes all calls. Nothing is allocated after creation. Everything here is LOCAL; only
// rank 0 has a controller.
#ifndef OCT_RANKS_CONTROLLER_H
#define OCT_RANKS_CONTROLLER_H

#include "ranks/drafter.h"

enum { OCT_COST_POINTS = 18 }; // of a table, at most

typedef struct oct_controller oct_controller;

// What a step of so many columns takes.
typedef struct oct_step_cost {
    int32_t columns;
    double seconds;
} oct_step_cost;

// What a drafter proposes for one sequence, and how many of the first of it are to be verified.
typedef struct oct_proposal {
    const oct_draft *drafts; // [count], borrowed
    int32_t count, chosen;
} oct_proposal;

// A controller for steps of up to `sequences` sequences with up to `draft_tokens` drafts each, both at least 1. Errors:
// OCT_ERR_MACHINE (memory).
oct_status oct_controller_create(oct_controller **controller, int32_t sequences, int32_t draft_tokens);
void oct_controller_destroy(oct_controller *controller); // NULL is allowed

// The columns for which costs are kept: 1, 2, 4, …, and those of the largest step. Returns how many points there are.
int32_t oct_controller_points(const oct_controller *controller, int32_t columns[OCT_COST_POINTS]);

// A step of as many columns as a point has took so long, before decoding begins: of several measurements of a point the
// shortest counts.
void oct_controller_measured(oct_controller *controller, int32_t point, double seconds);

// A step of `columns` columns, all of whose tokens were wanted, took so long: moves the costs a little. No effect while
// nothing is measured.
void oct_controller_observe_step(oct_controller *controller, int32_t columns, double seconds);

// What a step of so many columns takes, in seconds: straight lines between the points that are known, and on beyond the
// last; never less than for fewer columns. 1 for all while nothing is measured.
double oct_controller_step_cost(const oct_controller *controller, int32_t columns);

// The points that are known, as they are now. Returns how many.
int32_t oct_controller_read_costs(const oct_controller *controller, oct_step_cost costs[OCT_COST_POINTS]);

// How likely a draft is right if those before it are: what the drafter says, corrected by what became of drafts of the
// same source with a match of about that length.
double oct_controller_probability(const oct_controller *controller, const oct_draft *draft);

// A draft behind right ones was right or wrong, whether or not it was verified.
void oct_controller_observe_draft(oct_controller *controller, const oct_draft *draft, bool right);

// Sets `chosen` of the proposals [count], `room` in all at the most, so that the expected tokens of the step over what
// it takes are most. `columns` are in the step in any case, each worth a token. Where that has been no drafts for many
// steps, drafts are tried all the same, rarely, for what oct_controller_observe_step() is told of that step.
void oct_controller_choose(oct_controller *controller, int32_t columns, int32_t room, oct_proposal *proposals,
                           int32_t count);

#endif
