// A request: the prompt of one sequence and what is asked for it, and how it is read from a line of
// `--prompts`. What is written for it stands in runtime/response.h. Everything here is LOCAL.
#ifndef OCT_RUNTIME_REQUEST_H
#define OCT_RUNTIME_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/chat_template.h"
#include "runtime/sampling.h"
#include "runtime/status.h"

#define OCT_MAX_STOPS 32

typedef struct oct_request {
    char *id;     // JSON text of a string or a number, for example "\"a\"" or "12"; owned
    char *prompt; // UTF-8, terminated (it may hold NUL too), owned; NULL where there are messages
    size_t prompt_bytes;
    oct_chat_message *messages; // [message_count], owned with their strings; NULL where there is a prompt
    size_t message_count;
    char **stops; // [stop_count], owned, none empty
    size_t stop_count;
    int32_t max_tokens; // 1 or more
    bool ignore_eos;
    oct_sampling sampling;
} oct_request;

// A request without id, prompt and stops, with the command line's defaults (256 tokens, greedy).
oct_request oct_request_default(void);

// Frees what a request owns and zeroes it; a zeroed one is allowed.
void oct_request_free(oct_request *request);

// Adds a copy of a stop string. Errors: OCT_ERR_USAGE where it is empty, or there are OCT_MAX_STOPS already;
// OCT_ERR_MACHINE when memory is out.
oct_status oct_request_add_stop(oct_request *request, const char *stop);

// True where a line has nothing but white space: no request, and no error.
bool oct_request_line_is_blank(const char *line, size_t bytes);

// Reads a request from `line` [bytes] (no newline needed), one JSON object:
//   prompt                      a string; or
//   messages                    a list, not empty, of {"role": string, "content": string}
//   id                          a string or a number; left out: line_number
//   max_tokens                  1 … 2^31 − 1
//   temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, logprobs, seed
//                               as in oct_sampling; seed 0 … 2^63 − 1
//   logit_bias                  an object: token id (in quotes) to bias
//   stop                        a string, or a list of up to OCT_MAX_STOPS; none empty
//   ignore_eos                  true or false
// What is left out is taken from `defaults` (its prompt, messages and id are not). `source` is the name of
// the file for messages; `vocabulary` the number of tokens for checking biases, 0 where it is not known.
// Errors, each with source, line number, what was found and what was expected: OCT_ERR_FILE where the line is
// no JSON object or no UTF-8; OCT_ERR_USAGE for an unknown or missing key, a wrong type or value;
// OCT_ERR_MACHINE when memory is out. After an error *request holds an id all the same (the line's, where it
// could be read) for the error object that is written; it is to be freed in every case.
oct_status oct_request_parse(oct_request *request, const char *line, size_t bytes, const char *source,
                             int64_t line_number, const oct_request *defaults, int32_t vocabulary);

#endif
