// The figures of a run: collected answer by answer on rank 0, shown as a line, written as JSON.
#ifndef OCT_LAUNCH_FIGURES_H
#define OCT_LAUNCH_FIGURES_H

#include <stdio.h>

#include <jansson.h>

#include "ranks/coordinator.h"
#include "runtime/tokenizer.h"

// Bytes of a step cannot have come from memory faster than memory was measured to be: above this (the figures are
// rounded) the measurement of one of them is void.
#define OCT_MBU_VOID 1.02

struct oct_answer;
struct oct_session;

// The tokens of a request that wait for those of the requests before it to be hashed.
typedef struct oct_unhashed {
    bool ended;
    oct_token_list tokens; // owned
} oct_unhashed;

// A decode step is one in which some sequence decodes; prompts, or pieces of them, may be in it too.
typedef struct oct_figures {
    int64_t prompt_tokens, generated_tokens;
    int64_t prefilled_tokens; // of prompts that went through the model
    int64_t decoded_tokens;   // tokens after each sequence's first
    int64_t decoding;         // sequences that decoded, summed over the steps
    double prefill_s;         // of the steps with prompts in them
    double decode_s;          // of the decode steps, with what rank 0 does between them
    double first_token_s;     // of the first request
    int32_t answers;
    int64_t decode_allocations; // in decode steps; meaningful where the build counts
    double *step_s, *reduce_s, *own_s; // [steps] decode steps, owned; reduce_s: mean wait for one exchange in that
                                       // step, own_s: what the coordinator did outside the engine
    int64_t steps, capacity;
    double attended; // positions, summed over the steps and their sequences
    uint64_t peak_rss_bytes;
    double bandwidth; // bytes a second, best probe; 0: none
    void *token_hash; // XXH64 state, owned
    int64_t hashed;   // requests that are in it
    oct_unhashed *unhashed; // [unhashed_capacity] the requests behind those, owned
    int64_t unhashed_capacity;
} oct_figures;

oct_status oct_figures_create(oct_figures *figures);
void oct_figures_free(oct_figures *figures);

// Adds an answer, or NULL for a request that has none; requests are numbered from 0 and may come in any order. Errors:
// OCT_ERR_MACHINE (memory).
oct_status oct_figures_add(oct_figures *figures, int64_t request, const struct oct_answer *answer);

// Room for so many more decode steps. Errors: OCT_ERR_MACHINE (memory).
oct_status oct_figures_reserve(oct_figures *figures, int64_t steps);

// A step that was done, `seconds` after the one before it was (or, where there was nothing to do in between, after it
// began). There must be room for it.
void oct_figures_add_step(oct_figures *figures, const oct_engine_figures *engine, const oct_step_report *report,
                          double seconds);

// For measurements that are no answers: adds tokens to the generated ones and their hash.
void oct_figures_add_tokens(oct_figures *figures, const oct_choice *choices, int32_t count);

// Measures the read bandwidth now; the best of all calls counts. Errors: OCT_ERR_LOST.
oct_status oct_figures_probe(oct_figures *figures, oct_engine *engine);

// Mean bytes that all ranks read in a step; and model bandwidth utilisation: those over the median step, over what the
// machine can read. LOCAL.
double oct_figures_bytes_per_step(const oct_figures *figures, const oct_engine_figures *engine);
double oct_figures_mbu(const oct_figures *figures, const oct_engine_figures *engine);

// Adds the members of `--stats` to an object: what ran, and what was measured. LOCAL.
void oct_figures_describe_run(const struct oct_session *session, json_t *object);
void oct_figures_describe(const oct_figures *figures, const struct oct_session *session, json_t *object);

// One line for people on stderr.
void oct_figures_print(const oct_figures *figures, const struct oct_session *session);

// Writes the JSON object of `--stats` and closes the file. Errors: OCT_ERR_FILE.
oct_status oct_figures_write(const oct_figures *figures, const struct oct_session *session, FILE *file,
                             const char *path);

#endif
