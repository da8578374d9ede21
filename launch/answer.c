// The state of one answer: fed token by token by the coordinator, it hands text out as it becomes final.
#include "launch/answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/progress.h"

oct_status oct_answer_print(void *context, const char *text, size_t bytes)
{
    (void)context;
    const int phase = atomic_load_explicit(&oct_progress_page->phase, memory_order_relaxed);
    oct_progress_phase(OCT_PHASE_IDLE); // a terminal that is held takes as long as its reader likes
    const bool good = fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
    oct_progress_phase((oct_phase)phase);
    if (!good)
        return oct_fail(OCT_ERR_FILE, "the answer cannot be written to stdout: %s", strerror(errno));
    return OCT_OK;
}

// Appends text, and says how much of it no stop string can take back any more.
static oct_status take_text(oct_answer *answer, const char *bytes, size_t n)
{
    if (answer->text_bytes + n + 1 > answer->text_capacity)
        return oct_fail(OCT_ERR_INTERNAL, "an answer of more than %zu bytes", answer->text_capacity);
    if (n > 0)
        memcpy(answer->text + answer->text_bytes, bytes, n);
    answer->text_bytes += n;
    answer->final_bytes = oct_stop_matcher_feed(answer->stops, bytes, n);
    if (oct_stop_matcher_hit(answer->stops) >= 0)
        answer->text_bytes = answer->final_bytes;
    answer->text[answer->text_bytes] = '\0';
    return OCT_OK;
}

// Room for everything that the answer can become, so that decoding allocates nothing.
static oct_status reserve(oct_answer *answer, oct_session *session, const oct_question *question)
{
    const int32_t context = oct_engine_read_figures(session->engine)->context;
    const int32_t vocabulary = oct_engine_model(session->engine)->vocabulary;
    const int32_t left = question->prompt_tokens < context ? context - question->prompt_tokens : 1;
    const size_t tokens = (size_t)(question->max_tokens < left ? question->max_tokens : left);
    const int32_t logprobs = question->sampling->logprobs;
    // U+FFFD stands for each byte that is no UTF-8.
    answer->text_capacity = (tokens + 1) * session->longest_piece_bytes * strlen("\uFFFD") + 1;
    answer->text = malloc(answer->text_capacity);
    answer->tokens.ids = malloc(tokens * sizeof *answer->tokens.ids);
    answer->tokens.capacity = tokens;
    answer->top_count = logprobs < vocabulary ? logprobs : vocabulary;
    if (answer->top_count > 0) {
        answer->chosen = malloc(tokens * sizeof *answer->chosen);
        answer->top = malloc(tokens * (size_t)answer->top_count * sizeof *answer->top);
    }
    if (answer->text == NULL || answer->tokens.ids == NULL ||
        (answer->top_count > 0 && (answer->chosen == NULL || answer->top == NULL)))
        return oct_fail(OCT_ERR_MACHINE, "no memory for an answer of %zu tokens", tokens);
    oct_status status = oct_figures_reserve(&session->figures, oct_coordinator_steps_left(session->coordinator) +
                                                                   (int64_t)tokens);
    if (status == OCT_OK)
        status = oct_detokenizer_create(&answer->detokenizer, session->tokenizer, 0);
    if (status == OCT_OK)
        status = oct_stop_matcher_create(&answer->stops, question->stops, (size_t)question->stop_count);
    return status == OCT_OK ? take_text(answer, NULL, 0) : status;
}

static void keep_logprobs(oct_answer *answer, const oct_choice *choice)
{
    const size_t at = answer->tokens.count, count = (size_t)answer->top_count;
    if (count == 0)
        return;
    answer->chosen[at] = (oct_token_logprob){choice->token, choice->logprob};
    memcpy(answer->top + at * count, choice->top, count * sizeof *answer->top);
}

static oct_status take_choice(oct_answer *answer, const oct_choice *choice)
{
    size_t n = 0;
    keep_logprobs(answer, choice);
    const oct_status status = oct_token_list_append(&answer->tokens, &choice->token, 1);
    if (status != OCT_OK)
        return status;
    const char *bytes = oct_detokenizer_feed(answer->detokenizer, choice->token, &n);
    return take_text(answer, bytes, n);
}

// Of the coordinator: true ends the sequence.
static bool take_token(void *context, const oct_choice *choice)
{
    oct_answer *answer = context;
    answer->last_ns = oct_now_ns();
    if (answer->taken++ == 0)
        answer->first_ns = answer->last_ns;
    bool stopped = !answer->ignore_eos && oct_tokenizer_is_end(answer->session->tokenizer, choice->token);
    if (!stopped) {
        answer->status = take_choice(answer, choice);
        stopped = oct_stop_matcher_hit(answer->stops) >= 0;
    }
    if (stopped)
        answer->finish = OCT_FINISH_STOP;
    return stopped || answer->status != OCT_OK;
}

static oct_status flush_text(oct_answer *answer)
{
    size_t n = 0;
    if (oct_stop_matcher_hit(answer->stops) >= 0)
        return OCT_OK;
    const char *bytes = oct_detokenizer_flush(answer->detokenizer, &n);
    const oct_status status = take_text(answer, bytes, n);
    if (status == OCT_OK)
        answer->final_bytes = oct_stop_matcher_finish(answer->stops);
    return status;
}

// Of the coordinator. The kept failure is this answer's alone: others go on.
static void end(void *context, oct_sequence_end reason, oct_status status)
{
    oct_answer *answer = context;
    (void)reason;
    if (answer->status == OCT_OK)
        answer->status = status;
    if (answer->status == OCT_OK)
        answer->status = flush_text(answer);
    if (answer->status != OCT_OK) {
        snprintf(answer->error, sizeof answer->error, "%s", oct_failure_text());
        oct_failure_clear();
    }
    answer->ended = true;
}

oct_status oct_answer_begin(oct_answer *answer, oct_session *session, const oct_question *question)
{
    *answer = (oct_answer){.finish = OCT_FINISH_LENGTH,
                           .prompt_tokens = question->prompt_tokens,
                           .begin_ns = oct_now_ns(),
                           .session = session,
                           .ignore_eos = question->ignore_eos};
    const oct_status status = reserve(answer, session, question);
    const oct_sequence_request request = {.number = question->number,
                                          .prompt = question->prompt,
                                          .prompt_tokens = question->prompt_tokens,
                                          .max_tokens = question->max_tokens,
                                          .sampling = question->sampling,
                                          .on_token = take_token,
                                          .on_end = end,
                                          .context = answer};
    return status != OCT_OK ? status : oct_coordinator_submit(session->coordinator, &request);
}

oct_status oct_answer_make(oct_answer *answer, oct_session *session, const oct_question *question)
{
    oct_status status = oct_answer_begin(answer, session, question);
    for (size_t shown = 0; status == OCT_OK && !answer->ended;) {
        status = oct_session_step(session);
        const size_t bytes = answer->final_bytes - shown; // of all tokens of the step
        if (status == OCT_OK && bytes > 0 && question->on_text != NULL)
            status = question->on_text(question->context, answer->text + shown, bytes);
        shown += bytes;
    }
    return status == OCT_OK && answer->status != OCT_OK ? oct_fail(answer->status, "%s", answer->error) : status;
}

void oct_answer_free(oct_answer *answer)
{
    oct_stop_matcher_destroy(answer->stops);
    oct_detokenizer_destroy(answer->detokenizer);
    oct_token_list_free(&answer->tokens);
    free(answer->chosen);
    free(answer->top);
    free(answer->text);
    memset(answer, 0, sizeof *answer);
}
