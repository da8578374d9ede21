// Do sampled tokens follow the distribution where most of the vocabulary is a long flat tail? 150,000 tokens, of
// which 40 stand out and the others have nearly the same logit, so that lists of candidates prove little and the cut
// of top-k, top-p or min-p lies far out in the tail. Chi-square tests against probabilities computed in double
// precision, with the head token by token and the tail in neighbourhoods. Seeds are fixed: the verdict is the same
// every time; each p-value must be above 1e-4 (with the 6 tests here a correct sampler would fail for one set of seeds
// in 1600).
#include "tests/unit/distribution.h"

enum { VOCABULARY = 150000, HEAD = 40, SAMPLES = 300, RANKS = 3 };

static const int32_t cuts[RANKS + 1] = {0, 49999, 100007, VOCABULARY};
static float logits[VOCABULARY];
static double adjusted[VOCABULARY], probabilities[VOCABULARY];
static int32_t counts[VOCABULARY];
static uint64_t *scratch;

// How samples were decided.
static int32_t by_lists, by_all_logits;

static int begin(void **state)
{
    (void)state;
    scratch = malloc(oct_sampling_scratch_bytes(VOCABULARY));
    return scratch == NULL ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    free(scratch);
    return 0;
}

// The tail has logits from 0 to 0.1, many of them alike; the head, strewn over the vocabulary, from 5 to 10. At
// temperature 1 each has about half of the mass.
static void tail_logits(void)
{
    uint32_t word = 7;
    for (int32_t t = 0; t < VOCABULARY; t++) {
        word = word * 1664525 + 1013904223;
        logits[t] = (float)(word >> 16) * 0x1p-16f * 0.1f;
    }
    for (int32_t i = 0; i < HEAD; i++)
        logits[(i * 3701 + 17) % VOCABULARY] = 10 - 5 * (float)i / HEAD;
    for (int32_t t = 0; t < VOCABULARY; t++)
        adjusted[t] = (double)logits[t];
}

static int32_t sample(const oct_sampling *s, uint64_t position, float maximum)
{
    static oct_candidates candidates[RANKS];
    const oct_candidates *list[RANKS];
    for (int32_t r = 0; r < RANKS; r++) {
        oct_candidates_make(&candidates[r], s, position, logits + cuts[r], cuts[r], cuts[r + 1] - cuts[r], maximum,
                            NULL, oct_sampling_list_size(s));
        list[r] = &candidates[r];
    }
    oct_choice choice;
    if (oct_sampling_decide(s, position, list, RANKS, &choice) == OCT_DECIDED) {
        by_lists++;
        return choice.token;
    }
    by_all_logits++;
    oct_sampling_decide_full(s, position, logits, VOCABULARY, scratch, &choice);
    return choice.token;
}

static void check(const oct_sampling *s)
{
    distribution_expect(s, adjusted, VOCABULARY, probabilities);
    const float maximum = oct_sampling_maximum(logits, VOCABULARY);
    memset(counts, 0, sizeof counts);
    by_lists = by_all_logits = 0;
    for (int32_t i = 0; i < SAMPLES; i++)
        counts[sample(s, 1000 + (uint64_t)i, maximum)]++;
    const double p = distribution_p_value(counts, probabilities, VOCABULARY, SAMPLES);
    if (!(p > 1e-4))
        fail_msg("T %g top-k %d top-p %g min-p %g: p-value %g", (double)s->temperature, (int)s->top_k,
                 (double)s->top_p, (double)s->min_p, p);
}

static int32_t kept(void)
{
    int32_t count = 0;
    for (int32_t t = 0; t < VOCABULARY; t++)
        count += probabilities[t] > 0;
    return count;
}

// Counts that came from a tail three times as likely, or that in its last third only, would show.
static void counts_tell_wrong_tails(void)
{
    for (int kind = 0; kind < 2; kind++) {
        for (int32_t t = 0; t < VOCABULARY; t++)
            adjusted[t] = (double)logits[t] - (logits[t] < 1 && (kind == 0 || t >= 100000) ? log(3) : 0);
        distribution_expect(&(oct_sampling){.temperature = 1, .top_p = 1}, adjusted, VOCABULARY, probabilities);
        assert_true(distribution_p_value(counts, probabilities, VOCABULARY, SAMPLES) < 1e-4);
    }
}

static void whole_vocabulary_and_head(void **state)
{
    (void)state;
    tail_logits();
    oct_sampling s = distribution_sampling(0.7f, 0, 0.5f, 0); // cuts the head
    check(&s);
    assert_true(kept() < HEAD);
    s = distribution_sampling(1, 0, 1, 0);
    check(&s);
    assert_int_equal(by_lists, SAMPLES);
    counts_tell_wrong_tails();
}

static void cuts_in_the_tail(void **state)
{
    (void)state;
    tail_logits();
    const oct_sampling cases[] = {
        distribution_sampling(1, 0, 0.8f, 0),
        distribution_sampling(1.1f, 60000, 0.9f, 0),
        distribution_sampling(1, 0, 1, 4.75e-5f),
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check(&cases[i]);
        assert_true(by_all_logits > SAMPLES / 20); // those that fall into the tail
        assert_true(kept() > 1000 && kept() < VOCABULARY - 1000);
    }
}

static void penalties_and_biases(void **state)
{
    (void)state;
    tail_logits();
    static const int32_t prompt[] = {17, 3718, 3718, 5, 149999}, output[] = {7419, 7419, 11120, 17, 99, 99};
    oct_history history;
    assert_int_equal(oct_history_create(&history, VOCABULARY, 20), OCT_OK);
    assert_int_equal(oct_history_append_prompt(&history, prompt, 5), OCT_OK);
    assert_int_equal(oct_history_append_output(&history, output, 6), OCT_OK);
    oct_sampling s = distribution_sampling(1, 0, 0.85f, 0);
    s.repetition_penalty = 1.1f;
    s.presence_penalty = 0.5f;
    s.frequency_penalty = 0.3f;
    s.bias_count = 2;
    s.biases[0] = (oct_logit_bias){120000, 10};
    s.biases[1] = (oct_logit_bias){14821, -100};
    distribution_adjust(&s, prompt, 5, output, 6, logits, VOCABULARY, adjusted);
    for (int32_t r = 0; r < RANKS; r++)
        oct_sampling_adjust(&s, &history, history.length, logits + cuts[r], cuts[r], cuts[r + 1] - cuts[r]);
    check(&s);
    assert_true(counts[120000] > 0 && counts[14821] == 0);
    oct_history_destroy(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_vocabulary_and_head),
        cmocka_unit_test(cuts_in_the_tail),
        cmocka_unit_test(penalties_and_biases),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
