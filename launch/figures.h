// The figures of a run: collected answer by answer on rank 0, shown as a line, written as JSON.
#ifndef OCT_LAUNCH_FIGURES_H
#define OCT_LAUNCH_FIGURES_H

#include <stdio.h>

#include <jansson.h>

#include "ranks/engine.h"

// Bytes of a step cannot have come from memory faster than memory was measured to be: above this (the figures are
// rounded) the measurement of one of them is void.
#define OCT_MBU_VOID 1.02

struct oct_answer;
struct oct_session;

typedef struct oct_figures {
    int64_t prompt_tokens, generated_tokens;
    int64_t decoded_tokens; // tokens after each sequence's first
    double prefill_s, decode_s;
    double first_token_s;   // of the first answer
    int32_t answers;
    int64_t decode_allocations; // between first and last token, all answers; meaningful where the build counts
    double *step_s, *reduce_s; // [steps] owned; reduce_s: mean wait for one exchange in that step
    int64_t steps, capacity;
    double attended; // positions, summed over the steps
    uint64_t peak_rss_bytes;
    double bandwidth; // bytes a second, best probe; 0: none
    void *token_hash; // XXH64 state, owned
} oct_figures;

oct_status oct_figures_create(oct_figures *figures);
void oct_figures_free(oct_figures *figures);

// Adds an answer to a prompt whose sequence was `length` tokens long at its end.
oct_status oct_figures_add(oct_figures *figures, const struct oct_answer *answer, int32_t prompt_tokens, int32_t length);

// The same for measurements that are no answers: room for so many more steps, and one decode step that attended to
// `attended` positions (summed over its columns) and made `tokens` tokens.
oct_status oct_figures_reserve(oct_figures *figures, int64_t steps);
void oct_figures_add_step(oct_figures *figures, const oct_engine_figures *engine, double seconds, double attended,
                          int32_t tokens);

// Adds tokens to the hash of all tokens.
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
oct_status oct_figures_write(const oct_figures *figures, const struct oct_session *session, FILE *file, const char *path);

#endif
