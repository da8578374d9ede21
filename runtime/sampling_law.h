// The arithmetic of the sampling law that its files share; not for others (see runtime/sampling.h).
#ifndef OCT_RUNTIME_SAMPLING_LAW_H
#define OCT_RUNTIME_SAMPLING_LAW_H

#include <math.h>
#include <string.h>

#include "runtime/noise.h"
#include "runtime/sampling.h"
#include "runtime/sampling_numbers.h"

#define OCT_SCAN_BLOCK 64

// Is one of the 64 values above the threshold? NaN never is.
static inline int oct_any_above(const float *x, float threshold)
{
    int any = 0;
    for (int i = 0; i < OCT_SCAN_BLOCK; i++)
        any |= x[i] > threshold;
    return any;
}

static inline float oct_law_score(const oct_sampling *s, uint64_t position, int32_t token, float logit)
{
    return fmaf(oct_law_logit(logit), oct_sampling_inverse_temperature(s),
                oct_noise(s->seed, position, token));
}

// Ties go to the smaller token; token −1 is no token at all.
static inline int oct_best_is_better(const oct_best *a, const oct_best *b)
{
    if (a->token < 0 || b->token < 0)
        return b->token < 0;
    return a->score > b->score || (a->score == b->score && a->token < b->token);
}

// oct_sampling_best() where it is not greedy.
oct_best oct_law_noisy_best(const oct_sampling *s, uint64_t position, const float *logits, int32_t first,
                            int32_t n);

// Σ mass of n logits.
int64_t oct_law_mass_sum(const float *logits, int32_t n, float maximum, float inverse);

// A probability as a whole number of 2^-32, and mass · 2^32 compared with fraction · of without rounding.
static inline uint64_t oct_law_fraction(float p)
{
    return (uint64_t)rint((double)p * 0x1p32);
}

static inline int oct_law_reaches(int64_t mass, uint64_t fraction, int64_t of)
{
    return (unsigned __int128)mass << 32 >= (unsigned __int128)fraction * (uint64_t)of;
}

// What truncation needs to know besides the tokens in their order.
typedef struct oct_truncation {
    float maximum, inverse;
    int64_t limit; // of top-k
    bool by_mass, by_least;
    uint64_t top_fraction, least_fraction;
    int64_t total; // mass that top-k leaves, for top-p
    int64_t first_mass;
} oct_truncation;

static inline oct_truncation oct_truncation_make(const oct_sampling *s, float maximum)
{
    oct_truncation t = {.maximum = maximum, .inverse = oct_sampling_inverse_temperature(s)};
    t.limit = s->top_k > 0 ? s->top_k : INT64_MAX;
    t.by_mass = s->top_p < 1;
    t.by_least = s->min_p > 0;
    t.top_fraction = oct_law_fraction(s->top_p);
    t.least_fraction = oct_law_fraction(s->min_p);
    t.first_mass = oct_law_mass(maximum, maximum, t.inverse);
    return t;
}

static inline int64_t oct_truncation_mass(const oct_truncation *t, float logit)
{
    return t->by_mass || t->by_least ? oct_law_mass(logit, t->maximum, t->inverse) : 0;
}

// Does the set end before the token of this rank (0 the first) and mass, when `before` is the mass in front?
static inline bool oct_truncation_ends_by_rank_or_least(const oct_truncation *t, int64_t rank, int64_t mass)
{
    return rank >= t->limit ||
           (t->by_least && rank > 0 && !oct_law_reaches(mass, t->least_fraction, t->first_mass));
}

static inline bool oct_truncation_ends_by_mass(const oct_truncation *t, int64_t rank, int64_t before)
{
    return t->by_mass && rank > 0 && oct_law_reaches(before, t->top_fraction, t->total);
}

// The log-probability of a logit where unit_mass is Σ mass at temperature 1.
static inline float oct_law_logprob(float logit, float maximum, int64_t unit_mass)
{
    return (float)((double)(oct_law_logit(logit) - maximum) - log((double)unit_mass * 0x1p-40));
}

#endif
