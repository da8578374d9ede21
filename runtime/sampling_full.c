// The decision from all logits of a column: the law itself, and what rank 0 falls back on.
#include "runtime/sampling.h"

#include <assert.h>
#include <string.h>

#include "runtime/sampling_law.h"

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

// Is the token with the best score certainly one of the kept? Then nothing has to be sorted. False where it
// is not, or where only the order tells.
static bool is_kept(const oct_truncation *t, const float *logits, int32_t n, const oct_best *best)
{
    if ((t->by_mass && t->limit < n) || !(best->logit > -INFINITY))
        return false;
    const uint64_t key = oct_law_key(best->logit, best->token);
    int64_t rank = 0, before = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!(logits[i] >= best->logit) || oct_law_key(logits[i], i) <= key)
            continue;
        int64_t mass = oct_truncation_mass(t, logits[i]);
        if (t->by_least && !oct_law_reaches(mass, t->least_fraction, t->first_mass))
            return false;
        before += mass;
        rank++;
    }
    return !oct_truncation_ends_by_rank_or_least(t, rank, oct_truncation_mass(t, best->logit)) &&
           !oct_truncation_ends_by_mass(t, rank, before);
}

static oct_best best_of_sorted(const oct_sampling *s, uint64_t position, const float *logits, int32_t n,
                               oct_truncation *t, uint64_t *scratch)
{
    const uint64_t *sorted = sort_tokens(logits, n, scratch);
    if (t->by_mass && t->limit < n) {
        t->total = 0;
        for (int64_t i = 0; i < t->limit; i++)
            t->total += oct_law_mass(logits[sorted_token(sorted[i])], t->maximum, t->inverse);
    }
    oct_best best = {-1, -INFINITY, -INFINITY};
    int64_t before = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t token = sorted_token(sorted[i]);
        int64_t mass = oct_truncation_mass(t, logits[token]);
        if (oct_truncation_ends_by_rank_or_least(t, i, mass) || oct_truncation_ends_by_mass(t, i, before))
            break;
        before += mass;
        oct_best one = {token, oct_law_score(s, position, token, logits[token]), logits[token]};
        if (oct_best_is_better(&one, &best))
            best = one;
    }
    return best;
}

static oct_best best_kept(const oct_sampling *s, uint64_t position, const float *logits, int32_t n,
                          float maximum, uint64_t *scratch)
{
    oct_truncation t = oct_truncation_make(s, maximum);
    if (t.by_mass)
        t.total = oct_law_mass_sum(logits, n, maximum, t.inverse);
    oct_best best = oct_sampling_best(s, position, logits, 0, n);
    return is_kept(&t, logits, n, &best) ? best : best_of_sorted(s, position, logits, n, &t, scratch);
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
