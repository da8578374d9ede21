// What tests of the sampled distribution share: the probabilities that were asked for, in double precision by sorting
// and summing, and the chi-square test of counts against them. Nothing of the sampler is used.
#ifndef OCT_TESTS_DISTRIBUTION_H
#define OCT_TESTS_DISTRIBUTION_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sampling.h"

typedef struct distribution_token {
    int32_t token;
    double logit, mass;
} distribution_token;

static inline oct_sampling distribution_sampling(float temperature, int32_t top_k, float top_p, float min_p)
{
    oct_sampling s = oct_sampling_default();
    s.seed = 99;
    s.temperature = temperature;
    s.top_k = top_k;
    s.top_p = top_p;
    s.min_p = min_p;
    return s;
}

static inline int distribution_compare(const void *a, const void *b)
{
    const distribution_token *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

// A share as requests give it: in units of 2^-32 (runtime/sampling.h).
static inline double distribution_share(float share)
{
    return rint((double)share * 0x1p32) * 0x1p-32;
}

// Probabilities [n] of the kept tokens for adjusted logits [n], 0 for the others.
static inline void distribution_expect(const oct_sampling *s, const double *logits, int32_t n, double *probabilities)
{
    distribution_token *sorted = malloc((size_t)n * sizeof *sorted);
    assert_non_null(sorted);
    for (int32_t i = 0; i < n; i++)
        sorted[i] = (distribution_token){.token = i, .logit = logits[i]};
    qsort(sorted, (size_t)n, sizeof *sorted, distribution_compare);
    int32_t kept = s->top_k > 0 && s->top_k < n ? s->top_k : n, end = 0;
    double sum = 0, before = 0;
    for (int32_t i = 0; i < kept; i++)
        sum += sorted[i].mass = exp((sorted[i].logit - sorted[0].logit) / (double)s->temperature);
    while (end < kept && (end == 0 || before < distribution_share(s->top_p) * sum))
        before += sorted[end++].mass;
    while (end > 1 && sorted[end - 1].mass < distribution_share(s->min_p) * sorted[0].mass)
        end--;
    sum = 0;
    for (int32_t i = 0; i < end; i++)
        sum += sorted[i].mass;
    memset(probabilities, 0, sizeof *probabilities * (size_t)n);
    for (int32_t i = 0; i < end; i++)
        probabilities[sorted[i].token] = sorted[i].mass / sum;
    free(sorted);
}

// The logits that bias and penalties are to make of logits [n]: each token's occurrences are counted in the lists.
static inline void distribution_adjust(const oct_sampling *s, const int32_t *prompt, int32_t prompt_count,
                                       const int32_t *output, int32_t output_count, const float *logits, int32_t n,
                                       double *adjusted)
{
    for (int32_t t = 0; t < n; t++) {
        int32_t in_prompt = 0, in_output = 0;
        double l = (double)logits[t];
        for (int32_t i = 0; i < s->bias_count; i++)
            l += s->biases[i].token == t ? (double)s->biases[i].bias : 0;
        for (int32_t i = 0; i < prompt_count; i++)
            in_prompt += prompt[i] == t;
        for (int32_t i = 0; i < output_count; i++)
            in_output += output[i] == t;
        if (in_prompt + in_output > 0)
            l = l > 0 ? l / (double)s->repetition_penalty : l * (double)s->repetition_penalty;
        if (in_output > 0)
            l -= (double)s->presence_penalty + in_output * (double)s->frequency_penalty;
        adjusted[t] = l;
    }
}

// Upper tail of the chi-square distribution by the cube-root approximation of Wilson and Hilferty (1931).
static inline double distribution_tail(double chi_square, int32_t freedom)
{
    const double spread = 2.0 / (9.0 * freedom);
    const double z = (cbrt(chi_square / freedom) - (1 - spread)) / sqrt(spread);
    return 0.5 * erfc(z / sqrt(2));
}

// How likely a correct sampler is to be at least as far from the probabilities as counts [n]. Neighbours are taken
// together until at least 10 samples are expected of them (Cochran 1954 asks for 5); a token of probability 0 must not
// have been sampled.
static inline double distribution_p_value(const int32_t *counts, const double *probabilities, int32_t n,
                                          int32_t samples)
{
    double chi_square = 0, expected = 0;
    int32_t bins = 0, found = 0;
    double probability_left = 1;
    for (int32_t t = 0; t < n; t++) {
        if (probabilities[t] == 0 && counts[t] != 0)
            fail_msg("token %d was sampled %d times, and is not to be kept", t, counts[t]);
        expected += probabilities[t] * samples;
        found += counts[t];
        probability_left -= probabilities[t];
        const bool rest_is_enough = probability_left * samples >= 10;
        if (expected < 10 || (!rest_is_enough && t + 1 < n))
            continue;
        chi_square += (found - expected) * (found - expected) / expected;
        bins++;
        expected = 0;
        found = 0;
    }
    return bins < 2 ? 1 : distribution_tail(chi_square, bins - 1);
}

#endif
