// The decision from the candidates of all ranks. From all logits it is made in sampling_full.c.
#include "runtime/sampling.h"

#include <assert.h>
#include <string.h>

#include "runtime/sampling_law.h"

// Walks the candidates of all lists in the order of the law, as far as the lists prove that order: an entry
// counts while no token outside the lists can stand before it.
typedef struct walk {
    const oct_candidates *const *lists;
    int32_t ranks;
    uint64_t floor; // tokens outside the lists have smaller keys; 0 where there is none
    int32_t heads[OCT_MAX_CANDIDATE_LISTS];
} walk;

static uint64_t entry_key(const oct_candidate *entry)
{
    return oct_law_key(entry->logit, entry->token);
}

static void walk_begin(walk *w, const oct_candidates *const lists[], int32_t ranks)
{
    w->lists = lists;
    w->ranks = ranks;
    w->floor = 0;
    for (int32_t r = 0; r < ranks; r++) {
        w->heads[r] = 0;
        if (lists[r]->whole)
            continue;
        uint64_t floor = lists[r]->count ? entry_key(&lists[r]->list[lists[r]->count - 1]) : UINT64_MAX;
        w->floor = floor > w->floor ? floor : w->floor;
    }
}

// The next entry, or NULL where the lists end or prove no more.
static const oct_candidate *walk_next(walk *w)
{
    int32_t from = -1;
    uint64_t largest = 0;
    for (int32_t r = 0; r < w->ranks; r++) {
        if (w->heads[r] == w->lists[r]->count)
            continue;
        uint64_t key = entry_key(&w->lists[r]->list[w->heads[r]]);
        if (from < 0 || key > largest) {
            largest = key;
            from = r;
        }
    }
    return from >= 0 && largest >= w->floor ? &w->lists[from]->list[w->heads[from]++] : NULL;
}

// True where walk_next() gave NULL because there are no more tokens at all.
static bool walk_was_complete(const walk *w)
{
    return w->floor == 0;
}

static oct_best merged_best(const oct_candidates *const candidates[], int32_t ranks)
{
    oct_best best = {-1, -INFINITY, -INFINITY};
    for (int32_t r = 0; r < ranks; r++)
        if (oct_best_is_better(&candidates[r]->best, &best))
            best = candidates[r]->best;
    return best;
}

// The mass that top-k leaves. False where the lists do not prove it; *total is then a lower bound.
static bool total_after_top_k(const oct_truncation *t, const oct_candidates *const candidates[],
                              int32_t ranks, int64_t *total)
{
    *total = 0;
    if (t->limit == INT64_MAX) {
        for (int32_t r = 0; r < ranks; r++)
            *total += candidates[r]->mass;
        return true;
    }
    walk w;
    walk_begin(&w, candidates, ranks);
    for (int64_t i = 0; i < t->limit; i++) {
        const oct_candidate *entry = walk_next(&w);
        if (!entry)
            return walk_was_complete(&w);
        *total += oct_law_mass(entry->logit, t->maximum, t->inverse);
    }
    return true;
}

static oct_best best_of_first(const oct_sampling *s, uint64_t position,
                              const oct_candidates *const candidates[], int32_t ranks, int64_t kept)
{
    oct_best best = {-1, -INFINITY, -INFINITY};
    walk w;
    walk_begin(&w, candidates, ranks);
    for (int64_t i = 0; i < kept; i++) {
        const oct_candidate *entry = walk_next(&w);
        oct_best one = {entry->token, oct_law_score(s, position, entry->token, entry->logit), entry->logit};
        if (oct_best_is_better(&one, &best))
            best = one;
    }
    return best;
}

// The best score of all tokens wins if its token is kept, which is usually seen early in the walk; only
// otherwise the kept tokens' own scores are needed.
static oct_decision decide_truncated(const oct_sampling *s, uint64_t position,
                                     const oct_candidates *const candidates[], int32_t ranks, oct_best *best)
{
    walk w;
    walk_begin(&w, candidates, ranks);
    const oct_candidate *entry = walk_next(&w);
    if (!entry)
        return OCT_NEEDS_LOGITS;
    oct_truncation t = oct_truncation_make(s, entry->logit);
    bool exact = !t.by_mass || total_after_top_k(&t, candidates, ranks, &t.total);
    int64_t rank = 0, before = 0;
    for (; entry; entry = walk_next(&w), rank++) {
        int64_t mass = oct_truncation_mass(&t, entry->logit);
        if (oct_truncation_ends_by_rank_or_least(&t, rank, mass))
            break;
        if (oct_truncation_ends_by_mass(&t, rank, before)) {
            if (!exact)
                return OCT_NEEDS_LOGITS; // it ends here or later
            break;
        }
        if (entry->token == best->token)
            return OCT_DECIDED;
        before += mass;
    }
    if (!entry && !walk_was_complete(&w))
        return OCT_NEEDS_LOGITS;
    *best = best_of_first(s, position, candidates, ranks, rank);
    return OCT_DECIDED;
}

static bool report_logprobs(const oct_sampling *s, const oct_candidates *const candidates[], int32_t ranks,
                            const oct_best *best, oct_choice *choice)
{
    int64_t unit_mass = 0;
    for (int32_t r = 0; r < ranks; r++)
        unit_mass += candidates[r]->unit_mass;
    walk w;
    walk_begin(&w, candidates, ranks);
    float maximum = 0;
    for (int32_t i = 0; i < s->logprobs; i++) {
        const oct_candidate *entry = walk_next(&w);
        if (!entry && !walk_was_complete(&w))
            return false;
        if (!entry)
            break;
        if (i == 0)
            maximum = entry->logit;
        choice->top[choice->top_count++] =
            (oct_token_logprob){entry->token, oct_law_logprob(entry->logit, maximum, unit_mass)};
    }
    choice->logprob = oct_law_logprob(best->logit, maximum, unit_mass);
    return true;
}

oct_decision oct_sampling_decide(const oct_sampling *s, uint64_t position,
                                 const oct_candidates *const candidates[], int32_t ranks, oct_choice *choice)
{
    assert(ranks >= 1 && ranks <= OCT_MAX_CANDIDATE_LISTS);
    oct_best best = merged_best(candidates, ranks);
    choice->logprob = 0;
    choice->top_count = 0;
    if (oct_sampling_truncates(s) &&
        decide_truncated(s, position, candidates, ranks, &best) == OCT_NEEDS_LOGITS)
        return OCT_NEEDS_LOGITS;
    choice->token = best.token;
    if (s->logprobs > 0 && !report_logprobs(s, candidates, ranks, &best, choice))
        return OCT_NEEDS_LOGITS;
    return OCT_DECIDED;
}
