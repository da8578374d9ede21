// The suffix drafter: what followed where the sequence's last tokens stood before.
//
// After SuffixDecoding (Oliaro et al. 2024, arXiv:2411.04975, section 4): an index over the sequence itself (prompt and
// output) and one over the finished sequences of the run; in each the places that agree longest with the sequence's end
// are found, and the most frequent continuation is followed token by token, each with count(child) / count(node); the
// proposal with the larger score, the sum of the cumulative products, wins. What differs:
// - The counts are those of the newest places (runtime/suffix_index.h), so that time and memory are bounded.
// - A proposal is one run of tokens, no tree.
// - The paper lets the match's length bound the draft's. Here it enters the probability: a place is believed as
//   c / (n + novelty / m), with c of n places in favour and m tokens in agreement. The second term stands for what
//   never was at such a place (the escape of PPM: Cleary and Witten 1984); it vanishes with long matches and many
//   places.
// - In the sequence's own text the place a little behind what was copied last (copy_cursors.h) makes a proposal of its
//   own, which wins or loses by its score like the others.
//
// One thread owns a drafter. It knows neither MPI nor a model.
#include "ranks/copy_cursors.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/suffix_index.h"

// Measured on 32 answers of SmolLM2-135M (chat, code, lists, tables, texts to repeat; temperature 0 and 0.7): where all
// places agreed, 0.44, 0.55, 0.76 and 0.86 of the draft tokens behind 1, 2, 4 and 8 tokens were right when they came
// from the sequence's own text (said: 0.42, 0.58, 0.72, 0.83), and 0.19, 0.41, 0.49 and 0.80 when from another's.
#define NOVELTY_OWN 2.0f
#define NOVELTY_ALL 4.0f
// A draft is cut where its tokens so far are less likely than this to be right altogether: no step gets so much cheaper
// by a column that it would pay.
#define LEAST_CUMULATIVE 0.05f

enum {
    // Finished sequences are chained little by little, so many of their tokens for each token that any sequence brings:
    // at once they would hold up the step after a long sequence's end by milliseconds. More than 1 catches up always.
    CHAINED_A_TOKEN = 16,
    LEAST_FINISHED_TOKENS = 1024
};

typedef struct sequence {
    bool running;
    oct_suffix_index index; // holds all of the sequence's tokens
    oct_copy_cursors cursors;
} sequence;

typedef struct suffix_drafter {
    oct_drafter drafter;
    int32_t slots, context, vocabulary;
    bool keeps_finished;
    oct_suffix_index finished; // sequences, each with a border behind it
    oct_draft other[OCT_DRAFT_SUFFIX_MOST];
    sequence sequences[]; // [slots]
} suffix_drafter;

static suffix_drafter *own(oct_drafter *drafter)
{
    return (suffix_drafter *)drafter;
}

static oct_status check_slot(const suffix_drafter *suffix, int32_t slot, bool running)
{
    if (slot < 0 || slot >= suffix->slots)
        return oct_fail(OCT_ERR_INTERNAL, "suffix drafter: slot %d of %d", (int)slot, (int)suffix->slots);
    if (suffix->sequences[slot].running != running)
        return oct_fail(OCT_ERR_INTERNAL, "suffix drafter: slot %d %s", (int)slot,
                        running ? "has no sequence" : "has a sequence already");
    return OCT_OK;
}

static oct_status check_tokens(const suffix_drafter *suffix, uint32_t held, const int32_t *tokens, int32_t count)
{
    if (count < 0 || (int64_t)held + count > suffix->context)
        return oct_fail(OCT_ERR_INTERNAL, "suffix drafter: %d tokens after %u, but only %d fit", (int)count,
                        (unsigned)held, (int)suffix->context);
    for (int32_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= suffix->vocabulary)
            return oct_fail(OCT_ERR_INTERNAL, "suffix drafter: token %d is outside the vocabulary of %d",
                            (int)tokens[i], (int)suffix->vocabulary);
    return OCT_OK;
}

static void take(suffix_drafter *suffix, int32_t slot, const int32_t *tokens, int32_t count)
{
    oct_suffix_index_append(&suffix->sequences[slot].index, tokens, count);
    oct_suffix_index_chain(&suffix->sequences[slot].index, count);
    if (suffix->keeps_finished)
        oct_suffix_index_chain(&suffix->finished, (int64_t)count * CHAINED_A_TOKEN);
}

static oct_status begin(oct_drafter *drafter, int32_t slot, int64_t request, const int32_t *prompt, int32_t count,
                        const oct_sampling *sampling)
{
    (void)sampling;
    (void)request;
    suffix_drafter *suffix = own(drafter);
    oct_status status = check_slot(suffix, slot, false);
    if (status == OCT_OK)
        status = check_tokens(suffix, 0, prompt, count);
    if (status != OCT_OK)
        return status;
    suffix->sequences[slot].running = true;
    oct_copy_cursors_clear(&suffix->sequences[slot].cursors);
    oct_suffix_index_clear(&suffix->sequences[slot].index);
    take(suffix, slot, prompt, count);
    return OCT_OK;
}

static oct_status append(oct_drafter *drafter, int32_t slot, const int32_t *tokens, int32_t count)
{
    suffix_drafter *suffix = own(drafter);
    oct_status status = check_slot(suffix, slot, true);
    if (status == OCT_OK)
        status = check_tokens(suffix, suffix->sequences[slot].index.length, tokens, count);
    if (status == OCT_OK) {
        oct_copy_cursors_learn(&suffix->sequences[slot].cursors, tokens, count);
        take(suffix, slot, tokens, count);
    }
    return status;
}

// A place may overlap the end that it is compared with (a period shorter than the draft): what follows it there is the
// draft itself.
static int32_t follower(const oct_suffix_index *index, uint32_t position, const oct_draft *drafts)
{
    const int32_t behind = (int32_t)(position - index->end);
    return behind < 0 ? oct_suffix_index_token(index, position) : drafts[behind].token;
}

// The most frequent token at positions [count ≥ 1], the one that the newest of them has where several are; drops the
// positions that have another.
static int32_t vote(const oct_suffix_index *index, uint32_t *positions, int32_t *count, const oct_draft *drafts)
{
    int32_t tokens[OCT_SUFFIX_LINKS] = {follower(index, positions[0], drafts)}, votes[OCT_SUFFIX_LINKS] = {0};
    int32_t kinds = 1, winner = 0;
    for (int32_t i = 0; i < *count; i++) {
        const int32_t token = follower(index, positions[i], drafts);
        int32_t kind = 0;
        while (kind < kinds && tokens[kind] != token)
            kind++;
        if (kind == kinds) {
            tokens[kinds] = token;
            votes[kinds++] = 0;
        }
        votes[kind]++;
    }
    for (int32_t kind = 1; kind < kinds; kind++)
        winner = votes[kind] > votes[winner] ? kind : winner;
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++)
        if (follower(index, positions[i], drafts) == tokens[winner])
            positions[kept++] = positions[i];
    *count = kept;
    return tokens[winner];
}

// The places of a match, and how they are followed.
typedef struct lead {
    const oct_suffix_index *index;
    oct_draft_source source;
    float trust; // of a place behind a cursor
    oct_suffix_matches matches;
    uint32_t last; // out: position of the last draft
} lead;

static float probability_of(const lead *l, int32_t agreeing, int32_t places, int32_t length)
{
    if (l->source == OCT_DRAFT_SUFFIX_NEAR)
        return l->trust;
    const float novelty = l->source == OCT_DRAFT_SUFFIX_OWN ? NOVELTY_OWN : NOVELTY_ALL;
    return (float)agreeing / ((float)places + novelty / (float)length);
}

// Follows a lead, and uses its places up, into drafts [most] and sets *count. Returns the score: the tokens that are
// expected to be accepted.
static float follow(lead *l, int32_t most, oct_draft *drafts, int32_t *count)
{
    oct_suffix_matches *matches = &l->matches;
    float score = 0, cumulative = 1;
    *count = 0;
    while (*count < most && matches->count > 0) {
        const int32_t places = matches->count;
        int32_t length = matches->length + *count;
        length = length < OCT_SUFFIX_MATCH ? length : OCT_SUFFIX_MATCH;
        for (int32_t i = 0; i < places; i++)
            matches->positions[i]++;
        const int32_t token = vote(l->index, matches->positions, &matches->count, drafts);
        const float probability = probability_of(l, matches->count, places, length);
        cumulative *= probability;
        if (token == OCT_SUFFIX_BORDER || cumulative < LEAST_CUMULATIVE)
            break;
        score += cumulative;
        l->last = matches->positions[0];
        drafts[(*count)++] = (oct_draft){token, probability, (int16_t)l->source, (int16_t)length};
    }
    return score;
}

// A proposal from the sequence's own text, drafts [most]. Returns its score.
static float propose_own(suffix_drafter *suffix, sequence *s, const int32_t *context, int32_t known, int32_t most,
                         oct_draft *drafts, int32_t *count)
{
    oct_copy_cursors *cursors = &s->cursors;
    int32_t near_count;
    lead own = {.index = &s->index, .source = OCT_DRAFT_SUFFIX_OWN};
    oct_suffix_index_find(&s->index, context, known, &own.matches);
    lead near = {.index = &s->index,
                 .source = OCT_DRAFT_SUFFIX_NEAR,
                 .trust = oct_copy_cursors_trust(cursors),
                 .matches.length = own.matches.length};
    near.matches.count = oct_copy_cursors_nearest(cursors, &own.matches, near.matches.positions);
    const float near_score = follow(&near, most, suffix->other, &near_count);
    const float score = follow(&own, most, drafts, count);
    oct_copy_trail_set(&cursors->near, suffix->other, near_count, near.last);
    oct_copy_trail_set(&cursors->proposed, drafts, *count, own.last);
    if (near_count == 0 || near_score < score)
        return score;
    memcpy(drafts, suffix->other, sizeof *drafts * (size_t)near_count);
    *count = near_count;
    cursors->proposed = cursors->near;
    return near_score;
}

static oct_status propose(oct_drafter *drafter, int32_t slot, int32_t most, oct_draft *drafts, int32_t *count)
{
    suffix_drafter *suffix = own(drafter);
    const oct_status status = check_slot(suffix, slot, true);
    if (status != OCT_OK)
        return status;
    const oct_suffix_index *index = &suffix->sequences[slot].index;
    int32_t context[OCT_SUFFIX_MATCH], known = 0, others = 0;
    for (; known < OCT_SUFFIX_MATCH && (uint32_t)known < index->length; known++)
        context[known] = oct_suffix_index_token(index, index->end - 1 - (uint32_t)known);
    most = most < OCT_DRAFT_SUFFIX_MOST ? most : OCT_DRAFT_SUFFIX_MOST;
    const float score = propose_own(suffix, &suffix->sequences[slot], context, known, most, drafts, count);
    if (!suffix->keeps_finished)
        return OCT_OK;
    lead all = {.index = &suffix->finished, .source = OCT_DRAFT_SUFFIX_ALL};
    oct_suffix_index_find(&suffix->finished, context, known, &all.matches);
    if (follow(&all, most, suffix->other, &others) > score) {
        memcpy(drafts, suffix->other, sizeof *drafts * (size_t)others);
        *count = others;
    }
    return OCT_OK;
}

// Copies the sequence into the ring of the finished ones: of a longer one its last tokens.
static void keep(suffix_drafter *suffix, const oct_suffix_index *index)
{
    const uint32_t first = (index->end - index->length) & (index->capacity - 1);
    const uint32_t until_wrap = index->capacity - first;
    const uint32_t straight = index->length < until_wrap ? index->length : until_wrap;
    const int32_t border = OCT_SUFFIX_BORDER;
    oct_suffix_index_append(&suffix->finished, index->tokens + first, straight);
    oct_suffix_index_append(&suffix->finished, index->tokens, index->length - straight);
    oct_suffix_index_append(&suffix->finished, &border, 1);
}

static void end(oct_drafter *drafter, int32_t slot, bool finished)
{
    suffix_drafter *suffix = own(drafter);
    assert(slot >= 0 && slot < suffix->slots);
    sequence *ended = &suffix->sequences[slot];
    if (ended->running && finished && suffix->keeps_finished)
        keep(suffix, &ended->index);
    ended->running = false;
}

static void destroy(oct_drafter *drafter)
{
    suffix_drafter *suffix = own(drafter);
    for (int32_t slot = 0; slot < suffix->slots; slot++)
        oct_suffix_index_destroy(&suffix->sequences[slot].index);
    oct_suffix_index_destroy(&suffix->finished);
    free(suffix);
}

// The tokens of the largest index that fits; 0 where that is too small to be of use.
static uint32_t finished_tokens(size_t arena_bytes)
{
    uint32_t tokens = LEAST_FINISHED_TOKENS;
    if (oct_suffix_index_bytes(tokens) > arena_bytes)
        return 0;
    while (tokens < (uint32_t)1 << 30 && oct_suffix_index_bytes(2 * tokens) <= arena_bytes)
        tokens *= 2;
    return tokens;
}

oct_status oct_drafter_suffix_create(oct_drafter **drafter, int32_t slots, int32_t context, int32_t vocabulary,
                                     size_t arena_bytes)
{
    assert(slots > 0 && context > 0 && context <= 1 << 30 && vocabulary > 0);
    suffix_drafter *suffix = calloc(1, sizeof *suffix + sizeof *suffix->sequences * (size_t)slots);
    if (suffix == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the suffix drafter of %d slots", (int)slots);
    suffix->drafter = (oct_drafter){"suffix", begin, append, propose, NULL, end, destroy};
    suffix->slots = slots;
    suffix->context = context;
    suffix->vocabulary = vocabulary;
    uint32_t own_tokens = 1;
    while (own_tokens < (uint32_t)context)
        own_tokens *= 2;
    const uint32_t all_tokens = finished_tokens(arena_bytes);
    suffix->keeps_finished = all_tokens > 0;
    oct_status status = suffix->keeps_finished ? oct_suffix_index_create(&suffix->finished, all_tokens) : OCT_OK;
    for (int32_t slot = 0; slot < slots && status == OCT_OK; slot++)
        status = oct_suffix_index_create(&suffix->sequences[slot].index, own_tokens);
    if (status != OCT_OK) {
        destroy(&suffix->drafter);
        return status;
    }
    const size_t bytes = oct_suffix_index_bytes(own_tokens) * (size_t)slots + oct_suffix_index_bytes(all_tokens);
    oct_note("suffix drafter: %d sequences of %u tokens and %u finished ones, %.1f MiB", (int)slots,
             (unsigned)own_tokens, (unsigned)all_tokens, (double)bytes / (1 << 20));
    *drafter = &suffix->drafter;
    return OCT_OK;
}
