// The token counts of one sequence. Owns its arrays; what the counts mean is sampling's business.
#include "runtime/history.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

oct_status oct_history_create(oct_history *history, int32_t vocabulary, int32_t capacity)
{
    assert(vocabulary > 0 && capacity >= 0);
    size_t distinct = (size_t)(capacity < vocabulary ? capacity : vocabulary);
    memset(history, 0, sizeof *history);
    history->vocabulary = vocabulary;
    history->capacity = capacity;
    history->tokens = malloc(sizeof(int32_t) * ((size_t)capacity + 1));
    history->distinct_tokens = malloc(sizeof(int32_t) * (distinct + 1));
    history->total_counts = calloc((size_t)vocabulary, sizeof(int32_t));
    history->output_counts = calloc((size_t)vocabulary, sizeof(int32_t));
    if (!history->tokens || !history->distinct_tokens || !history->total_counts || !history->output_counts) {
        oct_history_destroy(history);
        return oct_fail(OCT_ERR_MACHINE,
                        "no memory for the token counts of a sequence (%d tokens, vocabulary %d)",
                        (int)capacity, (int)vocabulary);
    }
    return OCT_OK;
}

void oct_history_destroy(oct_history *history)
{
    free(history->tokens);
    free(history->distinct_tokens);
    free(history->total_counts);
    free(history->output_counts);
    memset(history, 0, sizeof *history);
}

void oct_history_reset(oct_history *history)
{
    for (int32_t i = 0; i < history->distinct; i++) {
        history->total_counts[history->distinct_tokens[i]] = 0;
        history->output_counts[history->distinct_tokens[i]] = 0;
    }
    history->length = history->prompt_tokens = history->distinct = 0;
}

static oct_status append(oct_history *history, const int32_t *tokens, int32_t n, int32_t *output_counts)
{
    if (n < 0 || n > history->capacity - history->length)
        return oct_fail(OCT_ERR_INTERNAL, "history: %d tokens after %d, but only %d fit", (int)n,
                        (int)history->length, (int)history->capacity);
    for (int32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= history->vocabulary)
            return oct_fail(OCT_ERR_INTERNAL, "history: token %d is outside the vocabulary of %d",
                            (int)tokens[i], (int)history->vocabulary);
    for (int32_t i = 0; i < n; i++) {
        int32_t token = tokens[i];
        history->tokens[history->length++] = token;
        if (history->total_counts[token]++ == 0)
            history->distinct_tokens[history->distinct++] = token;
        if (output_counts)
            output_counts[token]++;
    }
    return OCT_OK;
}

oct_status oct_history_append_prompt(oct_history *history, const int32_t *tokens, int32_t n)
{
    if (history->length != history->prompt_tokens)
        return oct_fail(OCT_ERR_INTERNAL, "history: prompt tokens after %d tokens of output",
                        (int)(history->length - history->prompt_tokens));
    oct_status status = append(history, tokens, n, NULL);
    history->prompt_tokens = history->length;
    return status;
}

oct_status oct_history_append_output(oct_history *history, const int32_t *tokens, int32_t n)
{
    return append(history, tokens, n, history->output_counts);
}

void oct_history_count(const oct_history *history, int32_t length, int32_t token, int32_t *total, int32_t *output)
{
    *total = history->total_counts[token];
    *output = history->output_counts[token];
    for (int32_t i = length; i < history->length; i++)
        if (history->tokens[i] == token) {
            --*total;
            *output -= i >= history->prompt_tokens;
        }
}

void oct_history_truncate(oct_history *history, int32_t length)
{
    assert(length >= 0);
    while (history->length > length) {
        int32_t token = history->tokens[--history->length];
        if (history->length >= history->prompt_tokens)
            history->output_counts[token]--;
        else
            history->prompt_tokens = history->length;
        // Tokens leave in the reverse of the order in which they came, so the one that disappears is the
        // last of the distinct ones.
        if (--history->total_counts[token] == 0) {
            history->distinct--;
            assert(history->distinct_tokens[history->distinct] == token);
        }
    }
}
