// The drafter by a small model, here the model itself: what it guesses is what plain decoding of the same tokens
// gives, whatever became of its earlier guesses, for greedy and sampled sequences, with penalties, side by side. With
// one rank as a unit test, with several by tests/integration/check-steps.
#include "tests/unit/tiny_engine.h"

#include "ranks/drafter_model.h"
#include "runtime/noise.h"

enum { SLOTS = 4, CONTEXT = 256, CHUNK = 32, PAGES = 8, MOST = 6, ROUNDS = 30 };

// A sequence as its owner knows it.
typedef struct text {
    oct_sampling sampling;
    int32_t tokens[CONTEXT];
    int32_t count, prompt_count;
} text;

static text texts[SLOTS];

static void make_text(int32_t slot, int32_t prompt_count)
{
    text *t = &texts[slot];
    t->sampling = oct_sampling_default();
    t->sampling.seed = 30 + (uint64_t)slot;
    t->sampling.temperature = slot == 0 ? 0 : slot == 1 ? 0.7f : 1;
    t->sampling.top_p = slot == 2 ? 0.9f : 1;
    t->sampling.logprobs = slot == 2 ? 3 : 0;
    if (slot == 1) {
        t->sampling.repetition_penalty = 1.3f;
        t->sampling.frequency_penalty = 0.5f;
        t->sampling.presence_penalty = 0.3f;
    }
    t->count = t->prompt_count = prompt_count;
    for (int32_t i = 0; i < prompt_count; i++)
        t->tokens[i] = 260 + (i * 7 + slot * 3) % 50;
}

// What the target itself decodes behind a text.
static void decode_plainly(const text *t, int32_t *tokens, int32_t count)
{
    oct_choice choice;
    const int32_t output = t->count - t->prompt_count;
    assert_int_equal(oct_engine_begin_sequence(engine, 0, &t->sampling, NULL, 0, 0), OCT_OK);
    assert_int_equal(
        oct_engine_forward(engine, 0, t->tokens, t->prompt_count, true, OCT_WANT_TOKEN, &choice, NULL, NULL), OCT_OK);
    if (output > 0)
        assert_int_equal(oct_engine_forward(engine, 0, t->tokens + t->prompt_count, output, false, OCT_WANT_TOKEN,
                                            &choice, NULL, NULL),
                         OCT_OK);
    for (int32_t i = 0; i < count; i++) {
        tokens[i] = choice.token;
        assert_int_equal(oct_engine_forward(engine, 0, &tokens[i], 1, false, OCT_WANT_TOKEN, &choice, NULL, NULL),
                         OCT_OK);
    }
}

static oct_drafter *create(void)
{
    oct_drafter *drafter = NULL;
    assert_int_equal(oct_drafter_model_create(&drafter, engine, companion), OCT_OK);
    assert_null(drafter->propose);
    return drafter;
}

static void begin(oct_drafter *drafter, int32_t slot, int32_t prompt_count)
{
    make_text(slot, prompt_count);
    const text *t = &texts[slot];
    assert_int_equal(drafter->begin(drafter, slot, slot, t->tokens, t->count, &t->sampling), OCT_OK);
}

static void append(oct_drafter *drafter, int32_t slot, const int32_t *tokens, int32_t count)
{
    text *t = &texts[slot];
    memcpy(t->tokens + t->count, tokens, (size_t)count * sizeof *tokens);
    t->count += count;
    assert_int_equal(drafter->append(drafter, slot, tokens, count), OCT_OK);
}

// A proposal of up to most[slot] tokens for each slot (0: not this one), which are the right ones;
// counts [SLOTS] is how many came.
static void propose(oct_drafter *drafter, const int32_t *most, int32_t *counts)
{
    oct_draft drafts[SLOTS][MOST];
    oct_draft_wish wishes[SLOTS];
    int32_t wanted = 0, right[MOST];
    for (int32_t slot = 0; slot < SLOTS; slot++)
        if (most[slot] > 0)
            wishes[wanted++] = (oct_draft_wish){.slot = slot, .most = most[slot], .drafts = drafts[slot], .count = -1};
    assert_int_equal(drafter->propose_all(drafter, wishes, wanted), OCT_OK);
    memset(counts, 0, SLOTS * sizeof *counts);
    for (int32_t i = 0; i < wanted; i++) {
        const int32_t slot = wishes[i].slot;
        counts[slot] = wishes[i].count;
        assert_in_range(counts[slot], 0, most[slot]);
        decode_plainly(&texts[slot], right, counts[slot]);
        for (int32_t at = 0; at < counts[slot]; at++) {
            assert_int_equal(drafts[slot][at].token, right[at]);
            assert_int_equal(drafts[slot][at].source, OCT_DRAFT_MODEL);
            assert_true(drafts[slot][at].probability > 0 && drafts[slot][at].probability < 1);
        }
    }
}

static uint32_t random_below(uint32_t limit, int32_t round, int32_t what)
{
    const uint32_t counter[4] = {(uint32_t)round, (uint32_t)what, 0, 0}, key[2] = {1, 2};
    uint32_t words[4];
    oct_philox(counter, key, words);
    return words[0] % limit;
}

// Sequences go on by some of the guesses, by all and one more, or by another token somewhere among them; not all of
// them are in every proposal, and now and then one ends and another begins in its slot.
static void whatever_becomes_of_its_guesses(void **state)
{
    (void)state;
    oct_drafter *drafter = create();
    int32_t most[SLOTS], counts[SLOTS], right[MOST + 1], wanted = 0, guessed = 0;
    for (int32_t slot = 0; slot < SLOTS; slot++)
        begin(drafter, slot, 3 + 20 * slot);
    for (int32_t round = 0; round < ROUNDS; round++) {
        for (int32_t slot = 0; slot < SLOTS; slot++)
            most[slot] = (int32_t)random_below(MOST + 1, round, slot);
        if (round % 7 > 0 || most[0] + most[1] + most[2] + most[3] == 0)
            most[round % SLOTS] = MOST;
        propose(drafter, most, counts);
        for (int32_t slot = 0; slot < SLOTS; slot++) {
            assert_true(counts[slot] == most[slot] || counts[slot] == 0); // none: there is more to read than it may
            wanted += most[slot];
            guessed += counts[slot];
            const int32_t gained = 1 + (int32_t)random_below((uint32_t)counts[slot] + 1, round, 10 + slot);
            decode_plainly(&texts[slot], right, gained);
            if (random_below(3, round, 20 + slot) == 0)
                right[gained - 1] ^= 1;
            append(drafter, slot, right, gained);
            if (random_below(12, round, 30 + slot) > 0 && texts[slot].count < CONTEXT / 2)
                continue;
            drafter->end(drafter, slot, round % 2 == 0);
            begin(drafter, slot, 1 + (int32_t)random_below(40, round, 40 + slot));
        }
    }
    assert_true(guessed > wanted / 2 && guessed > 100);
    drafter->destroy(drafter);
}

// Proposals come twice, at the beginning and behind the next token, around the border of a page.
static void a_proposal_changes_no_later_one(void **state)
{
    (void)state;
    oct_drafter *drafter = create();
    const int32_t most[SLOTS] = {0, 0, MOST, 0}, prompt_counts[] = {1, 20, 63, 64, 65};
    int32_t counts[SLOTS], right;
    for (int i = 0; i < 5; i++) {
        begin(drafter, 2, prompt_counts[i]);
        for (int32_t round = 0; round < 6; round++) {
            propose(drafter, most, counts);
            assert_int_equal(counts[2], MOST);
            decode_plainly(&texts[2], &right, 1);
            if (round % 2 == 1)
                append(drafter, 2, &right, 1);
        }
        drafter->end(drafter, 2, true);
    }
    drafter->destroy(drafter);
}

// A sequence that is taken up again begins with its prompt and what it had.
static void taken_up_again(void **state)
{
    (void)state;
    oct_drafter *drafter = create();
    const int32_t most[SLOTS] = {0, MOST, 0, 0};
    int32_t counts[SLOTS], right[10];
    begin(drafter, 1, 30);
    propose(drafter, most, counts);
    assert_int_equal(counts[1], MOST);
    decode_plainly(&texts[1], right, 10);
    append(drafter, 1, right, 10);
    drafter->end(drafter, 1, false);
    begin(drafter, 1, 30);
    append(drafter, 1, right, 10);
    propose(drafter, most, counts);
    assert_int_equal(counts[1], MOST);
    drafter->destroy(drafter);
}

static void a_long_prompt_holds_up_nobody(void **state)
{
    (void)state;
    oct_drafter *drafter = create();
    const int32_t most[SLOTS] = {MOST, MOST, 0, 0}, one[SLOTS] = {MOST, 0, 0, 0};
    int32_t counts[SLOTS], right, rounds = 0;
    begin(drafter, 0, 200);
    begin(drafter, 1, 5);
    do {
        propose(drafter, most, counts);
        assert_int_equal(counts[1], MOST);
        decode_plainly(&texts[1], &right, 1);
        append(drafter, 1, &right, 1);
        rounds++;
    } while (counts[0] == 0);
    assert_in_range(rounds, 200 / CHUNK, 200 / CHUNK + 2);
    assert_int_equal(counts[0], MOST);
    drafter->end(drafter, 0, true);
    begin(drafter, 0, 190); // alone it does not wait for itself
    propose(drafter, one, counts);
    assert_int_equal(counts[0], MOST);
    drafter->destroy(drafter);
}

// Four sequences want 12 of 8 pages: some are guessed for, and when those end, the others.
static void a_full_cache_costs_only_guesses(void **state)
{
    (void)state;
    oct_drafter *drafter = create();
    const int32_t most[SLOTS] = {MOST, MOST, MOST, MOST};
    int32_t counts[SLOTS], right, with_all = 0;
    for (int32_t slot = 0; slot < SLOTS; slot++)
        begin(drafter, slot, 150 + slot);
    for (int32_t round = 0; round < 20; round++) {
        propose(drafter, most, counts);
        int32_t guessed = 0;
        for (int32_t slot = 0; slot < SLOTS; slot++) {
            guessed += counts[slot] > 0;
            decode_plainly(&texts[slot], &right, 1);
            append(drafter, slot, &right, 1);
        }
        with_all += guessed == SLOTS;
    }
    assert_int_equal(with_all, 0);
    for (int32_t slot = 0; slot < SLOTS - 1; slot++)
        drafter->end(drafter, slot, true);
    const int32_t last[SLOTS] = {0, 0, 0, MOST};
    propose(drafter, last, counts);
    assert_int_equal(counts[SLOTS - 1], MOST);
    drafter->destroy(drafter);
}

static void what_cannot_be(void **state)
{
    (void)state;
    oct_drafter *drafter = create();
    oct_draft drafts[MOST];
    oct_draft_wish wish = {.slot = 2, .most = 1, .drafts = drafts};
    const int32_t wrong = oct_engine_model(engine)->vocabulary;
    static int32_t much[CONTEXT + 1];
    assert_int_equal(drafter->propose_all(drafter, &wish, 1), OCT_ERR_INTERNAL);
    begin(drafter, 2, 250);
    const oct_sampling *sampling = &texts[2].sampling;
    assert_int_equal(drafter->begin(drafter, 2, 0, much, 1, sampling), OCT_ERR_INTERNAL);
    assert_int_equal(drafter->begin(drafter, SLOTS, 0, much, 1, sampling), OCT_ERR_INTERNAL);
    assert_int_equal(drafter->begin(drafter, 0, 0, much, CONTEXT + 1, sampling), OCT_ERR_INTERNAL);
    assert_int_equal(drafter->append(drafter, 2, &wrong, 1), OCT_ERR_INTERNAL);
    assert_int_equal(drafter->append(drafter, 2, much, 7), OCT_ERR_INTERNAL);
    wish.most = 7;
    assert_int_equal(drafter->propose_all(drafter, &wish, 1), OCT_ERR_INTERNAL);
    oct_failure_clear();
    const int32_t most[SLOTS] = {0, 0, MOST, 0}; // to the context's last position
    int32_t counts[SLOTS];
    propose(drafter, most, counts);
    assert_int_equal(counts[2], MOST);
    drafter->destroy(drafter);
}

static void vocabularies_are_compared(void **state)
{
    (void)state;
    uint64_t offsets[] = {0, 1, 3, 4}, others[] = {0, 1, 3, 4}, longer[] = {0, 2, 3, 4};
    char bytes[] = "abcd", changed[] = "abce";
    oct_vocabulary a = {.tokens = {.count = 3, .offsets = offsets, .bytes = bytes}};
    oct_vocabulary b = {.tokens = {.count = 3, .offsets = others, .bytes = bytes}};
    assert_int_equal(oct_vocabulary_find_difference(&a, &b), -1);
    b.tokens.bytes = changed;
    assert_int_equal(oct_vocabulary_find_difference(&a, &b), 2);
    b.tokens.count = 2;
    assert_int_equal(oct_vocabulary_find_difference(&a, &b), 2);
    assert_int_equal(oct_vocabulary_find_difference(&b, &a), 2);
    b.tokens.offsets = longer;
    assert_int_equal(oct_vocabulary_find_difference(&a, &b), 0);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_becomes_of_its_guesses),
        cmocka_unit_test(a_proposal_changes_no_later_one),
        cmocka_unit_test(taken_up_again),
        cmocka_unit_test(a_long_prompt_holds_up_nobody),
        cmocka_unit_test(a_full_cache_costs_only_guesses),
        cmocka_unit_test(what_cannot_be),
        cmocka_unit_test(vocabularies_are_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    oct_engine_options wanted = {
        .threads = 2, .instructions = -1, .context = CONTEXT, .prefill_chunk = CHUNK, .slots = SLOTS};
    oct_engine_options wanted_companion = wanted;
    wanted_companion.kv_tokens = PAGES * 64;
    return run_with_tiny_engines(argc, argv, &wanted, &wanted_companion, run_all);
}
