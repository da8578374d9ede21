// `--speculate`: which drafter guesses for the coordinator, and whether a controller chooses among its guesses.
#ifndef OCT_LAUNCH_SPECULATE_H
#define OCT_LAUNCH_SPECULATE_H

#include "ranks/controller.h"
#include "ranks/drafter.h"
#include "ranks/engine.h"

typedef enum oct_speculation_kind {
    OCT_SPECULATE_OFF,
    OCT_SPECULATE_SUFFIX,
    OCT_SPECULATE_SYNTHETIC,
    OCT_SPECULATE_AUTO // suffix, with a controller
} oct_speculation_kind;

typedef struct oct_speculation {
    oct_speculation_kind kind;
    double probability; // synthetic: of each draft being right
} oct_speculation;

// Reads the option's value: off, suffix, auto or synthetic:P. Errors: OCT_ERR_USAGE with the list. LOCAL.
oct_status oct_speculation_parse(oct_speculation *speculation, const char *text);

// The drafter for an engine's slots; NULL where it is off. Owned by the caller. Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_speculation_start(const oct_speculation *speculation, const oct_engine *engine, oct_drafter **drafter);

// The controller over an engine's slots with up to draft_tokens each; NULL where all drafts are verified, or none. Owned
// by the caller. Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_speculation_control(const oct_speculation *speculation, const oct_engine *engine, int32_t draft_tokens,
                                   oct_controller **controller);

#endif
