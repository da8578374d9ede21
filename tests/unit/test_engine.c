// Ragged steps: whatever else is in a step, a sequence gets the tokens that it gets alone; columns of one sequence are
// chosen as if one by one (penalties see the drafts before them), and what is rolled back leaves no trace. With one
// rank as a unit test, with several by tests/integration/check-steps.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoints/writer.h"
#include "ranks/engine.h"

enum { SLOTS = 4, PROMPT = 70, TOKENS = 20, DRAFT = 6 };

static oct_world world;
static oct_engine *engine;
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
    assert_int_equal(oct_engine_begin_sequence(engine, slot, &sampling), OCT_OK);
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
            assert_int_equal(oct_engine_truncate(engine, 0, oct_engine_length(engine, 0) - 2), OCT_OK);
            assert_int_equal(oct_engine_truncate(engine, 2, oct_engine_length(engine, 2) - 2), OCT_OK);
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

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_alone),
        cmocka_unit_test(all_at_once),
        cmocka_unit_test(drafts_are_verified_and_rolled_back),
        cmocka_unit_test(logits_and_choices_in_one_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static oct_status write_model(const char *path)
{
    oct_source source = {0};
    const oct_write_options options = {.encoding = OCT_Q4};
    oct_status status = oct_source_open_synthetic(&source, "tiny", 1);
    if (status == OCT_OK)
        status = oct_checkpoint_write(&source, path, &options, NULL);
    oct_source_close(&source);
    return status;
}

// The model stands in a file named by the first argument, or in one of this process's own.
int main(int argc, char **argv)
{
    char path[256];
    const oct_world_options options = oct_world_options_default();
    oct_status status = oct_world_init(&world, &options);
    snprintf(path, sizeof path, "%s", argc > 1 ? argv[1] : "");
    if (argc < 2)
        snprintf(path, sizeof path, "/tmp/octet-test-engine-%d.h5", (int)getpid());
    if (status == OCT_OK)
        status = oct_world_agree(&world, world.rank == 0 ? write_model(path) : OCT_OK);
    const oct_engine_options wanted = {
        .threads = 2, .instructions = -1, .context = 256, .prefill_chunk = 32, .slots = SLOTS, .step_columns = 16};
    if (status == OCT_OK)
        status = oct_engine_open(&engine, &world, path, &wanted);
    if (world.rank == 0)
        unlink(path);
    int code = (int)status;
    bool finished = false;
    if (status == OCT_OK && world.rank == 0) {
        code = run_all();
        if (oct_engine_is_broken(engine) || oct_engine_finish(engine) != OCT_OK)
            oct_world_abort(&world, OCT_ERR_INTERNAL);
    } else if (status == OCT_OK) {
        code = (int)oct_engine_serve(engine, &finished);
    }
    oct_engine_close(engine);
    oct_world_finish(&world);
    return code;
}
