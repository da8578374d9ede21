// The batch: lines in, lines out. A line that is wrong costs only itself.
#include "launch/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "launch/answer.h"
#include "launch/writer.h"
#include "runtime/request.h"
#include "runtime/response.h"

typedef struct batch {
    oct_session *session;
    oct_request defaults;
    FILE *input;
    oct_writer *writer;
    const char *input_name, *output_name;
    bool some_failed;
    bool template_known;
    // Log-probabilities of the answer at hand.
    oct_token_logprob *chosen, *top; // [capacity], [capacity][top_count]
    size_t count, capacity;
    int32_t top_count;
} batch;

static oct_status make_defaults(batch *b)
{
    const oct_options *options = &b->session->options;
    b->defaults = oct_request_default();
    b->defaults.max_tokens = (int32_t)options->max_tokens;
    b->defaults.ignore_eos = options->ignore_eos;
    oct_status status = oct_session_sampling(b->session, &b->defaults.sampling);
    for (int i = 0; status == OCT_OK && i < options->stop_count; i++)
        status = oct_request_add_stop(&b->defaults, options->stops[i]);
    return status;
}

// A pipe takes as long as its reader likes: no rank is stuck meanwhile.
static oct_status rest(void *context)
{
    return oct_engine_idle(context);
}

static oct_status open_files(batch *b)
{
    const oct_options *options = &b->session->options;
    const bool from_stdin = strcmp(options->prompts, "-") == 0;
    b->input_name = from_stdin ? "stdin" : options->prompts;
    b->output_name = options->output != NULL ? options->output : "stdout";
    b->input = from_stdin ? stdin : fopen(options->prompts, "rb");
    if (b->input == NULL)
        return oct_fail(OCT_ERR_FILE, "'%s' cannot be opened: %s", b->input_name, strerror(errno));
    const oct_writer_options writer = {.path = options->output,
                                       .processors = &b->session->processors,
                                       .before_wait = rest,
                                       .context = b->session->engine};
    return oct_writer_create(&b->writer, &writer);
}

// Where the job can only end at once, oct_world_abort() waits for the writer, but not for long.
static oct_status close_files(batch *b, oct_status status)
{
    if (b->input != NULL && b->input != stdin)
        fclose(b->input);
    if (!oct_session_can_go_on(b->session, status))
        return status;
    const oct_status written = oct_writer_finish(b->writer);
    return status != OCT_OK ? status : written;
}

// The error object of a line; what the request's parser says names the line itself.
static oct_status write_error(batch *b, const oct_request *request, int64_t number)
{
    char text[4096], place[1100] = "";
    if (number > 0)
        snprintf(place, sizeof place, "%.1000s, line %lld: ", b->input_name, (long long)number);
    snprintf(text, sizeof text, "%s%s", place, oct_failure_text());
    oct_failure_clear();
    b->some_failed = true;
    const oct_response response = {
        .id = request->id, .text = "", .finish_reason = OCT_FINISH_ERROR, .error = text};
    return oct_writer_put(b->writer, &response);
}

static void keep_choice(void *context, const oct_choice *choice)
{
    batch *b = context;
    if (b->count == b->capacity)
        return; // sized for max_tokens
    b->chosen[b->count] = (oct_token_logprob){choice->token, choice->logprob};
    memcpy(b->top + b->count * (size_t)b->top_count, choice->top, (size_t)choice->top_count * sizeof *b->top);
    b->count++;
}

static oct_status make_logprobs_room(batch *b, const oct_request *request)
{
    const int32_t vocabulary = oct_engine_model(b->session->engine)->vocabulary;
    const int32_t context = oct_engine_read_figures(b->session->engine)->context;
    free(b->chosen);
    free(b->top);
    b->chosen = b->top = NULL;
    b->count = b->capacity = 0;
    b->top_count = request->sampling.logprobs < vocabulary ? request->sampling.logprobs : vocabulary;
    if (b->top_count == 0)
        return OCT_OK;
    b->capacity = (size_t)(request->max_tokens < context ? request->max_tokens : context);
    b->chosen = malloc(b->capacity * sizeof *b->chosen);
    b->top = malloc(b->capacity * (size_t)b->top_count * sizeof *b->top);
    return b->chosen != NULL && b->top != NULL ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for log-probabilities");
}

static oct_status encode(batch *b, const oct_request *request, oct_token_list *prompt)
{
    oct_session *session = b->session;
    if (request->messages == NULL)
        return session->options.chat ? oct_session_encode_user(session, request->prompt, prompt)
                                     : oct_session_encode_text(session, request->prompt, request->prompt_bytes, prompt);
    if (!b->template_known && !session->options.chat) {
        const oct_status status = oct_chat_template_recognise(&session->chat_template,
                                                              oct_engine_vocabulary(session->engine)->chat_template);
        if (status != OCT_OK)
            return status;
    }
    b->template_known = true;
    return oct_session_encode_chat(session, request->messages, request->message_count, prompt);
}

static oct_status write_answer(batch *b, const oct_request *request, const oct_answer *answer, size_t prompt_tokens)
{
    const double tokens_per_s = answer->decode_s > 0 ? answer->steps / answer->decode_s : 0;
    const oct_figure figures[] = {
        {"prompt_tokens", (double)prompt_tokens, true},
        {"generated_tokens", (double)answer->tokens.count, true},
        {"time_to_first_token_s", answer->prefill_s, false},
        {"decode_tokens_per_s", tokens_per_s, false},
    };
    const oct_response response = {
        .id = request->id,
        .text = answer->text,
        .text_bytes = answer->text_bytes,
        .token_ids = answer->tokens.ids,
        .token_count = answer->tokens.count,
        .finish_reason = answer->finish,
        .figures = figures,
        .figure_count = sizeof figures / sizeof figures[0],
        .logprobs = b->chosen,
        .top = b->top,
        .top_count = b->top_count,
    };
    return oct_writer_put(b->writer, &response);
}

static oct_status answer_request(batch *b, const oct_request *request, int64_t number)
{
    oct_session *session = b->session;
    oct_token_list prompt = {0};
    oct_answer answer = {0};
    oct_status status = encode(b, request, &prompt);
    if (status == OCT_OK)
        status = make_logprobs_room(b, request);
    if (status == OCT_OK)
        status = oct_engine_begin_sequence(session->engine, 0, &request->sampling, NULL, 0, 0);
    if (status == OCT_OK) {
        const oct_question question = {.prompt = prompt.ids,
                                       .prompt_tokens = (int32_t)prompt.count,
                                       .max_tokens = request->max_tokens,
                                       .stops = (const char *const *)request->stops,
                                       .stop_count = (int32_t)request->stop_count,
                                       .ignore_eos = request->ignore_eos,
                                       .on_choice = b->top_count > 0 ? keep_choice : NULL,
                                       .context = b};
        status = oct_answer_make(&answer, session, &question);
    }
    if (status == OCT_OK)
        status = oct_figures_add(&session->figures, &answer, (int32_t)prompt.count, oct_engine_length(session->engine, 0));
    if (status == OCT_OK)
        status = write_answer(b, request, &answer, prompt.count);
    else if (oct_session_can_go_on(session, status))
        status = write_error(b, request, number);
    oct_answer_free(&answer);
    oct_token_list_free(&prompt);
    return status;
}

static oct_status take_line(batch *b, const char *line, size_t bytes, int64_t number)
{
    if (oct_request_line_is_blank(line, bytes))
        return OCT_OK;
    oct_request request;
    oct_status status = oct_request_parse(&request, line, bytes, b->input_name, number, &b->defaults,
                                          oct_engine_model(b->session->engine)->vocabulary);
    status = status == OCT_OK ? answer_request(b, &request, number) : write_error(b, &request, 0);
    oct_request_free(&request);
    return status;
}

static oct_status take_lines(batch *b)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    oct_status status = OCT_OK;
    for (int64_t number = 1; status == OCT_OK; number++) {
        status = oct_engine_idle(b->session->engine); // the next line may come through a pipe, or from a person
        if (status == OCT_OK)
            status = oct_writer_check(b->writer);
        if (status != OCT_OK || (length = getline(&line, &capacity, b->input)) < 0)
            break;
        status = take_line(b, line, (size_t)length, number);
    }
    if (status == OCT_OK && ferror(b->input))
        status = oct_fail(OCT_ERR_FILE, "'%s' cannot be read: %s", b->input_name, strerror(errno));
    free(line);
    return status;
}

oct_status oct_batch_run(oct_session *session)
{
    batch b = {.session = session};
    oct_status status = make_defaults(&b);
    if (status == OCT_OK)
        status = open_files(&b);
    if (status == OCT_OK)
        status = take_lines(&b);
    status = close_files(&b, status);
    if (status == OCT_OK && b.some_failed)
        status = oct_fail(OCT_ERR_FILE, "some lines of '%s' could not be answered; their objects in %s have \"error\"",
                          b.input_name, b.output_name);
    oct_request_free(&b.defaults);
    free(b.chosen);
    free(b.top);
    return status;
}
