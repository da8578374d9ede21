// Do sampled tokens follow the distribution that was asked for? Chi-square tests over a toy vocabulary
// against probabilities computed in double precision, by sorting and summing. Seeds are fixed, so that a test gives the
// same verdict every time; each p-value must be above 1e-4 (with the 36 tests here a correct sampler would fail for one
// set of seeds in 270). test_sampling_tail.c does the same with a large vocabulary.
#include "tests/unit/distribution.h"

enum { VOCABULARY = 40, SAMPLES = 25000 };

// Samples with a counter in the seed or in the position, over three ranks.
static void sample(const oct_sampling *s, const float *logits, int by_seed, int32_t *counts)
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

static void toy_logits(uint32_t seed, float *logits)
{
    for (int t = 0; t < VOCABULARY; t++) {
        seed = seed * 1664525 + 1013904223;
        logits[t] = (float)(seed >> 8) * 0x1p-24f * 6 - 2;
    }
}

static void check(const oct_sampling *s, const float *logits, const double *adjusted)
{
    double probabilities[VOCABULARY];
    int32_t counts[VOCABULARY];
    distribution_expect(s, adjusted, VOCABULARY, probabilities);
    for (int by_seed = 0; by_seed < 2; by_seed++) {
        sample(s, logits, by_seed, counts);
        double p = distribution_p_value(counts, probabilities, VOCABULARY, SAMPLES);
        if (!(p > 1e-4))
            fail_msg("T %g top-k %d top-p %g min-p %g: p-value %g", (double)s->temperature, (int)s->top_k,
                     (double)s->top_p, (double)s->min_p, p);
    }
}

static void truncated_sampling_follows_its_probabilities(void **state)
{
    (void)state;
    const oct_sampling cases[] = {
        distribution_sampling(1, 0, 1, 0),        distribution_sampling(0.7f, 0, 1, 0),
        distribution_sampling(2, 0, 1, 0),        distribution_sampling(1, 5, 1, 0),
        distribution_sampling(1, 1, 1, 0),        distribution_sampling(0.8f, 0, 0.95f, 0),
        distribution_sampling(1, 0, 0.5f, 0),     distribution_sampling(1.5f, 0, 0.05f, 0),
        distribution_sampling(1, 0, 1, 0.1f),     distribution_sampling(0.8f, 0, 1, 0.3f),
        distribution_sampling(1, 12, 0.8f, 0),    distribution_sampling(1, 12, 0.8f, 0.2f),
        distribution_sampling(3, 30, 0.9f, 0.1f),
    };
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
        oct_sampling s = distribution_sampling(0.9f, kind == 4 ? 20 : 0, kind >= 3 ? 0.9f : 1, 0);
        s.repetition_penalty = kind == 0 || kind >= 3 ? 1.3f : 1;
        s.presence_penalty = kind == 1 || kind >= 3 ? 0.8f : 0;
        s.frequency_penalty = kind == 2 || kind >= 3 ? 0.4f : 0;
        s.bias_count = 2;
        s.biases[0] = (oct_logit_bias){7, 1.5f};
        s.biases[1] = (oct_logit_bias){8, -100};
        float logits[VOCABULARY];
        double adjusted[VOCABULARY];
        toy_logits((uint32_t)kind + 50, logits);
        distribution_adjust(&s, prompt, 6, output, 8, logits, VOCABULARY, adjusted);
        oct_sampling_adjust(&s, &history, history.length, logits, 0, VOCABULARY);
        check(&s, logits, adjusted);
    }
    oct_history_destroy(&history);
}

// The test itself must see a temperature that is 6 % off.
static void the_test_sees_a_wrong_distribution(void **state)
{
    (void)state;
    oct_sampling s = distribution_sampling(0.8f, 0, 1, 0), wrong = distribution_sampling(0.848f, 0, 1, 0);
    float logits[VOCABULARY];
    double adjusted[VOCABULARY], probabilities[VOCABULARY];
    int32_t counts[VOCABULARY];
    toy_logits(3, logits);
    for (int t = 0; t < VOCABULARY; t++)
        adjusted[t] = (double)logits[t];
    distribution_expect(&wrong, adjusted, VOCABULARY, probabilities);
    sample(&s, logits, 0, counts);
    assert_true(distribution_p_value(counts, probabilities, VOCABULARY, SAMPLES) < 1e-6);
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
