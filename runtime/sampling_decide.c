// The decision: from the candidates of all ranks, or from all logits, to the token of a column.
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

// What truncation needs to know besides the tokens in their order.
typedef struct truncation {
    float maximum, inverse;
    int64_t limit; // of top-k
    bool by_mass, by_least;
    uint64_t top_fraction, least_fraction;
    int64_t total; // mass that top-k leaves, for top-p
    int64_t first_mass;
} truncation;

static truncation truncation_make(const oct_sampling *s, float maximum)
{
    truncation t = {.maximum = maximum, .inverse = oct_sampling_inverse_temperature(s)};
    t.limit = s->top_k > 0 ? s->top_k : INT64_MAX;
    t.by_mass = s->top_p < 1;
    t.by_least = s->min_p > 0;
    t.top_fraction = oct_law_fraction(s->top_p);
    t.least_fraction = oct_law_fraction(s->min_p);
    t.first_mass = oct_law_mass(maximum, maximum, t.inverse);
    return t;
}

static int64_t truncation_mass(const truncation *t, float logit)
{
    return t->by_mass || t->by_least ? oct_law_mass(logit, t->maximum, t->inverse) : 0;
}

// Does the set end before the token of this rank (0 the first) and mass, when `before` is the mass in front?
static bool ends_by_rank_or_least(const truncation *t, int64_t rank, int64_t mass)
{
    return rank >= t->limit ||
           (t->by_least && rank > 0 && !oct_law_reaches(mass, t->least_fraction, t->first_mass));
}

static bool ends_by_mass(const truncation *t, int64_t rank, int64_t before)
{
    return t->by_mass && rank > 0 && oct_law_reaches(before, t->top_fraction, t->total);
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
static bool total_after_top_k(const truncation *t, const oct_candidates *const candidates[], int32_t ranks,
                              int64_t *total)
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
    truncation t = truncation_make(s, entry->logit);
    bool exact = !t.by_mass || total_after_top_k(&t, candidates, ranks, &t.total);
    int64_t rank = 0, before = 0;
    for (; entry; entry = walk_next(&w), rank++) {
        int64_t mass = truncation_mass(&t, entry->logit);
        if (ends_by_rank_or_least(&t, rank, mass))
            break;
        if (ends_by_mass(&t, rank, before)) {
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

size_t oct_sampling_scratch_bytes(int32_t n)
{
    return 2 * sizeof(uint64_t) * (size_t)n;
}

// Sorts the tokens by the law's order: a radix sort of the inverted keys' upper half, stable, three passes of
// 11 bits. Returns the sorted half of scratch; element: inverted key << 32 | token.
static const uint64_t *sort_tokens(const float *logits, int32_t n, uint64_t *scratch)
{
    uint64_t *from = scratch, *to = scratch + n;
    uint32_t counts[3][2048];
    memset(counts, 0, sizeof counts);
    for (int32_t i = 0; i < n; i++) {
        from[i] = ~oct_law_key(logits[i], i);
        uint32_t key = (uint32_t)(from[i] >> 32);
        counts[0][key & 2047]++;
        counts[1][key >> 11 & 2047]++;
        counts[2][key >> 22]++;
    }
    for (int pass = 0; pass < 3; pass++) {
        uint32_t *count = counts[pass], sum = 0;
        for (int b = 0; b < 2048; b++) {
            uint32_t of_bucket = count[b];
            count[b] = sum;
            sum += of_bucket;
        }
        for (int32_t i = 0; i < n; i++)
            to[count[from[i] >> (32 + 11 * pass) & 2047]++] = from[i];
        uint64_t *swapped = from;
        from = to;
        to = swapped;
    }
    return from;
}

static int32_t sorted_token(uint64_t element)
{
    return (int32_t)(uint32_t)element;
}

static oct_best best_kept(const oct_sampling *s, uint64_t position, const float *logits, int32_t n,
                          float maximum, uint64_t *scratch)
{
    const uint64_t *sorted = sort_tokens(logits, n, scratch);
    truncation t = truncation_make(s, maximum);
    if (t.by_mass && t.limit >= n)
        t.total = oct_law_mass_sum(logits, n, maximum, t.inverse);
    else if (t.by_mass)
        for (int64_t i = 0; i < t.limit; i++)
            t.total += oct_law_mass(logits[sorted_token(sorted[i])], maximum, t.inverse);
    oct_best best = {-1, -INFINITY, -INFINITY};
    int64_t before = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t token = sorted_token(sorted[i]);
        int64_t mass = truncation_mass(&t, logits[token]);
        if (ends_by_rank_or_least(&t, i, mass) || ends_by_mass(&t, i, before))
            break;
        before += mass;
        oct_best one = {token, oct_law_score(s, position, token, logits[token]), logits[token]};
        if (oct_best_is_better(&one, &best))
            best = one;
    }
    return best;
}

static void report_all_logprobs(const oct_sampling *s, const float *logits, int32_t n, float maximum,
                                oct_choice *choice)
{
    // The candidates of the whole vocabulary, of which only the list is used.
    oct_candidates top;
    oct_sampling list_only = oct_sampling_default();
    oct_best none = {-1, -INFINITY, -INFINITY};
    oct_candidates_make(&top, &list_only, 0, logits, 0, n, maximum, &none, s->logprobs);
    int64_t unit_mass = oct_law_mass_sum(logits, n, maximum, 1.0f);
    for (int32_t i = 0; i < top.count; i++)
        choice->top[choice->top_count++] =
            (oct_token_logprob){top.list[i].token, oct_law_logprob(top.list[i].logit, maximum, unit_mass)};
    choice->logprob = oct_law_logprob(logits[choice->token], maximum, unit_mass);
}

void oct_sampling_decide_full(const oct_sampling *s, uint64_t position, const float *logits, int32_t n,
                              void *scratch, oct_choice *choice)
{
    assert(n >= 1);
    float maximum = oct_sampling_maximum(logits, n);
    choice->logprob = 0;
    choice->top_count = 0;
    if (oct_sampling_truncates(s))
        choice->token = best_kept(s, position, logits, n, maximum, scratch).token;
    else
        choice->token = oct_sampling_best(s, position, logits, 0, n).token;
    if (s->logprobs > 0)
        report_all_logprobs(s, logits, n, maximum, choice);
}
