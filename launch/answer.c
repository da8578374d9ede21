// Decoding one answer: prefill, then a token a step, with text handed out as it becomes final.
#include "launch/answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/allocations.h"
#include "runtime/progress.h"
#include "runtime/stop_strings.h"

typedef struct answering {
    oct_answer *answer;
    oct_session *session;
    const oct_question *question;
    oct_detokenizer *detokenizer;
    oct_stop_matcher *stops;
    size_t text_capacity;
    size_t shown; // bytes of the text that on_text has seen
} answering;

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

static oct_status show_text(answering *a, size_t bytes)
{
    const size_t shown = a->shown;
    if (bytes <= shown)
        return OCT_OK;
    a->shown = bytes;
    if (a->question->on_text == NULL)
        return OCT_OK;
    return a->question->on_text(a->question->context, a->answer->text + shown, bytes - shown);
}

// Appends text; what no stop string can take back any more is shown.
static oct_status take_text(answering *a, const char *bytes, size_t n)
{
    oct_answer *answer = a->answer;
    if (answer->text_bytes + n + 1 > a->text_capacity)
        return oct_fail(OCT_ERR_INTERNAL, "an answer of more than %zu bytes", a->text_capacity);
    if (n > 0)
        memcpy(answer->text + answer->text_bytes, bytes, n);
    answer->text_bytes += n;
    const size_t ready = oct_stop_matcher_feed(a->stops, bytes, n);
    if (oct_stop_matcher_hit(a->stops) >= 0)
        answer->text_bytes = ready;
    answer->text[answer->text_bytes] = '\0';
    return show_text(a, ready);
}

// Room for everything that the answer can become, so that decoding allocates nothing.
static oct_status reserve(answering *a, int32_t max_tokens)
{
    oct_answer *answer = a->answer;
    const size_t tokens = (size_t)max_tokens;
    size_t longest = 1;
    for (int32_t id = 0; id < oct_tokenizer_count(a->session->tokenizer); id++) {
        size_t bytes = 0;
        oct_tokenizer_piece(a->session->tokenizer, id, &bytes);
        longest = bytes > longest ? bytes : longest;
    }
    a->text_capacity = (tokens + 1) * longest * strlen("\uFFFD") + 1; // that stands for each byte that is no UTF-8
    answer->text = malloc(a->text_capacity);
    answer->step_s = malloc(tokens * sizeof *answer->step_s);
    answer->reduce_s = malloc(tokens * sizeof *answer->reduce_s);
    answer->tokens.ids = malloc(tokens * sizeof *answer->tokens.ids);
    if (answer->text == NULL || answer->step_s == NULL || answer->reduce_s == NULL || answer->tokens.ids == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for an answer of %d tokens", max_tokens);
    answer->tokens.capacity = tokens;
    return OCT_OK;
}

static oct_status take_token(answering *a, int32_t token, bool *stopped)
{
    size_t n = 0;
    oct_status status = oct_token_list_append(&a->answer->tokens, &token, 1);
    if (status != OCT_OK)
        return status;
    const char *bytes = oct_detokenizer_feed(a->detokenizer, token, &n);
    status = take_text(a, bytes, n);
    *stopped = oct_stop_matcher_hit(a->stops) >= 0;
    return status;
}

static oct_status flush_text(answering *a)
{
    size_t n = 0;
    const char *bytes = oct_detokenizer_flush(a->detokenizer, &n);
    const oct_status status = take_text(a, bytes, n);
    return status != OCT_OK ? status : show_text(a, oct_stop_matcher_finish(a->stops));
}

static oct_status decode(answering *a)
{
    const oct_question *question = a->question;
    oct_answer *answer = a->answer;
    oct_engine *engine = a->session->engine;
    const oct_engine_figures *figures = oct_engine_read_figures(engine);
    oct_choice choice;
    const int64_t begin = oct_now_ns();
    oct_status status = oct_engine_forward(engine, 0, question->prompt, question->prompt_tokens, true, OCT_WANT_TOKEN,
                                           &choice, NULL, NULL);
    const int64_t first = oct_now_ns();
    int64_t last = first;
    answer->prefill_s = (double)(first - begin) * 1e-9;
    bool stopped = false;
    answer->allocations = oct_allocations_count();
    for (int32_t made = 0; status == OCT_OK; last = oct_now_ns()) {
        if (!question->ignore_eos && oct_tokenizer_is_end(a->session->tokenizer, choice.token)) {
            answer->finish = OCT_FINISH_STOP;
            break;
        }
        if (question->on_choice != NULL)
            question->on_choice(question->context, &choice);
        status = take_token(a, choice.token, &stopped);
        if (stopped)
            answer->finish = OCT_FINISH_STOP;
        if (status != OCT_OK || stopped || ++made == question->max_tokens)
            break;
        const int64_t step = oct_now_ns();
        const int32_t token = choice.token;
        status = oct_engine_forward(engine, 0, &token, 1, false, OCT_WANT_TOKEN, &choice, NULL, NULL);
        answer->step_s[answer->steps] = (double)(oct_now_ns() - step) * 1e-9;
        answer->reduce_s[answer->steps++] =
            figures->exchange_rounds > 0 ? (double)figures->exchange_ns * 1e-9 / figures->exchange_rounds : 0;
    }
    answer->decode_s = (double)(last - first) * 1e-9;
    answer->allocations = oct_allocations_count() - answer->allocations;
    if (status == OCT_OK && !stopped)
        status = flush_text(a);
    return status;
}

oct_status oct_answer_make(oct_answer *answer, oct_session *session, const oct_question *question)
{
    memset(answer, 0, sizeof *answer);
    answer->finish = OCT_FINISH_LENGTH;
    const int32_t context = oct_engine_read_figures(session->engine)->context;
    const int64_t length = (int64_t)oct_engine_length(session->engine, 0) + question->prompt_tokens;
    if (question->prompt_tokens < 1)
        return oct_fail(OCT_ERR_USAGE, "the prompt is empty, expected at least one token");
    if (length >= context)
        return oct_fail(OCT_ERR_USAGE, "the prompt is %lld tokens long, the context holds %d; shorten it or give a "
                        "larger --context", (long long)length, context);
    oct_question bounded = *question;
    if (length + bounded.max_tokens > context)
        bounded.max_tokens = (int32_t)(context - length);
    answering a = {.answer = answer, .session = session, .question = &bounded};
    oct_status status = reserve(&a, bounded.max_tokens);
    if (status == OCT_OK)
        status = oct_detokenizer_create(&a.detokenizer, session->tokenizer, 0);
    if (status == OCT_OK)
        status = oct_stop_matcher_create(&a.stops, bounded.stops, (size_t)bounded.stop_count);
    if (status == OCT_OK)
        status = take_text(&a, NULL, 0);
    if (status == OCT_OK)
        status = decode(&a);
    oct_stop_matcher_destroy(a.stops);
    oct_detokenizer_destroy(a.detokenizer);
    return status;
}

void oct_answer_free(oct_answer *answer)
{
    oct_token_list_free(&answer->tokens);
    free(answer->text);
    free(answer->step_s);
    free(answer->reduce_s);
    memset(answer, 0, sizeof *answer);
}
