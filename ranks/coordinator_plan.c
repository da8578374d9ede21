// What stands in a step: decode tokens, drafts, prompts, within the step's columns and the KV cache's pages.
#include "ranks/coordinator_state.h"

#include <assert.h>

#include "runtime/progress.h"

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t unpromised(const oct_coordinator *c)
{
    return oct_engine_free_pages(c->engine) - c->promised;
}

// Sees to a page for the next token of a sequence; *kept false: it was itself the youngest, and has no slot any more.
static oct_status promise(oct_coordinator *c, const oct_sequence *sequence, bool *kept)
{
    const int32_t length = oct_sequence_length(c, sequence);
    const int32_t needed = oct_page_count(length + 1) - oct_page_count(length);
    *kept = true;
    while (unpromised(c) < needed) {
        assert(c->running > 1); // the cache holds one whole sequence
        *kept = c->live[c->running - 1] != sequence;
        const oct_status status = oct_coordinator_preempt(c);
        if (status != OCT_OK || !*kept)
            return status;
    }
    c->promised += needed;
    return OCT_OK;
}

// The next token of everything that decodes, and of the oldest whatever it does, oldest first: who has to go for them is
// younger than all that have been promised a page.
static oct_status promise_all(oct_coordinator *c)
{
    oct_status status = OCT_OK;
    bool kept;
    for (int32_t i = 0; status == OCT_OK && i < c->running; i++)
        if (i == 0 || oct_sequence_decodes(c, c->live[i]))
            status = promise(c, c->live[i], &kept);
    return status;
}

static oct_step_part *add_part(oct_coordinator *c, oct_sequence *sequence, bool decodes)
{
    oct_step_part *part = &c->parts[c->part_count++];
    part->sequence = sequence;
    part->decodes = decodes;
    part->choices = part->draft_count = 0;
    return part;
}

static void add_column(oct_coordinator *c, oct_step_part *part, int32_t token, bool prompt, bool wanted)
{
    c->columns[c->column_count++] = (oct_control_column){.token = token,
                                                         .slot = part->sequence->slot,
                                                         .want = wanted ? OCT_WANT_TOKEN : OCT_WANT_NOTHING,
                                                         .prompt = prompt};
    if (part->choices == 0)
        part->first_choice = c->choice_count;
    part->choices += wanted;
    c->choice_count += wanted;
}

// How many more positions a sequence can get behind the first `certain` ones (whose pages are promised or there).
static int32_t page_room(const oct_coordinator *c, int32_t certain)
{
    const int32_t in_page = oct_page_count(certain) * OCT_PAGE_POSITIONS - certain;
    return unpromised(c) * OCT_PAGE_POSITIONS + in_page;
}

static oct_status propose(oct_coordinator *c, oct_step_part *part, int32_t most)
{
    oct_drafter *drafter = c->options.drafter;
    const int64_t begin = oct_now_ns();
    const oct_status status = drafter->propose(drafter, part->sequence->slot, most, part->drafts, &part->draft_count);
    c->figures.draft_s += (double)(oct_now_ns() - begin) * 1e-9;
    return status;
}

// Drafts behind the newest token of a sequence: at most `room`, no more than it may still gain, and only within pages
// that are free. Where they are proposed for all sequences at once, room and pages for the most that may come.
static oct_status reserve_drafts(oct_coordinator *c, oct_step_part *part, int32_t room)
{
    oct_drafter *drafter = c->options.drafter;
    const oct_sequence *sequence = part->sequence;
    const int32_t certain = oct_sequence_length(c, sequence) + 1;
    int32_t most = smaller(smaller(c->options.draft_tokens, room), sequence->limit - sequence->count - 1);
    most = smaller(most, page_room(c, certain));
    if (drafter == NULL || most <= 0)
        return OCT_OK;
    oct_status status = OCT_OK;
    if (drafter->propose_all == NULL) {
        status = propose(c, part, most);
    } else {
        c->wishes[c->wish_count++] =
            (oct_draft_wish){.slot = sequence->slot, .most = most, .drafts = part->drafts};
        part->draft_count = most;
    }
    c->promised += oct_page_count(certain + part->draft_count) - oct_page_count(certain);
    return status;
}

// The proposals for all sequences at once; pages that they do not take are free again.
static oct_status propose_all(oct_coordinator *c)
{
    if (c->wish_count == 0)
        return OCT_OK;
    const int64_t begin = oct_now_ns();
    const oct_status status = c->options.drafter->propose_all(c->options.drafter, c->wishes, c->wish_count);
    c->figures.draft_s += (double)(oct_now_ns() - begin) * 1e-9;
    const oct_draft_wish *wish = c->wishes;
    for (int32_t i = 0; status == OCT_OK && i < c->part_count; i++) {
        oct_step_part *part = &c->parts[i];
        if (part->draft_count == 0)
            continue;
        const int32_t certain = oct_sequence_length(c, part->sequence) + 1;
        part->draft_count = wish->count;
        c->promised -= oct_page_count(certain + wish->most) - oct_page_count(certain + wish->count);
        wish++;
    }
    return status;
}

static void add_decoding(oct_coordinator *c, oct_step_part *part)
{
    const oct_sequence *sequence = part->sequence;
    add_column(c, part, sequence->tokens[sequence->count - 1], false, true);
    for (int32_t i = 0; i < part->draft_count; i++)
        add_column(c, part, part->drafts[i].token, false, true);
}

// Tokens of prompts that could be in this step, and sequences that decode.
static void count_work(const oct_coordinator *c, int64_t *prompt_tokens, int32_t *decoding)
{
    *prompt_tokens = *decoding = 0;
    for (int32_t i = 0; i < c->running; i++) {
        if (oct_sequence_decodes(c, c->live[i]))
            ++*decoding;
        else
            *prompt_tokens += c->live[i]->count - oct_sequence_length(c, c->live[i]);
    }
}

static oct_status plan_decoding(oct_coordinator *c, oct_step_report *report)
{
    int64_t prompt_tokens;
    int32_t decoding;
    oct_status status = OCT_OK;
    count_work(c, &prompt_tokens, &decoding);
    const int32_t half = (c->chunk + 1) / 2;
    int32_t room = c->step_columns - decoding - (prompt_tokens < half ? (int32_t)prompt_tokens : half);
    for (int32_t i = 0; status == OCT_OK && i < c->running; i++) {
        oct_sequence *sequence = c->live[i];
        if (!oct_sequence_decodes(c, sequence))
            continue;
        oct_step_part *part = add_part(c, sequence, true);
        status = reserve_drafts(c, part, room);
        room -= part->draft_count;
    }
    if (status == OCT_OK)
        status = propose_all(c);
    for (int32_t i = 0; status == OCT_OK && i < c->part_count; i++)
        add_decoding(c, &c->parts[i]);
    report->decoding = decoding;
    return status;
}

// A piece of a prompt, or of a sequence that is decoded again: at most `room` tokens, and within pages that are free.
static void add_prompt(oct_coordinator *c, oct_sequence *sequence, int32_t certain, int32_t room)
{
    const int32_t length = oct_sequence_length(c, sequence);
    const int32_t count =
        smaller(smaller(sequence->count - length, room), certain - length + page_room(c, certain));
    if (count < 1)
        return;
    oct_step_part *part = add_part(c, sequence, false);
    if (length + count > certain)
        c->promised += oct_page_count(length + count) - oct_page_count(certain);
    for (int32_t at = length; at < length + count; at++)
        add_column(c, part, sequence->tokens[at], at < sequence->request.prompt_tokens, at + 1 == sequence->count);
    c->turn = sequence->order;
}

static void plan_prompts(oct_coordinator *c, oct_step_report *report)
{
    const int32_t begin = c->column_count, end = smaller(c->step_columns, begin + c->chunk);
    int32_t first = 0;
    while (first < c->running && c->live[first]->order <= c->turn)
        first++;
    for (int32_t i = 0; i < c->running && c->column_count < end; i++) {
        const int32_t at = (first + i) % c->running;
        oct_sequence *sequence = c->live[at];
        if (!oct_sequence_decodes(c, sequence))
            add_prompt(c, sequence, oct_sequence_length(c, sequence) + (at == 0), end - c->column_count);
    }
    report->prompt_columns = c->column_count - begin;
}

oct_status oct_coordinator_plan(oct_coordinator *c, oct_step_report *report)
{
    c->column_count = c->choice_count = c->part_count = c->wish_count = c->promised = 0;
    oct_status status = promise_all(c);
    if (status == OCT_OK)
        status = plan_decoding(c, report);
    if (status == OCT_OK)
        plan_prompts(c, report);
    report->columns = c->column_count;
    assert(status != OCT_OK || c->column_count > 0);
    return status;
}
