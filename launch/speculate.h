// `--speculate`: which drafter guesses for the coordinator, and whether a controller chooses among its guesses.
#ifndef OCT_LAUNCH_SPECULATE_H
#define OCT_LAUNCH_SPECULATE_H

#include "ranks/controller.h"
#include "ranks/drafter.h"
#include "ranks/engine.h"

typedef enum oct_speculation_kind {
    OCT_SPECULATE_OFF,
    OCT_SPECULATE_SUFFIX,
    OCT_SPECULATE_AUTO, // suffix, with a controller
    OCT_SPECULATE_MODEL,
    OCT_SPECULATE_SYNTHETIC
} oct_speculation_kind;

typedef struct oct_speculation {
    oct_speculation_kind kind;
    const char *path;   // model: its file, within the option's value
    double probability; // synthetic: of each draft being right
} oct_speculation;

// Reads the option's value: off, suffix, auto, draft=MODEL.h5 or synthetic:P. Errors: OCT_ERR_USAGE with the list.
// LOCAL.
oct_status oct_speculation_parse(oct_speculation *speculation, const char *text);

// The drafter for an engine's slots, by a small model that is open as `second` where it is that kind; NULL where it
// is off. Owned by the caller. Errors: OCT_ERR_MACHINE; OCT_ERR_USAGE where the models have different tokens. Rank 0.
// LOCAL.
oct_status oct_speculation_start(const oct_speculation *speculation, oct_engine *engine, oct_engine *second,
                                 oct_drafter **drafter);

// The controller over an engine's slots with up to draft_tokens each; NULL where all drafts are verified, or none.
// Owned by the caller. Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_speculation_control(const oct_speculation *speculation, const oct_engine *engine, int32_t draft_tokens,
                                   oct_controller **controller);

#endif
