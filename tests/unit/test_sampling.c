// Sampling: the token does not depend on how the vocabulary is split, nor on the length of the candidate
// lists, and is the one that a plain reading of the law gives.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/elementary.h"
#include "runtime/noise.h"
#include "runtime/sampling.h"

enum { VOCABULARY_MAX = 3000, RANKS_MAX = 8 };

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint32_t random_word(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static int32_t random_below(int32_t n)
{
    return (int32_t)(random_word() % (uint32_t)n);
}

static float random_float(float low, float high)
{
    return low + (high - low) * ((float)random_word() * 0x1p-31f);
}

// Logits of several characters: flat, peaked, with many ties, with values that are no numbers.
static void random_logits(float *logits, int32_t n)
{
    int kind = random_below(6);
    float spread = random_float(0.1f, 12.0f);
    for (int32_t i = 0; i < n; i++) {
        logits[i] = random_float(-spread, spread) + random_float(-spread, spread);
        if (kind == 1)
            logits[i] = rintf(logits[i]);
        if (kind == 2)
            logits[i] = 0.25f;
        if (kind == 3 && random_below(3) == 0)
            logits[i] = random_below(2) ? -INFINITY : NAN;
        if (kind == 4)
            logits[i] = random_below(2) ? 0.0f : -0.0f;
        if (kind == 5)
            logits[i] = (float)i * spread * 0.01f;
    }
}

static oct_sampling random_sampling(int32_t n)
{
    oct_sampling s = oct_sampling_default();
    static const float temperatures[] = {0, 0.3f, 0.8f, 1, 1, 2.5f, 100};
    s.temperature = temperatures[random_below(7)];
    s.seed = (uint64_t)random_word() << 32 | random_word();
    if (random_below(2))
        s.top_k = 1 + random_below(random_below(2) ? 8 : n + 20);
    if (random_below(2))
        s.top_p = random_below(8) ? random_float(0.01f, 1) : 1e-6f;
    if (random_below(3) == 0)
        s.min_p = random_below(8) ? random_float(0, 0.5f) : 1;
    if (random_below(3) == 0)
        s.logprobs = 1 + random_below(20);
    return s;
}

// --- the law, read plainly -----------------------------------------------------------------------------

typedef struct plain_token {
    int32_t token;
    float logit;
    int64_t mass;
} plain_token;

static int compare_plain(const void *a, const void *b)
{
    const plain_token *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static int64_t plain_mass(float logit, float maximum, float inverse)
{
    float difference = logit - maximum;
    float exponent = difference * inverse;
    return exponent > -80 ? llrint(ldexp((double)oct_exp(exponent), 40)) : 0;
}

static int32_t plain_decide(const oct_sampling *s, uint64_t position, const float *logits, int32_t n)
{
    static plain_token tokens[VOCABULARY_MAX];
    float inverse = s->temperature > 0 ? 1.0f / s->temperature : 1;
    for (int32_t i = 0; i < n; i++)
        tokens[i] = (plain_token){i, isnan(logits[i]) ? -INFINITY : logits[i], 0};
    qsort(tokens, (size_t)n, sizeof tokens[0], compare_plain);
    if (s->temperature <= 0)
        return tokens[0].token;
    int32_t kept = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    int64_t total = 0, before = 0;
    for (int32_t i = 0; i < kept; i++)
        total += tokens[i].mass = plain_mass(tokens[i].logit, tokens[0].logit, inverse);
    if (s->top_p < 1) {
        unsigned __int128 wanted = (unsigned __int128)llrint((double)s->top_p * 0x1p32) * (uint64_t)total;
        int32_t end = 0;
        while (end < kept && (end == 0 || (unsigned __int128)before << 32 < wanted))
            before += tokens[end++].mass;
        kept = end;
    }
    if (s->min_p > 0)
        for (int32_t i = 1; i < kept; i++)
            if ((unsigned __int128)tokens[i].mass << 32 <
                (unsigned __int128)llrint((double)s->min_p * 0x1p32) * (uint64_t)tokens[0].mass)
                kept = i;
    int32_t best = -1;
    float best_score = 0;
    for (int32_t i = 0; i < kept; i++) {
        float score = fmaf(tokens[i].logit, inverse, oct_noise(s->seed, position, tokens[i].token));
        if (best < 0 || score > best_score || (score == best_score && tokens[i].token < best)) {
            best = tokens[i].token;
            best_score = score;
        }
    }
    return best;
}

// --- the protocol, with a random split -----------------------------------------------------------------

typedef struct protocol_count {
    int decided, gathered;
} protocol_count;

static void random_cuts(int32_t *cuts, int32_t parts, int32_t n)
{
    cuts[0] = 0;
    cuts[parts] = n;
    for (int32_t p = 1; p < parts; p++) {
        int32_t cut = random_below(n + 1), at = p;
        for (; at > 1 && cuts[at - 1] > cut; at--)
            cuts[at] = cuts[at - 1];
        cuts[at] = cut;
    }
}

// A rank's candidates, made by one to three threads.
static void make_rank(oct_candidates *out, const oct_sampling *s, uint64_t position, const float *logits,
                      int32_t first, int32_t n, float maximum, int32_t list_size)
{
    int32_t threads = 1 + random_below(3), cuts[4];
    if (threads == 1) {
        oct_candidates_make(out, s, position, logits + first, first, n, maximum, NULL, list_size);
        return;
    }
    oct_candidates parts[3];
    const oct_candidates *list[3];
    random_cuts(cuts, threads, n);
    for (int32_t t = 0; t < threads; t++) {
        int32_t begin = first + cuts[t];
        oct_candidates_make(&parts[t], s, position, logits + begin, begin, cuts[t + 1] - cuts[t], maximum,
                            NULL, list_size);
        list[t] = &parts[t];
    }
    oct_candidates_merge(out, list, threads, list_size);
}

static void check_same(const oct_choice *a, const oct_choice *b)
{
    assert_int_equal(a->token, b->token);
    assert_memory_equal(&a->logprob, &b->logprob, sizeof a->logprob);
    assert_int_equal(a->top_count, b->top_count);
    assert_memory_equal(a->top, b->top, sizeof a->top[0] * (size_t)a->top_count);
}

static void run_protocol(const oct_sampling *s, uint64_t position, const float *logits, int32_t n,
                         int32_t ranks, int32_t list_size, const oct_choice *expected, protocol_count *count)
{
    oct_candidates *made[RANKS_MAX];
    const oct_candidates *list[RANKS_MAX];
    int32_t cuts[RANKS_MAX + 1];
    random_cuts(cuts, ranks, n);
    float maximum = -INFINITY;
    for (int32_t r = 0; r < ranks; r++) {
        float m = oct_sampling_maximum(logits + cuts[r], cuts[r + 1] - cuts[r]);
        maximum = m > maximum ? m : maximum;
    }
    for (int32_t r = 0; r < ranks; r++) {
        // Exactly the bytes that are sent, so that the sanitizers see a write or read behind them.
        oct_candidates whole;
        make_rank(&whole, s, position, logits, cuts[r], cuts[r + 1] - cuts[r], maximum, list_size);
        list[r] = made[r] = malloc(oct_candidates_bytes(list_size));
        assert_non_null(made[r]);
        memcpy(made[r], &whole, oct_candidates_bytes(list_size));
    }
    oct_choice choice;
    if (oct_sampling_decide(s, position, list, ranks, &choice) == OCT_DECIDED) {
        count->decided++;
        check_same(&choice, expected);
    } else {
        count->gathered++;
        assert_true(n > list_size); // whole shards prove everything
    }
    for (int32_t r = 0; r < ranks; r++)
        free(made[r]);
}

static void same_token_for_any_split(void **state)
{
    (void)state;
    static float logits[VOCABULARY_MAX];
    static uint64_t scratch[2 * VOCABULARY_MAX];
    protocol_count usual = {0}, tiny = {0};
    for (int round = 0; round < 3000; round++) {
        int32_t n = 1 + random_below(random_below(3) ? 300 : VOCABULARY_MAX);
        random_logits(logits, n);
        oct_sampling s = random_sampling(n);
        assert_int_equal(oct_sampling_check(&s, n), OCT_OK);
        uint64_t position = random_word();
        oct_choice expected;
        assert_true(oct_sampling_scratch_bytes(n) <= sizeof scratch);
        oct_sampling_decide_full(&s, position, logits, n, scratch, &expected);
        assert_int_equal(expected.token, plain_decide(&s, position, logits, n));
        for (int split = 0; split < 3; split++) {
            int32_t ranks = 1 + random_below(RANKS_MAX);
            run_protocol(&s, position, logits, n, ranks, oct_sampling_list_size(&s), &expected, &usual);
            run_protocol(&s, position, logits, n, ranks, random_below(4), &expected, &tiny);
        }
    }
    // Both ways must have been taken often for this test to mean anything.
    assert_true(usual.decided > 6000 && usual.gathered > 100);
    assert_true(tiny.decided > 1000 && tiny.gathered > 1000);
}

// Where the kept set passes the lists, the best score of all tokens mostly decides: of 3000 tokens with the
// probabilities of Zipf's law, 64 hold more than half of the mass.
static void a_long_tail_seldom_needs_all_logits(void **state)
{
    (void)state;
    static float logits[3000];
    static uint64_t scratch[6000];
    for (int32_t i = 0; i < 3000; i++)
        logits[(i * 1009) % 3000] = -logf((float)(i + 1));
    oct_sampling s = oct_sampling_default();
    s.temperature = 1;
    s.top_p = 0.95f;
    protocol_count count = {0};
    for (uint64_t position = 0; position < 1000; position++) {
        oct_choice expected;
        oct_sampling_decide_full(&s, position, logits, 3000, scratch, &expected);
        run_protocol(&s, position, logits, 3000, 2, oct_sampling_list_size(&s), &expected, &count);
    }
    assert_true(count.decided > 550 && count.gathered > 50);
}

static void greedy_and_plain_temperature_need_no_list(void **state)
{
    (void)state;
    oct_sampling s = oct_sampling_default();
    assert_int_equal(oct_sampling_list_size(&s), 0);
    s.temperature = 0.7f;
    assert_int_equal(oct_sampling_list_size(&s), 0);
    assert_false(oct_sampling_needs_maximum(&s));
    s.top_k = 20;
    assert_int_equal(oct_sampling_list_size(&s), OCT_USUAL_CANDIDATES);
    s.top_k = 90;
    assert_int_equal(oct_sampling_list_size(&s), 90);
    s.top_k = 1000;
    assert_int_equal(oct_sampling_list_size(&s), OCT_MAX_CANDIDATES);
    s.temperature = 0;
    assert_int_equal(oct_sampling_list_size(&s), 0);
    s.logprobs = 5;
    assert_int_equal(oct_sampling_list_size(&s), 5);
    assert_true(oct_sampling_needs_maximum(&s));
}

static void logprobs_are_those_of_the_distribution(void **state)
{
    (void)state;
    static float logits[1000];
    static uint64_t scratch[2000];
    oct_sampling s = oct_sampling_default();
    s.logprobs = 10;
    s.temperature = 0.5f; // must not matter
    s.top_k = 3;          // neither
    for (int32_t i = 0; i < 1000; i++)
        logits[i] = random_float(-5, 5);
    oct_choice choice;
    oct_sampling_decide_full(&s, 3, logits, 1000, scratch, &choice);
    double sum = 0;
    for (int32_t i = 0; i < 1000; i++)
        sum += exp((double)logits[i]);
    assert_int_equal(choice.top_count, 10);
    for (int32_t i = 0; i < 10; i++) {
        double expected = (double)logits[choice.top[i].token] - log(sum);
        assert_true(fabs((double)choice.top[i].logprob - expected) < 2e-6);
        assert_true(i == 0 || choice.top[i].logprob <= choice.top[i - 1].logprob);
    }
    assert_true(fabs((double)choice.logprob - ((double)logits[choice.token] - log(sum))) < 2e-6);
}

// --- bias and penalties --------------------------------------------------------------------------------

static void penalties_follow_their_formulas(void **state)
{
    (void)state;
    oct_history history;
    assert_int_equal(oct_history_create(&history, 10, 16), OCT_OK);
    const int32_t prompt[] = {1, 2, 2}, output[] = {2, 3, 3, 9};
    assert_int_equal(oct_history_append_prompt(&history, prompt, 3), OCT_OK);
    assert_int_equal(oct_history_append_output(&history, output, 4), OCT_OK);
    oct_sampling s = oct_sampling_default();
    s.repetition_penalty = 1.5f;
    s.presence_penalty = 0.25f;
    s.frequency_penalty = 0.5f;
    s.bias_count = 2;
    s.biases[0] = (oct_logit_bias){1, 3};
    s.biases[1] = (oct_logit_bias){8, -100};
    float logits[10] = {1, 1, 1, -1, 1, 1, 1, 1, 1, 9}, parts[10];
    memcpy(parts, logits, sizeof parts);
    const float expected[10] = {1, 4.0f / 1.5f, 1.0f / 1.5f - 0.75f, -1.5f - 1.25f, 1, 1, 1,
                                1, -99,         6.0f - 0.75f};
    oct_sampling_adjust(&s, &history, history.length, logits, 0, 10);
    assert_memory_equal(logits, expected, sizeof logits);
    oct_sampling_adjust(&s, &history, history.length, parts, 0, 3);
    oct_sampling_adjust(&s, &history, history.length, parts + 3, 3, 0);
    oct_sampling_adjust(&s, &history, history.length, parts + 3, 3, 7);
    assert_memory_equal(parts, expected, sizeof parts);
    oct_history_destroy(&history);
}

static void history_counts_like_a_recount(void **state)
{
    (void)state;
    enum { TOKENS = 12, CAPACITY = 60 };
    oct_history history;
    assert_int_equal(oct_history_create(&history, TOKENS, CAPACITY), OCT_OK);
    for (int round = 0; round < 3000; round++) {
        int32_t tokens[3] = {random_below(TOKENS), random_below(TOKENS), random_below(TOKENS)};
        int32_t n = random_below(4), kind = random_below(40), length = history.length;
        oct_status expected = length + n > CAPACITY ? OCT_ERR_INTERNAL : OCT_OK;
        if (kind == 0)
            oct_history_reset(&history);
        else if (kind < 10)
            oct_history_truncate(&history, random_below(length + 2));
        else if (kind < 20 && history.length == history.prompt_tokens)
            assert_int_equal(oct_history_append_prompt(&history, tokens, n), expected);
        else
            assert_int_equal(oct_history_append_output(&history, tokens, n), expected);
        oct_failure_clear();
        int32_t total[TOKENS] = {0}, output[TOKENS] = {0}, distinct = 0;
        for (int32_t i = 0; i < history.length; i++) {
            total[history.tokens[i]]++;
            output[history.tokens[i]] += i >= history.prompt_tokens;
        }
        for (int32_t t = 0; t < TOKENS; t++)
            distinct += total[t] > 0;
        assert_memory_equal(total, history.total_counts, sizeof total);
        assert_memory_equal(output, history.output_counts, sizeof output);
        assert_int_equal(distinct, history.distinct);
        for (int32_t i = 0; i < history.distinct; i++)
            assert_true(total[history.distinct_tokens[i]] > 0);
    }
    const int32_t wrong[] = {0, TOKENS};
    oct_history_reset(&history);
    assert_int_equal(oct_history_append_output(&history, wrong, 2), OCT_ERR_INTERNAL);
    assert_int_equal(history.length, 0);
    assert_int_equal(oct_history_append_output(&history, wrong, 1), OCT_OK);
    assert_int_equal(oct_history_append_prompt(&history, wrong, 1), OCT_ERR_INTERNAL);
    oct_failure_clear();
    oct_history_destroy(&history);
}

// --- parameters ----------------------------------------------------------------------------------------

static void refuses(oct_sampling s, const char *name)
{
    oct_failure_clear();
    assert_int_equal(oct_sampling_check(&s, 100), OCT_ERR_USAGE);
    assert_non_null(strstr(oct_failure_text(), name));
    oct_failure_clear();
}

#define REFUSES(field, value)                                                                                \
    do {                                                                                                     \
        oct_sampling wrong = oct_sampling_default();                                                         \
        wrong.field = (value);                                                                               \
        refuses(wrong, #field);                                                                              \
    } while (0)

static void parameters_are_checked(void **state)
{
    (void)state;
    oct_sampling s = oct_sampling_default();
    assert_int_equal(oct_sampling_check(&s, 0), OCT_OK);
    REFUSES(temperature, -1);
    REFUSES(temperature, NAN);
    REFUSES(temperature, 1e-5f);
    REFUSES(temperature, INFINITY);
    REFUSES(top_k, -1);
    REFUSES(top_p, 0);
    REFUSES(top_p, 1.01f);
    REFUSES(top_p, NAN);
    REFUSES(min_p, -0.1f);
    REFUSES(min_p, NAN);
    REFUSES(repetition_penalty, 0);
    REFUSES(presence_penalty, 1e4f);
    REFUSES(frequency_penalty, NAN);
    REFUSES(logprobs, 65);
    s.bias_count = 1;
    s.biases[0] = (oct_logit_bias){100, 1};
    refuses(s, "logit_bias");
    s.biases[0] = (oct_logit_bias){99, 101};
    refuses(s, "logit_bias");
    s.biases[0].bias = -100;
    assert_int_equal(oct_sampling_check(&s, 100), OCT_OK);
    s.biases[1] = s.biases[0];
    s.bias_count = 2;
    refuses(s, "twice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_token_for_any_split),
        cmocka_unit_test(a_long_tail_seldom_needs_all_logits),
        cmocka_unit_test(greedy_and_plain_temperature_need_no_list),
        cmocka_unit_test(logprobs_are_those_of_the_distribution),
        cmocka_unit_test(penalties_follow_their_formulas),
        cmocka_unit_test(history_counts_like_a_recount),
        cmocka_unit_test(parameters_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
