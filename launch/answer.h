// An answer: the tokens that a sequence gains, as text. What generate and chat have in common on rank 0.
#ifndef OCT_LAUNCH_ANSWER_H
#define OCT_LAUNCH_ANSWER_H

#include "launch/session.h"
#include "runtime/response.h"
#include "runtime/stop_strings.h"

// What is asked for.
typedef struct oct_question {
    int64_t number;        // of the request in this run
    const int32_t *prompt; // [prompt_tokens], borrowed for the call
    int32_t prompt_tokens;
    const oct_sampling *sampling; // checked; borrowed until the answer has ended
    int32_t max_tokens;
    const char *const *stops; // [stop_count], borrowed for the call
    int32_t stop_count;
    bool ignore_eos;
    // Of oct_answer_make(): called with text as it becomes final (whole UTF-8 sequences, never a part of a stop
    // string); may be NULL. An error ends it. oct_answer_print() writes it to stdout.
    oct_status (*on_text)(void *context, const char *text, size_t bytes);
    void *context;
} oct_question;

enum { OCT_ANSWER_ERROR_BYTES = 1024 };

// What came of it; complete once it has ended.
typedef struct oct_answer {
    bool ended;
    oct_status status;                  // of this answer alone
    char error[OCT_ANSWER_ERROR_BYTES]; // its text, where it is none of OCT_OK
    int32_t prompt_tokens;
    oct_token_list tokens;     // generated ids; the end-of-text token that ended it is not among them
    oct_token_logprob *chosen; // [tokens.count] where log-probabilities are asked for, owned
    oct_token_logprob *top;    // [tokens.count][top_count] owned
    int32_t top_count;
    char *text; // [text_bytes] + 0, owned
    size_t text_bytes;
    oct_finish_reason finish;
    int64_t begin_ns, first_ns, last_ns; // when it was asked for, got its first token, and its last
    int32_t taken;                       // tokens, the one that ended it included

    // While it comes.
    const oct_session *session;
    oct_detokenizer *detokenizer;
    oct_stop_matcher *stops;
    size_t text_capacity;
    size_t final_bytes; // of the text, that nothing takes back any more
    bool ignore_eos;
} oct_answer;

// Asks: the question becomes a sequence of the session's coordinator, which must have room. The answer stays where it
// is until it has ended. One that would pass the context ends there (OCT_FINISH_LENGTH). Errors: OCT_ERR_USAGE (the
// prompt is empty or leaves no room in the context); OCT_ERR_MACHINE; nothing was asked then. Rank 0.
oct_status oct_answer_begin(oct_answer *answer, oct_session *session, const oct_question *question);

// Asks, and steps until the answer has ended. Errors: the same, the answer's own, the engine's, on_text's: the
// coordinator may still have the sequence then, and is of no use any more. Rank 0.
oct_status oct_answer_make(oct_answer *answer, oct_session *session, const oct_question *question);

void oct_answer_free(oct_answer *answer);

// An on_text that writes to stdout at once. Errors: OCT_ERR_FILE (nobody reads any more, no space left).
oct_status oct_answer_print(void *context, const char *text, size_t bytes);

#endif
