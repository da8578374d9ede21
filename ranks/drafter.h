// Drafters: guess the tokens that come next in a sequence, so that one step can verify several of them.
//
// What a drafter says changes only the speed. A draft token is accepted where it equals the token that plain decoding
// gives at its position; the text never depends on drafts. A drafter is a struct of functions behind oct_drafter, which
// is its first member; the coordinator on rank 0 calls them. One thread owns a drafter and makes all calls; nothing is
// allocated after creation. Everything here is LOCAL unless the drafter says otherwise.
#ifndef OCT_RANKS_DRAFTER_H
#define OCT_RANKS_DRAFTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sampling.h"
#include "runtime/status.h"

// Where a draft token comes from; acceptance is counted by it.
typedef enum oct_draft_source {
    OCT_DRAFT_SUFFIX_OWN,  // earlier places of the same sequence
    OCT_DRAFT_SUFFIX_NEAR, // of these, the one a little behind what was copied last
    OCT_DRAFT_SUFFIX_ALL,  // finished sequences of the run
    OCT_DRAFT_MODEL,       // a small model
    OCT_DRAFT_SYNTHETIC,   // the recorded text, for measurements
    OCT_DRAFT_SOURCES      // how many there are
} oct_draft_source;

// One token of a proposal.
typedef struct oct_draft {
    int32_t token;
    float probability; // the drafter's estimate that plain decoding gives this token if those before it are right; 0…1
    int16_t source;    // oct_draft_source
    int16_t match;     // suffix: how many tokens before it, earlier drafts included, agree with its source; else 0
} oct_draft;

// What a sequence may have of a proposal for several.
typedef struct oct_draft_wish {
    int32_t slot;
    int32_t most;      // tokens, at least one
    oct_draft *drafts; // [most]
    int32_t count;     // how many there are, set by the drafter
} oct_draft_wish;

// The functions of a drafter; one that has nothing to do may be NULL (not both `propose` and `propose_all`). Slots
// are 0 … slots − 1, tokens 0 … vocabulary − 1. Arrays are the caller's and only read, or written, during the call.
// Errors of those that return a status: OCT_ERR_INTERNAL for a slot, token or order of calls that cannot be; nothing
// changes then.
typedef struct oct_drafter oct_drafter;
struct oct_drafter {
    const char *name;

    // A new sequence in a free slot: the number of its request in the run (the same again after a pre-emption) and its
    // prompt [count], or, to take up a pre-empted sequence, whatever of its tokens are known; and how its tokens are
    // sampled, borrowed for the call (NULL only for drafters that do not sample).
    oct_status (*begin)(oct_drafter *drafter, int32_t slot, int64_t request, const int32_t *prompt, int32_t count,
                        const oct_sampling *sampling);

    // The tokens [count] that were appended to the slot's sequence, accepted or sampled; never rejected ones.
    oct_status (*append)(oct_drafter *drafter, int32_t slot, const int32_t *tokens, int32_t count);

    // Guesses up to `most` tokens that follow the slot's sequence into drafts [most], and sets *count to how many
    // (often 0).
    oct_status (*propose)(oct_drafter *drafter, int32_t slot, int32_t most, oct_draft *drafts, int32_t *count);

    // The same for several slots at once, each of them in one wish [count]; a drafter has one of the two functions.
    oct_status (*propose_all)(oct_drafter *drafter, oct_draft_wish *wishes, int32_t count);

    // The slot's sequence has ended (finished: it may be learnt from) or was pre-empted or cancelled (not finished);
    // the slot is free. No effect on a free slot.
    void (*end)(oct_drafter *drafter, int32_t slot, bool finished);

    // Frees the drafter, whatever its slots hold.
    void (*destroy)(oct_drafter *drafter);
};

// The most tokens that a proposal of the suffix drafter has.
#define OCT_DRAFT_SUFFIX_MOST 64

// Makes the drafter that looks for the last tokens of a sequence earlier in that sequence, or in the finished sequences
// of the run, and proposes what followed there most often (SuffixDecoding: Oliaro et al. 2024, arXiv:2411.04975,
// section 4; what is different is said in drafter_suffix.c). It needs no weights and suits any model. Each of `slots`
// sequences of up to `context` tokens has an index of its own, of 44 bytes a token, `context` rounded up to a power of
// two. `arena_bytes` bounds the index over finished sequences, which forgets the oldest tokens when it is full; where
// the bytes are too few for 1024 tokens (0, for example) finished sequences are not kept. Errors: OCT_ERR_MACHINE when
// memory is out. *drafter is set only on success; its destroy() frees it.
oct_status oct_drafter_suffix_create(oct_drafter **drafter, int32_t slots, int32_t context, int32_t vocabulary,
                                     size_t arena_bytes);

#endif
