// History: the tokens of one sequence so far and how often each occurs, for the penalties of sampling.
//
// A list of tokens that grows at its end and can be cut at its end (rejected drafts); the first
// `prompt_tokens` of them are the prompt, the rest the output. Everything is allocated at creation.
// Everything here is LOCAL.
#ifndef OCT_RUNTIME_HISTORY_H
#define OCT_RUNTIME_HISTORY_H

#include <stdint.h>

#include "runtime/status.h"

typedef struct oct_history {
    int32_t vocabulary;
    int32_t capacity;         // tokens that fit
    int32_t length;           // tokens, prompt and output
    int32_t prompt_tokens;    // how many of them are the prompt
    int32_t distinct;         // different tokens
    int32_t *tokens;          // [capacity]
    int32_t *distinct_tokens; // [min(capacity, vocabulary)], in the order of first occurrence
    int32_t *total_counts;    // [vocabulary] occurrences in prompt and output
    int32_t *output_counts;   // [vocabulary] occurrences in the output
} oct_history;

// Makes an empty history for tokens 0 … vocabulary − 1. Errors: OCT_ERR_MACHINE when memory is out; *history
// is zeroed then.
oct_status oct_history_create(oct_history *history, int32_t vocabulary, int32_t capacity);

// Frees what it owns and zeroes it; a zeroed history is allowed.
void oct_history_destroy(oct_history *history);

// Forgets all tokens. Time grows with the distinct tokens.
void oct_history_reset(oct_history *history);

// Appends n tokens of the prompt (only while there is no output), or of the output. Nothing is allocated.
// Errors: OCT_ERR_INTERNAL where a token is outside the vocabulary, the capacity is passed, or prompt follows
// output; nothing is appended then.
oct_status oct_history_append_prompt(oct_history *history, const int32_t *tokens, int32_t n);
oct_status oct_history_append_output(oct_history *history, const int32_t *tokens, int32_t n);

// How often a token occurs among the first `length` tokens (all where it is not longer): in all, and in the output. Time
// grows with the tokens behind `length`.
void oct_history_count(const oct_history *history, int32_t length, int32_t token, int32_t *total, int32_t *output);

// Cuts the history to its first `length` tokens; no effect where it is not longer.
void oct_history_truncate(oct_history *history, int32_t length);

#endif
