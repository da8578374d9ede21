// A small model that decodes ahead. What the coordinator says of a sequence is only written down here; the draft engine
// hears of it in the next proposal, so that the ranks change engines twice a step and not at every call.
//
// The draft's KV cache holds a sequence's known tokens and, behind them, all but the last of its own guesses. The
// next known tokens show how many of those were right (`held`); the rest is cut off before anything is put behind it.
// Then all slots of the proposal go through the draft model together: first what it has not read yet, then a token
// each a step.
#include "ranks/drafter_model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/page_table.h"

typedef struct sequence {
    bool running;
    bool broken; // the draft's logits are not numbers
    oct_sampling sampling;
    int32_t *tokens; // [context] the known ones, then the last proposal's
    int32_t count, prompt_count;
    int32_t begun_count; // tokens that it was begun with in the draft engine's slot, 0: it was not
    int32_t proposed; // tokens behind the known ones
    int32_t held;     // tokens at its beginning that the draft's KV cache has
} sequence;

// The part of a sequence in a step of the draft engine.
typedef struct step_part {
    oct_draft_wish *wish;
    int32_t columns;
} step_part;

typedef struct model_drafter {
    oct_drafter drafter;
    oct_engine *target, *draft;
    int32_t slots, context, vocabulary, step_columns;
    int64_t compared, right; // guesses behind right ones only
    int32_t *token_memory;   // [slots][context]

    // A step of the draft engine.
    oct_control_column *columns; // [step_columns]
    oct_choice *choices;         // [slots]
    step_part *parts;            // [slots]
    int32_t column_count, part_count;
    int32_t promised; // pages that the columns will take

    sequence sequences[]; // [slots]
} model_drafter;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static oct_status check_slot(const model_drafter *m, int32_t slot, bool running)
{
    if (slot < 0 || slot >= m->slots)
        return oct_fail(OCT_ERR_INTERNAL, "draft model: slot %d of %d", (int)slot, (int)m->slots);
    if (m->sequences[slot].running != running)
        return oct_fail(OCT_ERR_INTERNAL, "draft model: slot %d %s", (int)slot,
                        running ? "has no sequence" : "has a sequence already");
    return OCT_OK;
}

static oct_status check_tokens(const model_drafter *m, int32_t known, const int32_t *tokens, int32_t count)
{
    if (count < 0 || count > m->context - known)
        return oct_fail(OCT_ERR_INTERNAL, "draft model: %d tokens after %d, but only %d fit", (int)count, (int)known,
                        (int)m->context);
    for (int32_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= m->vocabulary)
            return oct_fail(OCT_ERR_INTERNAL, "draft model: token %d is outside the vocabulary of %d", (int)tokens[i],
                            (int)m->vocabulary);
    return OCT_OK;
}

static oct_status begin(oct_drafter *drafter, int32_t slot, int64_t request, const int32_t *prompt, int32_t count,
                        const oct_sampling *sampling)
{
    (void)request;
    model_drafter *m = (model_drafter *)drafter;
    oct_status status = check_slot(m, slot, false);
    if (status == OCT_OK)
        status = check_tokens(m, 0, prompt, count);
    if (status != OCT_OK)
        return status;
    sequence *s = &m->sequences[slot];
    *s = (sequence){
        .running = true, .sampling = *sampling, .tokens = s->tokens, .count = count, .prompt_count = count};
    s->sampling.logprobs = 0; // nobody asks the draft model for them
    memcpy(s->tokens, prompt, (size_t)count * sizeof *prompt);
    return OCT_OK;
}

// The guesses up to the first wrong one.
static void count_right(model_drafter *m, const sequence *s, const int32_t *tokens, int32_t count)
{
    for (int32_t i = 0; i < smaller(count, s->proposed); i++) {
        m->compared++;
        if (s->tokens[s->count + i] != tokens[i])
            break;
        m->right++;
    }
}

static oct_status append(oct_drafter *drafter, int32_t slot, const int32_t *tokens, int32_t count)
{
    model_drafter *m = (model_drafter *)drafter;
    oct_status status = check_slot(m, slot, true);
    if (status == OCT_OK)
        status = check_tokens(m, m->sequences[slot].count, tokens, count);
    if (status != OCT_OK)
        return status;
    sequence *s = &m->sequences[slot];
    count_right(m, s, tokens, count);
    s->proposed = 0;
    for (int32_t i = 0; i < count; i++, s->count++) {
        if (s->count < s->held && s->tokens[s->count] != tokens[i])
            s->held = s->count;
        s->tokens[s->count] = tokens[i];
    }
    return OCT_OK;
}

static void end(oct_drafter *drafter, int32_t slot, bool finished)
{
    (void)finished;
    model_drafter *m = (model_drafter *)drafter;
    assert(slot >= 0 && slot < m->slots);
    m->sequences[slot].running = false;
}

// Slots whose sequences are over give their pages back.
static void release_ended(model_drafter *m)
{
    for (int32_t slot = 0; slot < m->slots; slot++)
        if (!m->sequences[slot].running)
            oct_engine_truncate(m->draft, slot, 0);
}

static oct_status check_wish(const model_drafter *m, const oct_draft_wish *wish)
{
    const oct_status status = check_slot(m, wish->slot, true);
    if (status != OCT_OK)
        return status;
    const int32_t known = m->sequences[wish->slot].count;
    if (known >= 1 && wish->most >= 1 && wish->most <= m->context - known)
        return OCT_OK;
    return oct_fail(OCT_ERR_INTERNAL, "draft model: %d drafts after %d tokens of a context of %d", (int)wish->most,
                    (int)known, (int)m->context);
}

// Brings the draft engine's slot to where the known tokens are its own, at least one of them still to be read.
static oct_status settle(model_drafter *m, oct_draft_wish *wish)
{
    sequence *s = &m->sequences[wish->slot];
    wish->count = s->proposed = 0;
    if (s->begun_count > 0 && (s->held < s->count || s->begun_count < s->count)) {
        s->held = smaller(s->held, s->count - 1);
        oct_engine_truncate(m->draft, wish->slot, s->held);
        return OCT_OK;
    }
    s->begun_count = s->count; // also for a second proposal before its next token: what it was begun with is not cut
    const oct_status status =
        oct_engine_begin_sequence(m->draft, wish->slot, &s->sampling, s->tokens, s->count, s->prompt_count);
    s->held = oct_engine_length(m->draft, wish->slot);
    return status;
}

// Tokens, guesses included, that the draft model has not read yet.
static int32_t unread(const model_drafter *m, const oct_draft_wish *wish)
{
    return m->sequences[wish->slot].count + wish->count - oct_engine_length(m->draft, wish->slot);
}

// The sequences of the next step: those that want more. As soon as some have a draft, the others, of which more is
// unread than a step takes, wait for the next proposal.
static void choose_parts(model_drafter *m, oct_draft_wish *wishes, int32_t count)
{
    bool some = false;
    for (int32_t i = 0; i < count; i++)
        some = some || wishes[i].count > 0;
    m->part_count = 0;
    for (int32_t i = 0; i < count; i++)
        if (wishes[i].count < wishes[i].most && (!some || wishes[i].count > 0) && !m->sequences[wishes[i].slot].broken)
            m->parts[m->part_count++] = (step_part){.wish = &wishes[i]};
}

// Gives a part up to `most` columns more, of *left ones and of the free pages.
static void grant(model_drafter *m, step_part *part, int32_t most, int32_t *left)
{
    const int32_t end = oct_engine_length(m->draft, part->wish->slot) + part->columns, pages = oct_page_count(end);
    const int32_t free_pages = oct_engine_free_pages(m->draft) - m->promised;
    int32_t more = smaller(smaller(most, *left), unread(m, part->wish) - part->columns);
    more = smaller(more, (pages + free_pages) * OCT_PAGE_POSITIONS - end);
    part->columns += more;
    m->promised += oct_page_count(end + more) - pages;
    *left -= more;
}

// Every sequence gets its fair share of a step, and what others leave.
static void share_columns(model_drafter *m)
{
    int32_t left = m->step_columns;
    const int32_t fair = m->part_count > 0 ? left / m->part_count : 0;
    m->promised = 0;
    for (int32_t i = 0; i < m->part_count; i++)
        grant(m, &m->parts[i], fair, &left);
    for (int32_t i = 0; i < m->part_count; i++)
        grant(m, &m->parts[i], left, &left);
}

static void write_columns(model_drafter *m)
{
    m->column_count = 0;
    for (int32_t i = 0; i < m->part_count; i++) {
        const int32_t slot = m->parts[i].wish->slot, begins = oct_engine_length(m->draft, slot);
        const sequence *s = &m->sequences[slot];
        const int32_t last = begins + unread(m, m->parts[i].wish) - 1;
        for (int32_t at = begins; at < begins + m->parts[i].columns; at++)
            m->columns[m->column_count++] =
                (oct_control_column){.token = s->tokens[at],
                                     .slot = slot,
                                     .want = at == last ? OCT_WANT_TOKEN : OCT_WANT_NOTHING,
                                     .prompt = at < s->prompt_count};
    }
}

// The guesses of a step, behind everything that is read. How often the model was right so far is how likely it is now
// (by the rule of succession: neither never nor always).
static void take_choices(model_drafter *m)
{
    const float probability = (float)(m->right + 1) / (float)(m->compared + 2);
    const oct_choice *choice = m->choices;
    for (int32_t i = 0; i < m->part_count; i++) {
        oct_draft_wish *wish = m->parts[i].wish;
        sequence *s = &m->sequences[wish->slot];
        s->held = oct_engine_length(m->draft, wish->slot);
        if (m->parts[i].columns == 0 || unread(m, wish) > 0)
            continue;
        const int32_t token = choice++->token;
        s->broken = token < 0;
        if (s->broken)
            continue;
        s->tokens[s->count + s->proposed++] = token;
        wish->drafts[wish->count++] =
            (oct_draft){.token = token, .probability = probability, .source = OCT_DRAFT_MODEL};
    }
}

static oct_status decode(model_drafter *m, oct_draft_wish *wishes, int32_t count)
{
    oct_status status = OCT_OK;
    release_ended(m);
    for (int32_t i = 0; status == OCT_OK && i < count; i++)
        status = settle(m, &wishes[i]);
    while (status == OCT_OK) {
        choose_parts(m, wishes, count);
        share_columns(m);
        write_columns(m);
        if (m->column_count == 0)
            break;
        status = oct_engine_step(m->draft, m->columns, m->column_count, m->choices, NULL, NULL);
        if (status == OCT_OK)
            take_choices(m);
    }
    return status;
}

static oct_status propose_all(oct_drafter *drafter, oct_draft_wish *wishes, int32_t count)
{
    model_drafter *m = (model_drafter *)drafter;
    oct_status status = OCT_OK;
    for (int32_t i = 0; status == OCT_OK && i < count; i++)
        status = check_wish(m, &wishes[i]);
    if (status == OCT_OK)
        status = oct_engine_pass(m->target);
    if (status == OCT_OK)
        status = decode(m, wishes, count);
    return status == OCT_OK ? oct_engine_pass(m->draft) : status;
}

static void destroy(oct_drafter *drafter)
{
    model_drafter *m = (model_drafter *)drafter;
    free(m->token_memory);
    free(m->columns);
    free(m->choices);
    free(m->parts);
    free(m);
}

// A draft token must mean the same to both models.
static oct_status compare_vocabularies(const oct_engine *target, const oct_engine *draft)
{
    const oct_model *model = oct_engine_model(target), *small = oct_engine_model(draft);
    const oct_vocabulary *own = oct_engine_vocabulary(target), *other = oct_engine_vocabulary(draft);
    if (model->vocabulary != small->vocabulary || own->tokens.count != other->tokens.count)
        return oct_fail(OCT_ERR_USAGE,
                        "the draft model '%s' has a vocabulary of %d tokens, the model '%s' one of %d; give a draft "
                        "model with the same tokenizer",
                        small->name, small->vocabulary, model->name, model->vocabulary);
    const int32_t different = oct_vocabulary_find_difference(own, other);
    if (different >= 0)
        return oct_fail(OCT_ERR_USAGE,
                        "token %d of the draft model '%s' has another text than that of the model '%s'; give a draft "
                        "model with the same tokenizer",
                        different, small->name, model->name);
    return OCT_OK;
}

static oct_status allocate(model_drafter *m)
{
    const size_t slots = (size_t)m->slots, context = (size_t)m->context;
    m->token_memory = malloc(slots * context * sizeof *m->token_memory);
    m->columns = malloc((size_t)m->step_columns * sizeof *m->columns);
    m->choices = malloc(slots * sizeof *m->choices);
    m->parts = malloc(slots * sizeof *m->parts);
    if (m->token_memory == NULL || m->columns == NULL || m->choices == NULL || m->parts == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory to draft for %d sequences of %d tokens", (int)m->slots,
                        (int)m->context);
    for (size_t slot = 0; slot < slots; slot++)
        m->sequences[slot].tokens = m->token_memory + slot * context;
    return OCT_OK;
}

oct_status oct_drafter_model_create(oct_drafter **out, oct_engine *target, oct_engine *draft)
{
    const oct_engine_figures *wanted = oct_engine_read_figures(target), *figures = oct_engine_read_figures(draft);
    assert(figures->slots >= wanted->slots && figures->context >= wanted->context);
    oct_status status = compare_vocabularies(target, draft);
    if (status != OCT_OK)
        return status;
    model_drafter *m = calloc(1, sizeof *m + (size_t)wanted->slots * sizeof *m->sequences);
    if (m == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the draft model's sequences");
    m->drafter = (oct_drafter){.name = "draft model",
                               .begin = begin,
                               .append = append,
                               .propose_all = propose_all,
                               .end = end,
                               .destroy = destroy};
    m->target = target;
    m->draft = draft;
    m->slots = wanted->slots;
    m->context = wanted->context;
    m->vocabulary = oct_engine_model(target)->vocabulary;
    m->step_columns = figures->step_columns;
    status = allocate(m);
    if (status != OCT_OK) {
        destroy(&m->drafter);
        return status;
    }
    *out = &m->drafter;
    return OCT_OK;
}
