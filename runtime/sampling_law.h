// The arithmetic of the sampling law that its files share; not for others (see runtime/sampling.h).
#ifndef OCT_RUNTIME_SAMPLING_LAW_H
#define OCT_RUNTIME_SAMPLING_LAW_H

#include <math.h>
#include <string.h>

#include "runtime/elementary.h"
#include "runtime/noise.h"
#include "runtime/sampling.h"

#define OCT_SCAN_BLOCK 64

// A logit as the law takes it: NaN counts as −infinity, −0 as 0.
static inline float oct_law_logit(float logit)
{
    return logit == logit ? logit + 0.0f : -INFINITY;
}

// Is one of the 64 values above the threshold? NaN never is.
static inline int oct_any_above(const float *x, float threshold)
{
    int any = 0;
    for (int i = 0; i < OCT_SCAN_BLOCK; i++)
        any |= x[i] > threshold;
    return any;
}

// The order of tokens as one number: logit descending and token ascending is key descending. Keys of
// different tokens differ.
static inline uint64_t oct_law_key(float logit, int32_t token)
{
    float value = oct_law_logit(logit);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)bits << 32 | (uint32_t)~token;
}

static inline float oct_law_key_logit(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int32_t oct_law_key_token(uint64_t key)
{
    return (int32_t) ~(uint32_t)key;
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

// rint(e · 2^40) for e in [0, 1]: adding 1.5 · 2^52 rounds to a whole number, to nearest even, and leaves it
// in the low bits; vectors have no conversion from floating point to 64-bit integers before AVX-512.
static inline int64_t oct_law_round_mass(float e)
{
    double shifted = (double)e * 0x1p40 + 0x1.8p52;
    int64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4338000000000000;
}

// At −80 and below, and where it is not a number, the mass is 0; without a branch, for vectors.
static inline float oct_law_exponent(float logit, float maximum, float inverse)
{
    float exponent = (logit - maximum) * inverse;
    return exponent > -80.0f ? exponent : -80.0f;
}

static inline int64_t oct_law_mass(float logit, float maximum, float inverse)
{
    return oct_law_round_mass(oct_exp(oct_law_exponent(logit, maximum, inverse)));
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
