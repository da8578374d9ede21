// Ragged steps: whatever else is in a step, a sequence gets the tokens that it gets alone; columns of one sequence are
// chosen as if one by one (penalties see the drafts before them), what is rolled back leaves no trace, and pages shared
// with other sequences are as good as own ones. With one rank as a unit test, with several by
// tests/integration/check-steps.
#include "tests/unit/tiny_engine.h"

enum { SLOTS = 4, PROMPT = 70, TOKENS = 20, DRAFT = 6 };

static int32_t alone[SLOTS][TOKENS]; // what each request gives when it is all that there is
static float alone_logprobs[SLOTS][TOKENS];

// Greedy; plain temperature; penalties with truncation by rank; truncation by mass with log-probabilities.
static oct_sampling request(int32_t slot)
{
    oct_sampling s = oct_sampling_default();
    s.temperature = slot == 0 ? 0 : 0.9f;
    s.seed = 17 + (uint64_t)slot;
    if (slot == 2) {
        s.repetition_penalty = 1.3f;
        s.frequency_penalty = 0.4f;
        s.presence_penalty = 0.2f;
        s.top_k = 40;
    }
    if (slot == 3) {
        s.top_p = 0.999f; // more tokens than a list holds: all logits are asked for
        s.logprobs = 3;
        s.biases[s.bias_count++] = (oct_logit_bias){.token = 300, .bias = 2};
    }
    return s;
}

static void begin(int32_t slot, int32_t request_number, oct_choice *choice)
{
    const oct_sampling sampling = request(request_number);
    int32_t prompt[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++)
        prompt[i] = 260 + (i * 7 + request_number * 3) % 50;
    assert_int_equal(oct_engine_begin_sequence(engine, slot, &sampling, NULL, 0, 0), OCT_OK);
    assert_int_equal(oct_engine_forward(engine, slot, prompt, PROMPT - 5 * request_number, true, OCT_WANT_TOKEN, choice,
                                        NULL, NULL),
                     OCT_OK);
}

static oct_control_column sampled(int32_t token, int32_t slot)
{
    return (oct_control_column){.token = token, .slot = slot, .want = OCT_WANT_TOKEN};
}

static void expect(int32_t number, int32_t at, const oct_choice *choice)
{
    if (choice->token != alone[number][at] || choice->logprob != alone_logprobs[number][at])
        fail_msg("request %d, token %d: %d (%a), expected %d (%a)", number, at, choice->token, (double)choice->logprob,
                 alone[number][at], (double)alone_logprobs[number][at]);
}

// Also: the last slot, so that the first ones are nothing special.
static void each_alone(void **state)
{
    (void)state;
    for (int32_t number = 0; number < SLOTS; number++) {
        oct_choice choice;
        begin(SLOTS - 1, number, &choice);
        for (int32_t i = 0; i < TOKENS; i++) {
            alone[number][i] = choice.token;
            alone_logprobs[number][i] = choice.logprob;
            if (i + 1 < TOKENS)
                assert_int_equal(oct_engine_forward(engine, SLOTS - 1, &choice.token, 1, false, OCT_WANT_TOKEN, &choice,
                                                    NULL, NULL),
                                 OCT_OK);
        }
        int32_t different = 0;
        for (int32_t i = 1; i < TOKENS; i++)
            different += alone[number][i] != alone[number][0];
        assert_true(different > 2); // or the comparisons below would show nothing
    }
}

static void all_at_once(void **state)
{
    (void)state;
    oct_choice choices[SLOTS];
    oct_control_column step[SLOTS];
    for (int32_t slot = 0; slot < SLOTS; slot++)
        begin(slot, slot, &choices[slot]);
    for (int32_t i = 0; i < TOKENS; i++) {
        for (int32_t slot = 0; slot < SLOTS; slot++) {
            expect(slot, i, &choices[slot]);
            step[slot] = sampled(choices[slot].token, slot);
        }
        if (i + 1 < TOKENS)
            assert_int_equal(oct_engine_step(engine, step, SLOTS, choices, NULL, NULL), OCT_OK);
    }
}

// Drafts that plain decoding would have made, and behind them wrong ones that are taken back; two sequences in turn
// and one that only gets a piece of its prompt.
static void drafts_are_verified_and_rolled_back(void **state)
{
    (void)state;
    for (int32_t number = 0; number < SLOTS; number++) {
        const int32_t other = (number + 1) % SLOTS;
        oct_choice first, second, choices[2 * DRAFT];
        oct_control_column step[2 * DRAFT + 1];
        begin(0, number, &first);
        begin(2, other, &second);
        begin(1, 0, &choices[0]);
        expect(number, 0, &first);
        for (int32_t done = 0; done + DRAFT < TOKENS; done += DRAFT - 2) {
            int32_t columns = 0;
            for (int32_t i = 0; i < DRAFT; i++) {
                const bool wrong = i >= DRAFT - 2;
                step[columns++] = sampled(wrong ? 299 - i : alone[number][done + i], 0);
                step[columns++] = sampled(wrong ? 270 + i : alone[other][done + i], 2);
            }
            step[columns++] = (oct_control_column){.token = 280, .slot = 1};
            assert_int_equal(oct_engine_step(engine, step, columns, choices, NULL, NULL), OCT_OK);
            for (int32_t i = 0; i < DRAFT - 2; i++) {
                expect(number, done + i + 1, &choices[2 * i]);
                expect(other, done + i + 1, &choices[2 * i + 1]);
            }
            oct_engine_truncate(engine, 0, oct_engine_length(engine, 0) - 2);
            oct_engine_truncate(engine, 2, oct_engine_length(engine, 2) - 2);
        }
    }
}

static void count_logits(void *context, int32_t position, const float *logits)
{
    int32_t *seen = context;
    assert_int_equal(position, PROMPT + *seen);
    assert_true(logits[300] == logits[300]);
    ++*seen;
}

static void all_columns_have_room_for_logits(void **state)
{
    (void)state;
    const oct_engine_figures *figures = oct_engine_read_figures(engine);
    assert_int_equal(figures->sampled_columns, 16);
    assert_int_equal(figures->logit_columns, figures->step_columns);
    assert_true(figures->step_columns >= figures->prefill_chunk);
}

// Columns whose logits are asked for beside one that is sampled.
static void logits_and_choices_in_one_step(void **state)
{
    (void)state;
    oct_choice choices[2];
    int32_t seen = 0;
    begin(0, 0, &choices[0]);
    begin(1, 2, &choices[1]);
    expect(2, 0, &choices[1]);
    const oct_control_column step[] = {{.token = alone[0][0], .slot = 0, .want = OCT_WANT_LOGITS},
                                       sampled(alone[2][0], 1),
                                       {.token = alone[0][1], .slot = 0, .want = OCT_WANT_LOGITS}};
    assert_int_equal(oct_engine_step(engine, step, 3, choices, count_logits, &seen), OCT_OK);
    assert_int_equal(seen, 2);
    expect(2, 1, &choices[0]);
}

// What follows is about prompts of LONG tokens; the first COMMON are the same for all of one family, the pages in there
// hold WHOLE.
enum { LONG = 230, COMMON = 200, WHOLE = 192, LATER = 8, KV_PAGES = 10 };

static void make_prompt(int32_t family, int32_t number, int32_t *tokens)
{
    for (int32_t i = 0; i < LONG; i++)
        tokens[i] = 260 + (i < COMMON ? i * 7 + family * 3 : i * 11 + number * 5) % 50;
}

// Begins with a prompt from which `shared` tokens are there already, computes the rest and decodes LATER tokens.
static void answer_begun(int32_t slot, int32_t number, const int32_t *prompt, int32_t shared, oct_choice *choices)
{
    const oct_sampling sampling = request(number);
    assert_int_equal(oct_engine_begin_sequence(engine, slot, &sampling, prompt, LONG, LONG), OCT_OK);
    assert_int_equal(oct_engine_length(engine, slot), shared);
    assert_int_equal(
        oct_engine_forward(engine, slot, prompt + shared, LONG - shared, true, OCT_WANT_TOKEN, choices, NULL, NULL),
        OCT_OK);
    for (int32_t i = 1; i < LATER; i++)
        assert_int_equal(oct_engine_forward(engine, slot, &choices[i - 1].token, 1, false, OCT_WANT_TOKEN, &choices[i],
                                            NULL, NULL),
                         OCT_OK);
}

// The same alone: nothing is known of the prompt beforehand, nothing stays behind.
static void answer_alone(int32_t number, const int32_t *prompt, oct_choice *choices)
{
    const oct_sampling sampling = request(number);
    assert_int_equal(oct_engine_begin_sequence(engine, 3, &sampling, NULL, 0, 0), OCT_OK);
    assert_int_equal(oct_engine_forward(engine, 3, prompt, LONG, true, OCT_WANT_TOKEN, choices, NULL, NULL), OCT_OK);
    for (int32_t i = 1; i < LATER; i++)
        assert_int_equal(oct_engine_forward(engine, 3, &choices[i - 1].token, 1, false, OCT_WANT_TOKEN, &choices[i],
                                            NULL, NULL),
                         OCT_OK);
    oct_engine_truncate(engine, 3, 0);
}

static void expect_same(const oct_choice *choices, const oct_choice *expected)
{
    for (int32_t i = 0; i < LATER; i++) {
        assert_int_equal(choices[i].token, expected[i].token);
        assert_true(choices[i].logprob == expected[i].logprob);
    }
}

static void free_all_slots(void)
{
    for (int32_t slot = 0; slot < SLOTS; slot++)
        oct_engine_truncate(engine, slot, 0);
    assert_int_equal(oct_engine_free_pages(engine), KV_PAGES);
}

// From a running sequence, from one that is over, and from one that is over while the pages are in use.
static void shared_prefixes_change_no_token(void **state)
{
    (void)state;
    int32_t prompt[LONG];
    free_all_slots();
    for (int32_t number = 0; number < SLOTS; number++) {
        oct_choice expected[LATER], choices[LATER];
        make_prompt(0, number, prompt);
        answer_alone(number, prompt, expected);
        answer_begun(number % 2, number, prompt, number == 0 ? 0 : WHOLE, choices);
        expect_same(choices, expected);
        assert_int_equal(oct_engine_free_pages(engine), KV_PAGES - 4 - (number > 0)); // one of its own
        answer_begun(2, number, prompt, WHOLE, choices); // not its last token
        expect_same(choices, expected);
        oct_engine_truncate(engine, (number + 1) % 2, 0);
        assert_int_equal(
            oct_engine_forward(engine, 2, &choices[LATER - 1].token, 1, false, OCT_WANT_TOKEN, choices, NULL, NULL),
            OCT_OK);
        oct_engine_truncate(engine, 2, 0);
        assert_int_equal(oct_engine_pages_wanted(engine, prompt, LONG), 1);
    }
    free_all_slots();
    assert_int_equal(oct_engine_pages_wanted(engine, prompt, LONG), 4); // kept pages are free ones
    const oct_sampling greedy = request(0);
    assert_int_equal(oct_engine_begin_sequence(engine, 0, &greedy, prompt, WHOLE, WHOLE), OCT_OK);
    assert_int_equal(oct_engine_length(engine, 0), WHOLE - 64); // its last token is wanted
    free_all_slots();
}

typedef struct logits_seen {
    int32_t count;
    float *values; // [LONG - WHOLE][vocabulary]
} logits_seen;

static void keep_logits(void *context, int32_t position, const float *logits)
{
    logits_seen *seen = context;
    const size_t vocabulary = (size_t)oct_engine_model(engine)->vocabulary;
    if (position >= WHOLE)
        memcpy(seen->values + (size_t)(position - WHOLE) * vocabulary, logits, vocabulary * sizeof *logits);
    seen->count += position >= WHOLE;
}

static void shared_prefixes_change_no_logit(void **state)
{
    (void)state;
    const size_t bytes = (size_t)(LONG - WHOLE) * (size_t)oct_engine_model(engine)->vocabulary * sizeof(float);
    const oct_sampling sampling = request(0);
    logits_seen seen[2] = {{.values = calloc(1, bytes)}, {.values = calloc(1, bytes)}};
    int32_t prompt[LONG];
    make_prompt(1, 0, prompt);
    for (int32_t i = 0; i < 2; i++) {
        assert_int_equal(oct_engine_begin_sequence(engine, i, &sampling, prompt, LONG, LONG), OCT_OK);
        const int32_t shared = oct_engine_length(engine, i);
        assert_int_equal(shared, i == 0 ? 0 : WHOLE);
        assert_int_equal(oct_engine_forward(engine, i, prompt + shared, LONG - shared, true, OCT_WANT_LOGITS, NULL,
                                            keep_logits, &seen[i]),
                         OCT_OK);
        assert_int_equal(seen[i].count, LONG - WHOLE);
    }
    assert_memory_equal(seen[0].values, seen[1].values, bytes);
    assert_true(seen[0].values[0] != seen[0].values[1]);
    free(seen[0].values);
    free(seen[1].values);
    free_all_slots();
}

// Two sequences read the same prompt side by side, and end up with one copy of it.
static void prompts_computed_side_by_side_are_merged(void **state)
{
    (void)state;
    const oct_sampling sampling = request(0);
    int32_t prompt[LONG];
    oct_choice choices[2] = {{0}};
    make_prompt(2, 0, prompt);
    for (int32_t slot = 0; slot < 2; slot++)
        assert_int_equal(oct_engine_begin_sequence(engine, slot, &sampling, prompt, LONG, LONG), OCT_OK);
    for (int32_t i = 0; i < LONG; i++) {
        const int32_t want = i + 1 < LONG ? OCT_WANT_NOTHING : OCT_WANT_TOKEN;
        const oct_control_column step[] = {{.token = prompt[i], .slot = 0, .want = want, .prompt = 1},
                                           {.token = prompt[i], .slot = 1, .want = want, .prompt = 1}};
        assert_int_equal(oct_engine_step(engine, step, 2, choices, NULL, NULL), OCT_OK);
        assert_int_equal(oct_engine_free_pages(engine), KV_PAGES - (i + 1) / 64 - ((i + 1) % 64 != 0 ? 2 : 0));
    }
    oct_choice expected[LATER];
    oct_engine_truncate(engine, 1, 0);
    answer_alone(0, prompt, expected);
    assert_int_equal(choices[0].token, expected[0].token);
    assert_int_equal(choices[1].token, expected[0].token);
    free_all_slots();
}

// A sequence that gave its pages back is taken up again: what it had said stays output to the penalties, shared or not.
static void taken_up_again_goes_on_as_before(void **state)
{
    (void)state;
    enum { BEFORE = WHOLE - LATER / 2 }; // the last shared page has some output
    for (int32_t number = 0; number < SLOTS; number++) {
        oct_sampling sampling = request(number);
        for (int32_t i = 0; number == 0 && i <= LATER; i++) // in this order, for want of what has been said already
            sampling.biases[sampling.bias_count++] = (oct_logit_bias){.token = 290 + i, .bias = (float)(100 - 10 * i)};
        sampling.presence_penalty = number == 0 ? 1000 : sampling.presence_penalty;
        int32_t tokens[LONG], known = BEFORE;
        oct_choice choice;
        make_prompt(3 + number, number, tokens);
        const bool known_to_others = number % 2 == 1; // otherwise the first round computes all of it again
        assert_int_equal(oct_engine_begin_sequence(engine, 0, &sampling, tokens, known_to_others ? BEFORE : 0,
                                                   known_to_others ? BEFORE : 0),
                         OCT_OK);
        assert_int_equal(oct_engine_forward(engine, 0, tokens, BEFORE, true, OCT_WANT_TOKEN, &choice, NULL, NULL),
                         OCT_OK);
        for (; known < BEFORE + LATER; known++) {
            tokens[known] = choice.token;
            assert_int_equal(
                oct_engine_forward(engine, 0, &choice.token, 1, false, OCT_WANT_TOKEN, &choice, NULL, NULL), OCT_OK);
        }
        assert_true(number > 0 || choice.token == 290 + LATER);
        for (int32_t round = 0; round < 2; round++) {
            oct_choice again;
            oct_engine_truncate(engine, 0, 0);
            assert_int_equal(oct_engine_begin_sequence(engine, 1, &sampling, tokens, known, BEFORE), OCT_OK);
            const int32_t shared = oct_engine_length(engine, 1);
            assert_int_equal(shared, round > 0 || known_to_others ? WHOLE : 0);
            if (shared < BEFORE)
                assert_int_equal(oct_engine_forward(engine, 1, tokens + shared, BEFORE - shared, true, OCT_WANT_NOTHING,
                                                    NULL, NULL, NULL),
                                 OCT_OK);
            const int32_t from = oct_engine_length(engine, 1);
            assert_int_equal(
                oct_engine_forward(engine, 1, tokens + from, known - from, false, OCT_WANT_TOKEN, &again, NULL, NULL),
                OCT_OK);
            assert_int_equal(again.token, choice.token);
            assert_true(again.logprob == choice.logprob);
        }
    }
    free_all_slots();
}

// A step that does not fit changes nothing: the others go on, and it is done when there is room.
static void a_full_cache_is_not_the_end(void **state)
{
    (void)state;
    int32_t prompt[3][LONG];
    oct_choice expected[3][LATER], choices[3][LATER];
    for (int32_t i = 0; i < 3; i++) {
        make_prompt(10 + i, i, prompt[i]);
        answer_alone(i, prompt[i], expected[i]);
    }
    answer_begun(0, 0, prompt[0], 0, choices[0]);
    answer_begun(1, 1, prompt[1], 0, choices[1]);
    const oct_sampling sampling = request(2);
    assert_int_equal(oct_engine_begin_sequence(engine, 2, &sampling, prompt[2], LONG, LONG), OCT_OK);
    assert_int_equal(oct_engine_pages_wanted(engine, prompt[2], LONG), 4);
    assert_int_equal(oct_engine_free_pages(engine), KV_PAGES - 8);
    assert_int_equal(oct_engine_forward(engine, 2, prompt[2], LONG, true, OCT_WANT_TOKEN, choices[2], NULL, NULL),
                     OCT_ERR_MACHINE);
    oct_failure_clear();
    assert_false(oct_engine_is_broken(engine));
    const int32_t done = oct_engine_length(engine, 2);
    assert_int_equal(done, 128);
    const oct_control_column step[] = {{.token = prompt[2][done], .slot = 2, .prompt = 1}, sampled(261, 1)};
    assert_false(oct_engine_fits(engine, step, 2));
    assert_true(oct_engine_fits(engine, step + 1, 1));
    assert_int_equal(oct_engine_step(engine, step + 1, 1, choices[1] + 1, NULL, NULL), OCT_OK);
    oct_engine_truncate(engine, 0, 0);
    assert_true(oct_engine_fits(engine, step, 2));
    assert_int_equal(
        oct_engine_forward(engine, 2, prompt[2] + done, LONG - done, true, OCT_WANT_TOKEN, choices[2], NULL, NULL),
        OCT_OK);
    assert_int_equal(choices[2][0].token, expected[2][0].token);
    oct_engine_truncate(engine, 1, 0);
    answer_begun(0, 0, prompt[0], 128, choices[0]); // the last page of its three was given out first
    expect_same(choices[0], expected[0]);
    free_all_slots();
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_alone),
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(drafts_are_verified_and_rolled_back),
        cmocka_unit_test(logits_and_choices_in_one_step),
        cmocka_unit_test(shared_prefixes_change_no_token),
        cmocka_unit_test(all_columns_have_room_for_logits),
        cmocka_unit_test(shared_prefixes_change_no_logit),
        cmocka_unit_test(prompts_computed_side_by_side_are_merged),
        cmocka_unit_test(taken_up_again_goes_on_as_before),
        cmocka_unit_test(a_full_cache_is_not_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    const oct_engine_options wanted = {.threads = 2,
                                       .instructions = -1,
                                       .context = 256,
                                       .prefill_chunk = 32,
                                       .slots = SLOTS,
                                       .kv_tokens = KV_PAGES * 64,
                                       .step_columns = 16,
                                       .all_logits = true};
    return run_with_tiny_engine(argc, argv, &wanted, run_all);
}
