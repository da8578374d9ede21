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

// Sees to a page for the next token of a sequence, unless it is itself the youngest then, and has no slot any more.
static void promise(oct_coordinator *c, const oct_sequence *sequence)
{
    const int32_t length = oct_sequence_length(c, sequence);
    const int32_t needed = oct_page_count(length + 1) - oct_page_count(length);
    while (unpromised(c) < needed) {
        assert(c->running > 1); // the cache holds one whole sequence
        oct_coordinator_preempt(c);
        if (sequence->slot < 0)
            return;
    }
    c->promised += needed;
}

// The next token of everything that decodes, and of the oldest whatever it does, oldest first: who has to go for them
// is younger than all that have been promised a page.
static void promise_all(oct_coordinator *c)
{
    for (int32_t i = 0; i < c->running; i++)
        if (i == 0 || oct_sequence_decodes(c, c->live[i]))
            promise(c, c->live[i]);
}

static oct_step_part *add_part(oct_coordinator *c, oct_sequence *sequence, bool decodes)
{
    oct_step_part *part = &c->parts[c->part_count++];
    part->sequence = sequence;
    part->decodes = decodes;
    part->choices = part->draft_count = part->proposed = 0;
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

static oct_status propose_one(oct_coordinator *c, oct_step_part *part, int32_t most)
{
    oct_drafter *drafter = c->options.drafter;
    return drafter->propose(drafter, part->sequence->slot, most, part->drafts, &part->proposed);
}

// The same for all parts at once.
static oct_status propose_together(oct_coordinator *c, const int32_t most[])
{
    oct_drafter *drafter = c->options.drafter;
    int32_t count = 0;
    for (int32_t i = 0; i < c->part_count; i++)
        if (most[i] > 0)
            c->wishes[count++] = (oct_draft_wish){
                .slot = c->parts[i].sequence->slot, .most = most[i], .drafts = c->parts[i].drafts};
    const oct_status status = count > 0 ? drafter->propose_all(drafter, c->wishes, count) : OCT_OK;
    const oct_draft_wish *wish = c->wishes;
    for (int32_t i = 0; status == OCT_OK && i < c->part_count; i++)
        if (most[i] > 0)
            c->parts[i].proposed = wish++->count;
    return status;
}

// What the drafter guesses behind the newest tokens of all parts' sequences: no more than each may still gain.
static oct_status propose(oct_coordinator *c)
{
    oct_status status = OCT_OK;
    if (c->options.drafter == NULL)
        return OCT_OK;
    for (int32_t i = 0; i < c->part_count; i++) {
        const oct_sequence *sequence = c->parts[i].sequence;
        c->most[i] = smaller(c->options.draft_tokens, sequence->limit - sequence->count - 1);
    }
    const int64_t begin = oct_now_ns();
    if (c->options.drafter->propose_all != NULL)
        status = propose_together(c, c->most);
    else
        for (int32_t i = 0; status == OCT_OK && i < c->part_count; i++)
            if (c->most[i] > 0)
                status = propose_one(c, &c->parts[i], c->most[i]);
    c->figures.draft_s += (double)(oct_now_ns() - begin) * 1e-9;
    return status;
}

// How many of the proposals of all parts are to be verified, beside `columns` that stand in the step anyway.
static void choose_drafts(oct_coordinator *c, int32_t columns, int32_t room)
{
    for (int32_t i = 0; i < c->part_count; i++) {
        oct_step_part *part = &c->parts[i];
        part->draft_count = part->proposed;
        c->proposals[i] = (oct_proposal){.drafts = part->drafts, .count = part->proposed};
    }
    if (c->options.controller == NULL)
        return;
    oct_controller_choose(c->options.controller, columns, room, c->proposals, c->part_count);
    for (int32_t i = 0; i < c->part_count; i++)
        c->parts[i].draft_count = c->proposals[i].chosen;
}

// The newest token of a sequence and its drafts, of which `room` and the free pages may leave out the last.
static void add_decoding(oct_coordinator *c, oct_step_part *part, int32_t room)
{
    const oct_sequence *sequence = part->sequence;
    const int32_t certain = oct_sequence_length(c, sequence) + 1;
    part->draft_count = smaller(smaller(part->draft_count, room), page_room(c, certain));
    c->promised += oct_page_count(certain + part->draft_count) - oct_page_count(certain);
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
    count_work(c, &prompt_tokens, &decoding);
    const int32_t half = (c->chunk + 1) / 2;
    int32_t room = c->step_columns - decoding - (prompt_tokens < half ? (int32_t)prompt_tokens : half);
    room = room < 0 ? 0 : room; // more sequences than half of the columns: their tokens come first all the same
    for (int32_t i = 0; i < c->running; i++)
        if (oct_sequence_decodes(c, c->live[i]))
            add_part(c, c->live[i], true);
    const oct_status status = propose(c);
    if (status != OCT_OK)
        return status;
    choose_drafts(c, decoding + (prompt_tokens < c->chunk ? (int32_t)prompt_tokens : c->chunk), room);
    for (int32_t i = 0; i < decoding; i++) {
        add_decoding(c, &c->parts[i], room);
        room -= c->parts[i].draft_count;
    }
    report->decoding = decoding;
    return OCT_OK;
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
    c->column_count = c->choice_count = c->part_count = c->promised = 0;
    promise_all(c);
    const oct_status status = plan_decoding(c, report);
    if (status == OCT_OK)
        plan_prompts(c, report);
    report->columns = c->column_count;
    assert(status != OCT_OK || c->column_count > 0);
    return status;
}
