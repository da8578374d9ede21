// The batch: lines in, lines out, many at once. A line that is wrong costs only itself.
#include "launch/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/answer.h"
#include "launch/lines.h"
#include "launch/writer.h"
#include "runtime/request.h"
#include "runtime/response.h"

// A request on its way.
typedef struct batch_item {
    bool used;
    int64_t number;  // of its line
    int64_t request; // of its kind, from 0: lines that hold something
    oct_request asked;
    oct_answer answer;
} batch_item;

typedef struct batch {
    oct_session *session;
    oct_request defaults;
    FILE *input;
    oct_writer *writer; // NULL while nobody shall see the answers
    const char *input_name, *output_name;
    oct_lines lines;
    bool ended; // the input has
    bool some_failed;
    bool template_known;
    int64_t line_number, requests;
    batch_item *items; // [item_count]
    int32_t item_count;
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
    b->lines = oct_lines_begin(fileno(b->input), b->input_name);
    struct stat facts;
    if (b->session->records) // the first of two passes
        return fstat(fileno(b->input), &facts) == 0 && S_ISREG(facts.st_mode) && !from_stdin
                   ? OCT_OK
                   : oct_fail(OCT_ERR_USAGE, "--speculate %s reads the requests twice, and '%s' is no file; give one",
                              options->speculate, b->input_name);
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

static oct_status write_response(batch *b, const oct_response *response)
{
    return b->writer == NULL ? OCT_OK : oct_writer_put(b->writer, response);
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
    return write_response(b, &response);
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

static oct_status write_answer(batch *b, const oct_request *request, const oct_answer *answer)
{
    const double decode_s = (double)(answer->last_ns - answer->first_ns) * 1e-9;
    const oct_figure figures[] = {
        {"prompt_tokens", (double)answer->prompt_tokens, true},
        {"generated_tokens", (double)answer->tokens.count, true},
        {"time_to_first_token_s", (double)(answer->first_ns - answer->begin_ns) * 1e-9, false},
        {"decode_tokens_per_s", decode_s > 0 ? (answer->taken - 1) / decode_s : 0, false},
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
        .logprobs = answer->chosen,
        .top = answer->top,
        .top_count = answer->top_count,
    };
    return write_response(b, &response);
}

// The line of a request that came to nothing, for the reason that is kept.
static oct_status fail_request(batch *b, const oct_request *request, int64_t index, int64_t number)
{
    const oct_status status = write_error(b, request, number);
    return status != OCT_OK ? status : oct_figures_add(&b->session->figures, index, NULL);
}

static batch_item *unused_item(batch *b)
{
    int32_t i = 0;
    while (b->items[i].used)
        i++;
    return &b->items[i];
}

static void drop(batch_item *item)
{
    oct_answer_free(&item->answer);
    oct_request_free(&item->asked);
    item->used = false;
}

// Hands an item's request to the coordinator, which has room.
static oct_status ask(batch *b, batch_item *item)
{
    oct_session *session = b->session;
    const oct_request *request = &item->asked;
    oct_token_list prompt = {0};
    oct_status status = encode(b, request, &prompt);
    if (status == OCT_OK) {
        const oct_question question = {.number = item->request,
                                       .prompt = prompt.ids,
                                       .prompt_tokens = (int32_t)prompt.count,
                                       .sampling = &request->sampling,
                                       .max_tokens = request->max_tokens,
                                       .stops = (const char *const *)request->stops,
                                       .stop_count = (int32_t)request->stop_count,
                                       .ignore_eos = request->ignore_eos};
        status = oct_answer_begin(&item->answer, session, &question);
    }
    oct_token_list_free(&prompt);
    item->used = status == OCT_OK;
    if (item->used || !oct_session_can_go_on(session, status))
        return status;
    status = fail_request(b, request, item->request, item->number);
    drop(item);
    return status;
}

static oct_status take_line(batch *b, const char *line, size_t bytes)
{
    const int64_t number = ++b->line_number;
    if (oct_request_line_is_blank(line, bytes))
        return OCT_OK;
    batch_item *item = unused_item(b);
    item->number = number;
    item->request = b->requests++;
    oct_status status = oct_request_parse(&item->asked, line, bytes, b->input_name, number, &b->defaults,
                                          oct_engine_model(b->session->engine)->vocabulary);
    if (status == OCT_OK)
        return ask(b, item);
    status = fail_request(b, &item->asked, item->request, 0);
    drop(item);
    return status;
}

// Takes lines that are there while the coordinator has room; waits for one only where there is nothing else to do. No
// more at once than there is room for in all, so that many wrong lines do not hold up what is being decoded.
static oct_status take_lines(batch *b)
{
    oct_coordinator *coordinator = b->session->coordinator;
    oct_line_state state = OCT_LINE_READY;
    oct_status status = OCT_OK;
    for (int32_t i = 0; status == OCT_OK && state == OCT_LINE_READY && i < b->item_count &&
                        oct_coordinator_has_room(coordinator);
         i++) {
        const char *line;
        size_t bytes;
        status = oct_lines_next(&b->lines, false, &state, &line, &bytes);
        if (status == OCT_OK && state == OCT_LINE_LATER && oct_coordinator_is_idle(coordinator)) {
            status = oct_engine_idle(b->session->engine); // the next line may come through a pipe, or from a person
            if (status == OCT_OK)
                status = oct_lines_next(&b->lines, true, &state, &line, &bytes);
        }
        if (status == OCT_OK && state == OCT_LINE_READY)
            status = take_line(b, line, bytes);
    }
    b->ended = state == OCT_LINE_END;
    return status;
}

// Of the answers that have ended, that which was asked for first; NULL where none has.
static batch_item *first_ended(batch *b)
{
    batch_item *first = NULL;
    for (int32_t i = 0; i < b->item_count; i++) {
        batch_item *item = &b->items[i];
        if (item->used && item->answer.ended && (first == NULL || item->number < first->number))
            first = item;
    }
    return first;
}

static oct_status finish_items(batch *b)
{
    oct_status status = OCT_OK;
    for (batch_item *item; status == OCT_OK && (item = first_ended(b)) != NULL;) {
        const oct_answer *answer = &item->answer;
        if (answer->status == OCT_OK) {
            status = oct_figures_add(&b->session->figures, item->request, answer);
            if (status == OCT_OK)
                status = write_answer(b, &item->asked, answer);
        } else {
            status = oct_fail(answer->status, "%s", answer->error);
            if (oct_session_can_go_on(b->session, status))
                status = fail_request(b, &item->asked, item->request, item->number);
        }
        drop(item);
    }
    return status;
}

static oct_status answer_lines(batch *b)
{
    oct_coordinator *coordinator = b->session->coordinator;
    oct_status status = OCT_OK;
    while (status == OCT_OK && !(b->ended && oct_coordinator_is_idle(coordinator))) {
        if (b->writer != NULL)
            status = oct_writer_check(b->writer);
        if (status == OCT_OK && !b->ended)
            status = take_lines(b);
        if (status == OCT_OK && !oct_coordinator_is_idle(coordinator))
            status = oct_session_step(b->session);
        if (status == OCT_OK)
            status = finish_items(b);
    }
    return status;
}

static oct_status make_items(batch *b)
{
    b->item_count = oct_coordinator_capacity(b->session->coordinator) + 1; // one for a line that is wrong
    b->items = calloc((size_t)b->item_count, sizeof *b->items);
    return b->items != NULL ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for %d requests", b->item_count);
}

oct_status oct_batch_run(oct_session *session)
{
    batch b = {.session = session};
    oct_status status = make_defaults(&b);
    if (status == OCT_OK)
        status = make_items(&b);
    if (status == OCT_OK)
        status = open_files(&b);
    if (status == OCT_OK)
        status = answer_lines(&b);
    status = close_files(&b, status);
    if (status == OCT_OK && b.some_failed && !session->records)
        status = oct_fail(OCT_ERR_FILE, "some lines of '%s' could not be answered; their objects in %s have \"error\"",
                          b.input_name, b.output_name);
    for (int32_t i = 0; i < b.item_count; i++)
        drop(&b.items[i]);
    free(b.items);
    oct_lines_free(&b.lines);
    oct_request_free(&b.defaults);
    return status;
}
