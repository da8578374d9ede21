// A response: what is written for a request as one JSON line. Everything here is LOCAL.
#ifndef OCT_RUNTIME_RESPONSE_H
#define OCT_RUNTIME_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sampling.h"

typedef enum oct_finish_reason { OCT_FINISH_STOP, OCT_FINISH_LENGTH, OCT_FINISH_ERROR } oct_finish_reason;

// One figure of the response; the name carries the unit. What is not finite is written as null.
typedef struct oct_figure {
    const char *name;
    double value;
    bool whole; // a count: written without a fraction
} oct_figure;

// Everything is borrowed for the call.
typedef struct oct_response {
    const char *id;   // JSON text, as in oct_request
    const char *text; // [text_bytes] any bytes; what is not UTF-8 is written as U+FFFD
    size_t text_bytes;
    const int32_t *token_ids; // [token_count]
    size_t token_count;
    oct_finish_reason finish_reason;
    const char *error;         // NULL where there is none
    const oct_figure *figures; // [figure_count]
    size_t figure_count;
    const oct_token_logprob *logprobs; // [token_count] of the chosen tokens, or NULL
    const oct_token_logprob *top;      // [token_count][top_count], most probable first
    int32_t top_count;
} oct_response;

// The response as one line of JSON without newline, malloc'ed, owned by the caller; NULL when memory is out.
// Keys in this order: id, text, token_ids, finish_reason, error (where there is one), the figures, logprobs
// (where there are some: a list with {"token", "logprob", "top": [{"token", "logprob"}, …]} for each token; a
// log-probability of −infinity is null).
char *oct_response_format(const oct_response *response);

// A copy of all that a response points to, except the figures' names, in one piece of memory of *bytes, owned by the
// caller, freed by free(). NULL when memory is out.
oct_response *oct_response_copy(const oct_response *response, size_t *bytes);

// A copy of `text` [bytes] in which each maximal part of an ill-formed UTF-8 sequence is replaced by U+FFFD
// (Unicode standard, section 3.9); terminated, malloc'ed, its length in *repaired_bytes. NULL when memory is
// out.
char *oct_utf8_repair(const char *text, size_t bytes, size_t *repaired_bytes);

#endif
