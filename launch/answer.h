// An answer: one prompt decoded to its end. What generate and chat have in common on rank 0.
#ifndef OCT_LAUNCH_ANSWER_H
#define OCT_LAUNCH_ANSWER_H

#include "launch/session.h"
#include "runtime/response.h"

// What is asked for.
typedef struct oct_question {
    const int32_t *prompt; // [prompt_tokens], at least one; continues the engine's sequence
    int32_t prompt_tokens;
    int32_t max_tokens;
    const char *const *stops; // [stop_count]
    int32_t stop_count;
    bool ignore_eos;
    // Called with text as it becomes final (whole UTF-8 sequences, never a part of a stop string); may be NULL. An error
    // ends the answer. oct_answer_print() writes it to stdout.
    oct_status (*on_text)(void *context, const char *text, size_t bytes);
    void (*on_choice)(void *context, const oct_choice *choice); // every token; may be NULL
    void *context;
} oct_question;

// What came of it.
typedef struct oct_answer {
    oct_token_list tokens; // generated ids; the end-of-text token that ended it is not among them
    char *text;            // [text_bytes] + 0, owned
    size_t text_bytes;
    oct_finish_reason finish;
    double prefill_s;             // to the first token
    double decode_s;              // from the first token to the last
    double *step_s;               // [steps] of the tokens after the first, owned
    double *reduce_s;             // [steps] mean time of one exchange between ranks, waiting included, owned
    int32_t steps;
    int64_t allocations;          // by our code from the first token to the last, where the build counts them
} oct_answer;

// Decodes. The engine's sequence has been begun with the sampling parameters. An answer that would pass the context
// ends there (OCT_FINISH_LENGTH). Rank 0. Errors: OCT_ERR_USAGE (the prompt is empty or leaves no room in the context);
// OCT_ERR_MACHINE; those of on_text; the engine's.
oct_status oct_answer_make(oct_answer *answer, oct_session *session, const oct_question *question);
void oct_answer_free(oct_answer *answer);

// An on_text that writes to stdout at once. Errors: OCT_ERR_FILE (nobody reads any more, no space left).
oct_status oct_answer_print(void *context, const char *text, size_t bytes);

#endif
