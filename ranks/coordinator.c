// The coordinator's sequences: how they come, wait, get slots, lose them and go, and the frame of a step. What stands
// in a step is planned in coordinator_plan.c, what comes of it is taken in coordinator_take.c.
#include "ranks/coordinator_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/progress.h"

static oct_status allocate(oct_coordinator *c)
{
    const size_t capacity = (size_t)c->capacity, slots = (size_t)c->slot_count, context = (size_t)c->context;
    c->sequences = calloc(capacity, sizeof *c->sequences);
    c->live = calloc(capacity, sizeof *c->live);
    c->unused = calloc(capacity, sizeof *c->unused);
    c->slots = calloc(slots, sizeof *c->slots);
    c->token_memory = malloc(capacity * context * sizeof *c->token_memory);
    c->columns = malloc((size_t)c->step_columns * sizeof *c->columns);
    c->choices = malloc((size_t)c->step_columns * sizeof *c->choices);
    c->parts = malloc(slots * sizeof *c->parts);
    c->proposals = malloc(slots * sizeof *c->proposals);
    c->wishes = malloc(slots * sizeof *c->wishes);
    c->most = malloc(slots * sizeof *c->most);
    if (c->sequences == NULL || c->live == NULL || c->unused == NULL || c->slots == NULL || c->token_memory == NULL ||
        c->columns == NULL || c->choices == NULL || c->parts == NULL || c->proposals == NULL || c->wishes == NULL ||
        c->most == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory to coordinate %d sequences of %d tokens", c->slot_count,
                        c->context);
    for (int32_t i = 0; i < c->capacity; i++) {
        c->sequences[i].tokens = c->token_memory + (size_t)i * context;
        c->unused[i] = &c->sequences[c->capacity - 1 - i];
    }
    return OCT_OK;
}

static oct_status check_options(const oct_coordinator *c)
{
    const int32_t drafts = c->options.draft_tokens;
    if (drafts < 0 || drafts > OCT_MAX_DRAFT_TOKENS)
        return oct_fail(OCT_ERR_USAGE, "%d draft tokens, expected 0 to %d", drafts, OCT_MAX_DRAFT_TOKENS);
    const int32_t sampled = oct_engine_read_figures(c->engine)->sampled_columns;
    if ((int64_t)c->slot_count * (1 + drafts) > sampled)
        return oct_fail(OCT_ERR_USAGE, "%d sequences with %d draft tokens each pass the %d tokens that a step chooses",
                        c->slot_count, drafts, sampled);
    if (c->pages < oct_page_count(c->context))
        return oct_fail(OCT_ERR_USAGE,
                        "a KV cache of %d tokens holds no sequence of the context of %d tokens; give more --kv-tokens, "
                        "or a smaller --context",
                        c->pages * OCT_PAGE_POSITIONS, c->context);
    return OCT_OK;
}

oct_status oct_coordinator_create(oct_coordinator **out, oct_engine *engine, const oct_coordinator_options *options)
{
    const oct_engine_figures *figures = oct_engine_read_figures(engine);
    oct_coordinator *c = calloc(1, sizeof *c);
    if (c == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the coordinator");
    c->engine = engine;
    c->options = *options;
    c->context = figures->context;
    c->slot_count = figures->slots;
    c->step_columns = figures->step_columns;
    c->chunk = figures->prefill_chunk;
    c->pages = figures->kv_pages;
    c->capacity = 2 * c->slot_count;
    oct_status status = check_options(c);
    if (status == OCT_OK)
        status = allocate(c);
    if (status != OCT_OK) {
        oct_coordinator_destroy(c);
        return status;
    }
    *out = c;
    return OCT_OK;
}

void oct_coordinator_destroy(oct_coordinator *c)
{
    if (c == NULL)
        return;
    free(c->sequences);
    free(c->live);
    free(c->unused);
    free(c->slots);
    free(c->token_memory);
    free(c->columns);
    free(c->choices);
    free(c->parts);
    free(c->proposals);
    free(c->wishes);
    free(c->most);
    free(c);
}

int32_t oct_coordinator_capacity(const oct_coordinator *c)
{
    return c->capacity;
}

bool oct_coordinator_has_room(const oct_coordinator *c)
{
    return c->live_count < c->capacity;
}

int64_t oct_coordinator_steps_left(const oct_coordinator *c)
{
    int64_t steps = 0;
    for (int32_t i = 0; i < c->live_count; i++)
        steps += c->live[i]->limit - c->live[i]->count;
    return steps;
}

bool oct_coordinator_is_idle(const oct_coordinator *c)
{
    return c->live_count == 0;
}

const oct_coordinator_figures *oct_coordinator_read_figures(const oct_coordinator *c)
{
    return &c->figures;
}

oct_status oct_coordinator_submit(oct_coordinator *c, const oct_sequence_request *request)
{
    assert(oct_coordinator_has_room(c) && request->max_tokens >= 1);
    if (request->prompt_tokens < 1)
        return oct_fail(OCT_ERR_USAGE, "the prompt is empty, expected at least one token");
    if (request->prompt_tokens >= c->context)
        return oct_fail(OCT_ERR_USAGE,
                        "the prompt is %d tokens long, the context holds %d; shorten it or give a larger --context",
                        request->prompt_tokens, c->context);
    oct_sequence *sequence = c->unused[c->capacity - 1 - c->live_count];
    const int32_t room = c->context - request->prompt_tokens;
    sequence->request = *request;
    sequence->request.prompt = sequence->tokens;
    memcpy(sequence->tokens, request->prompt, (size_t)request->prompt_tokens * sizeof *sequence->tokens);
    sequence->order = ++c->orders;
    sequence->count = request->prompt_tokens;
    sequence->limit = request->prompt_tokens + (request->max_tokens < room ? request->max_tokens : room);
    sequence->slot = -1;
    c->live[c->live_count++] = sequence;
    return OCT_OK;
}

// Pages that a sequence takes besides those that it has, for the tokens that are known and one page more to go on.
static int32_t more_pages(const oct_coordinator *c, const oct_sequence *sequence)
{
    const int32_t most = oct_page_count(sequence->limit), soon = oct_page_count(sequence->count + 1) + 1;
    return (soon < most ? soon : most) - oct_page_count(oct_sequence_length(c, sequence));
}

// The next waiting sequence may begin: there is a slot, pages for it beside all that run, and room in this step for
// some of its prompt. It shares what is computed when it begins, so it does not begin long before its first step; one a
// step may begin behind a long prompt, because its turn comes next.
static bool may_begin(const oct_coordinator *c, int32_t begun)
{
    if (c->running == c->live_count || c->running == c->slot_count)
        return false;
    const oct_sequence *next = c->live[c->running];
    int64_t pages = oct_engine_pages_wanted(c->engine, next->tokens, next->count), prompts = 0;
    pages += oct_page_count(next->limit) > oct_page_count(next->count);
    for (int32_t i = 0; i < c->running; i++) {
        pages += more_pages(c, c->live[i]);
        prompts += oct_sequence_decodes(c, c->live[i]) ? 0 : c->live[i]->count - oct_sequence_length(c, c->live[i]);
    }
    if (begun > 0 && prompts >= c->chunk)
        return false;
    return pages <= oct_engine_free_pages(c->engine) || c->running == 0;
}

static oct_status tell_drafter(oct_coordinator *c, const oct_sequence *sequence)
{
    oct_drafter *drafter = c->options.drafter;
    const int32_t prompt = sequence->request.prompt_tokens;
    oct_status status = OCT_OK;
    if (drafter != NULL && drafter->begin != NULL)
        status = drafter->begin(drafter, sequence->slot, sequence->request.number, sequence->tokens, prompt,
                                sequence->request.sampling);
    if (status == OCT_OK && drafter != NULL && drafter->append != NULL && sequence->count > prompt)
        status = drafter->append(drafter, sequence->slot, sequence->tokens + prompt, sequence->count - prompt);
    return status;
}

static int32_t free_slot(const oct_coordinator *c)
{
    int32_t slot = 0;
    while (c->slots[slot] != NULL)
        slot++;
    return slot;
}

// Gives slots to waiting sequences, as far as there are slots and pages.
static oct_status admit(oct_coordinator *c)
{
    oct_status status = OCT_OK;
    for (int32_t begun = 0; status == OCT_OK && may_begin(c, begun); begun++) {
        oct_sequence *sequence = c->live[c->running++];
        sequence->slot = free_slot(c);
        c->slots[sequence->slot] = sequence;
        status = oct_engine_begin_sequence(c->engine, sequence->slot, sequence->request.sampling, sequence->tokens,
                                           sequence->count, sequence->request.prompt_tokens);
        c->figures.shared_tokens += oct_sequence_length(c, sequence);
        if (status == OCT_OK)
            status = tell_drafter(c, sequence);
    }
    return status;
}

// Gives the slot of a sequence back.
static void leave_slot(oct_coordinator *c, oct_sequence *sequence, bool finished)
{
    oct_drafter *drafter = c->options.drafter;
    const int32_t slot = sequence->slot;
    if (drafter != NULL && drafter->end != NULL)
        drafter->end(drafter, slot, finished);
    c->slots[slot] = NULL;
    c->running--;
    sequence->slot = -1;
    oct_engine_truncate(c->engine, slot, 0);
}

void oct_coordinator_preempt(oct_coordinator *c)
{
    c->figures.preempted++;
    leave_slot(c, c->live[c->running - 1], false);
}

void oct_coordinator_retire(oct_coordinator *c, oct_sequence *sequence)
{
    int32_t at = 0;
    while (c->live[at] != sequence)
        at++;
    memmove(c->live + at, c->live + at + 1, (size_t)(c->live_count - at - 1) * sizeof(oct_sequence *));
    c->live_count--;
    c->unused[c->capacity - 1 - c->live_count] = sequence;
    leave_slot(c, sequence, true);
}

oct_status oct_coordinator_step(oct_coordinator *c, oct_step_report *report)
{
    assert(!oct_coordinator_is_idle(c));
    const int64_t begin = oct_now_ns();
    *report = (oct_step_report){0};
    oct_status status = admit(c);
    if (status == OCT_OK)
        status = oct_coordinator_plan(c, report);
    const int64_t planned = oct_now_ns();
    if (status == OCT_OK)
        status = oct_engine_step(c->engine, c->columns, c->column_count, c->choices, NULL, NULL);
    const int64_t stepped = oct_now_ns();
    if (status == OCT_OK)
        status = oct_coordinator_take(c, report);
    report->engine_s = (double)(stepped - planned) * 1e-9;
    if (status == OCT_OK)
        oct_coordinator_time(c, report);
    report->seconds = (double)(oct_now_ns() - begin) * 1e-9;
    return status;
}
