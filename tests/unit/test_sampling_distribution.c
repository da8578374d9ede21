// Do sampled tokens follow the distribution that was asked for? Chi-square tests over a toy vocabulary
// against probabilities computed here in double precision, by sorting and summing. Seeds are fixed, so that a
// test gives the same verdict every time; each p-value must be above 1e-4 (with the 36 tests here a correct
// sampler would fail for one set of seeds in 270).
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

enum { VOCABULARY = 40, SAMPLES = 25000 };

// Upper tail of the chi-square distribution by the cube-root approximation of Wilson and Hilferty (1931).
static double chi_square_tail(double chi_square, int freedom)
{
    double spread = 2.0 / (9.0 * freedom);
    double z = (cbrt(chi_square / freedom) - (1 - spread)) / sqrt(spread);
    return 0.5 * erfc(z / sqrt(2));
}

// Probabilities of the kept tokens, 0 for the others.
static void expected_probabilities(const oct_sampling *s, const double *logits, double *probabilities)
{
    int order[VOCABULARY], kept = VOCABULARY;
    double mass[VOCABULARY], sum = 0, before = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        int at = i;
        for (; at > 0 && logits[order[at - 1]] < logits[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    if (s->top_k > 0 && s->top_k < kept)
        kept = s->top_k;
    for (int i = 0; i < kept; i++)
        sum += mass[i] = exp((logits[order[i]] - logits[order[0]]) / (double)s->temperature);
    int end = 0;
    while (end < kept && before < (double)s->top_p * sum)
        before += mass[end++];
    kept = end;
    while (kept > 1 && mass[kept - 1] < (double)s->min_p * mass[0])
        kept--;
    sum = 0;
    for (int i = 0; i < kept; i++)
        sum += mass[i];
    memset(probabilities, 0, sizeof *probabilities * VOCABULARY);
    for (int i = 0; i < kept; i++)
        probabilities[order[i]] = mass[i] / sum;
}

// Samples with a counter in the seed or in the position, over three ranks.
static void sample(const oct_sampling *s, const float *logits, int by_seed, int *counts)
{
    static const int32_t cuts[] = {0, 11, 30, VOCABULARY};
    float maximum = oct_sampling_maximum(logits, VOCABULARY);
    memset(counts, 0, sizeof *counts * VOCABULARY);
    for (int i = 0; i < SAMPLES; i++) {
        oct_sampling one = *s;
        uint64_t position = by_seed ? 17 : (uint64_t)i;
        one.seed += by_seed ? (uint64_t)i : 0;
        oct_candidates candidates[3];
        const oct_candidates *list[3] = {&candidates[0], &candidates[1], &candidates[2]};
        for (int r = 0; r < 3; r++)
            oct_candidates_make(&candidates[r], &one, position, logits + cuts[r], cuts[r],
                                cuts[r + 1] - cuts[r], maximum, NULL, oct_sampling_list_size(&one));
        oct_choice choice;
        assert_int_equal(oct_sampling_decide(&one, position, list, 3, &choice), OCT_DECIDED);
        counts[choice.token]++;
    }
}

// Tokens with fewer than 10 expected samples are counted as one.
static double p_value(const int *counts, const double *probabilities)
{
    double chi_square = 0, rest_expected = 0;
    int freedom = -1, rest = 0;
    for (int t = 0; t < VOCABULARY; t++) {
        double expected = probabilities[t] * SAMPLES;
        if (probabilities[t] == 0)
            assert_int_equal(counts[t], 0);
        if (expected < 10) {
            rest_expected += expected;
            rest += counts[t];
            continue;
        }
        chi_square += (counts[t] - expected) * (counts[t] - expected) / expected;
        freedom++;
    }
    if (rest_expected >= 1) {
        chi_square += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        freedom++;
    }
    return freedom < 1 ? 1 : chi_square_tail(chi_square, freedom);
}

static void toy_logits(uint32_t seed, float *logits)
{
    for (int t = 0; t < VOCABULARY; t++) {
        seed = seed * 1664525 + 1013904223;
        logits[t] = (float)(seed >> 8) * 0x1p-24f * 6 - 2;
    }
}

static oct_sampling with(float temperature, int32_t top_k, float top_p, float min_p)
{
    oct_sampling s = oct_sampling_default();
    s.seed = 99;
    s.temperature = temperature;
    s.top_k = top_k;
    s.top_p = top_p;
    s.min_p = min_p;
    return s;
}

static void check(const oct_sampling *s, const float *logits, const double *adjusted)
{
    double probabilities[VOCABULARY];
    int counts[VOCABULARY];
    expected_probabilities(s, adjusted, probabilities);
    for (int by_seed = 0; by_seed < 2; by_seed++) {
        sample(s, logits, by_seed, counts);
        double p = p_value(counts, probabilities);
        if (!(p > 1e-4))
            fail_msg("T %g top-k %d top-p %g min-p %g: p-value %g", (double)s->temperature, (int)s->top_k,
                     (double)s->top_p, (double)s->min_p, p);
    }
}

static void truncated_sampling_follows_its_probabilities(void **state)
{
    (void)state;
    const oct_sampling cases[] = {with(1, 0, 1, 0),       with(0.7f, 0, 1, 0),     with(2, 0, 1, 0),
                                  with(1, 5, 1, 0),       with(1, 1, 1, 0),        with(0.8f, 0, 0.95f, 0),
                                  with(1, 0, 0.5f, 0),    with(1.5f, 0, 0.05f, 0), with(1, 0, 1, 0.1f),
                                  with(0.8f, 0, 1, 0.3f), with(1, 12, 0.8f, 0),    with(1, 12, 0.8f, 0.2f),
                                  with(3, 30, 0.9f, 0.1f)};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float logits[VOCABULARY];
        double adjusted[VOCABULARY];
        toy_logits((uint32_t)i + 1, logits);
        for (int t = 0; t < VOCABULARY; t++)
            adjusted[t] = (double)logits[t];
        check(&cases[i], logits, adjusted);
    }
}

static void penalised_sampling_follows_its_probabilities(void **state)
{
    (void)state;
    static const int32_t prompt[] = {0, 1, 2, 3, 3, 20}, output[] = {2, 3, 30, 31, 31, 31, 5, 20};
    oct_history history;
    assert_int_equal(oct_history_create(&history, VOCABULARY, 20), OCT_OK);
    assert_int_equal(oct_history_append_prompt(&history, prompt, 6), OCT_OK);
    assert_int_equal(oct_history_append_output(&history, output, 8), OCT_OK);
    for (int kind = 0; kind < 5; kind++) {
        oct_sampling s = with(0.9f, kind == 4 ? 20 : 0, kind >= 3 ? 0.9f : 1, 0);
        s.repetition_penalty = kind == 0 || kind >= 3 ? 1.3f : 1;
        s.presence_penalty = kind == 1 || kind >= 3 ? 0.8f : 0;
        s.frequency_penalty = kind == 2 || kind >= 3 ? 0.4f : 0;
        s.bias_count = 2;
        s.biases[0] = (oct_logit_bias){7, 1.5f};
        s.biases[1] = (oct_logit_bias){8, -100};
        float logits[VOCABULARY];
        double adjusted[VOCABULARY];
        toy_logits((uint32_t)kind + 50, logits);
        for (int t = 0; t < VOCABULARY; t++) {
            int in_prompt = 0, in_output = 0;
            for (size_t i = 0; i < 6; i++)
                in_prompt += prompt[i] == t;
            for (size_t i = 0; i < 8; i++)
                in_output += output[i] == t;
            double l = (double)logits[t] + (t == 7 ? 1.5 : t == 8 ? -100 : 0);
            if (in_prompt + in_output > 0)
                l = l > 0 ? l / (double)s.repetition_penalty : l * (double)s.repetition_penalty;
            l -= (in_output > 0) * (double)s.presence_penalty + in_output * (double)s.frequency_penalty;
            adjusted[t] = l;
        }
        oct_sampling_adjust(&s, &history, history.length, logits, 0, VOCABULARY);
        check(&s, logits, adjusted);
    }
    oct_history_destroy(&history);
}

// The test itself must see a temperature that is 6 % off.
static void the_test_sees_a_wrong_distribution(void **state)
{
    (void)state;
    oct_sampling s = with(0.8f, 0, 1, 0), wrong = with(0.848f, 0, 1, 0);
    float logits[VOCABULARY];
    double adjusted[VOCABULARY], probabilities[VOCABULARY];
    int counts[VOCABULARY];
    toy_logits(3, logits);
    for (int t = 0; t < VOCABULARY; t++)
        adjusted[t] = (double)logits[t];
    expected_probabilities(&wrong, adjusted, probabilities);
    sample(&s, logits, 0, counts);
    assert_true(p_value(counts, probabilities) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_sampling_follows_its_probabilities),
        cmocka_unit_test(penalised_sampling_follows_its_probabilities),
        cmocka_unit_test(the_test_sees_a_wrong_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
