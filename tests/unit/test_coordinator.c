// Many sequences through one engine: whatever the company, the drafts and the room in the KV cache, a request gets the
// tokens that the engine gives it alone, each of them once. With one rank as a unit test, with several by
// tests/integration/check-steps.
#include "tests/unit/tiny_engine.h"

#include "ranks/coordinator.h"
#include "ranks/drafter_synthetic.h"

enum { SLOTS = 4, REQUESTS = 10, PROMPT = 70, TOKENS = 20, LONG = 150, DRAFTS = 5, CONTEXT = 256 };

// What became of a request.
typedef struct outcome {
    int32_t tokens[CONTEXT];
    int32_t count;
    int32_t stop_at; // tokens behind which it is stopped; 0: never
    int32_t ends;
    oct_sequence_end reason;
    oct_status status;
} outcome;

static int32_t prompts[REQUESTS][PROMPT];
static oct_sampling samplings[REQUESTS];
static int32_t alone[REQUESTS][LONG];

static int32_t prompt_tokens(int32_t number)
{
    return PROMPT - 6 * number;
}

static bool take(void *context, const oct_choice *choice)
{
    outcome *o = context;
    assert_int_equal(o->ends, 0);
    o->tokens[o->count++] = choice->token;
    return o->count == o->stop_at;
}

static void finish(void *context, oct_sequence_end reason, oct_status status)
{
    outcome *o = context;
    o->ends++;
    o->reason = reason;
    o->status = status;
}

static oct_sequence_request request_of(int32_t number, int32_t max_tokens, outcome *o)
{
    return (oct_sequence_request){.number = number,
                                  .prompt = prompts[number],
                                  .prompt_tokens = prompt_tokens(number),
                                  .max_tokens = max_tokens,
                                  .sampling = &samplings[number],
                                  .on_token = take,
                                  .on_end = finish,
                                  .context = o};
}

static oct_coordinator *create_with(oct_drafter *drafter, oct_controller *controller)
{
    oct_coordinator *c = NULL;
    const oct_coordinator_options options = {
        .drafter = drafter, .draft_tokens = drafter != NULL ? DRAFTS : 0, .controller = controller};
    assert_int_equal(oct_coordinator_create(&c, engine, &options), OCT_OK);
    return c;
}

static oct_coordinator *create(oct_drafter *drafter)
{
    return create_with(drafter, NULL);
}

// Steps until nothing is left, with what must hold of each step.
static int32_t run(oct_coordinator *c)
{
    int32_t steps = 0;
    while (!oct_coordinator_is_idle(c)) {
        oct_step_report report;
        assert_int_equal(oct_coordinator_step(c, &report), OCT_OK);
        assert_true(report.columns >= 1 && report.columns <= oct_engine_read_figures(engine)->step_columns);
        assert_true(report.prompt_columns <= oct_engine_read_figures(engine)->prefill_chunk);
        assert_true(report.decoded_tokens >= report.decoding);
        assert_true(report.seconds >= report.engine_s && report.engine_s > 0);
        steps++;
    }
    return steps;
}

static void expect(int32_t number, int32_t count, const outcome *o)
{
    assert_int_equal(o->ends, 1);
    assert_int_equal(o->status, OCT_OK);
    assert_int_equal(o->count, count);
    for (int32_t i = 0; i < count; i++)
        if (o->tokens[i] != alone[number][i])
            fail_msg("request %d, token %d: %d, expected %d", number, i, o->tokens[i], alone[number][i]);
}

// All requests, in an order that depends on `first`, as many at once as there is room.
static void run_requests(oct_coordinator *c, int32_t first, int32_t max_tokens)
{
    static outcome outcomes[REQUESTS];
    memset(outcomes, 0, sizeof outcomes);
    for (int32_t i = 0; i < REQUESTS; i++) {
        const int32_t number = (first + i * 3) % REQUESTS;
        const oct_sequence_request request = request_of(number, max_tokens, &outcomes[number]);
        oct_step_report report;
        while (!oct_coordinator_has_room(c))
            assert_int_equal(oct_coordinator_step(c, &report), OCT_OK);
        assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    }
    run(c);
    for (int32_t number = 0; number < REQUESTS; number++) {
        expect(number, max_tokens, &outcomes[number]);
        assert_int_equal(outcomes[number].reason, OCT_SEQUENCE_FULL);
    }
}

static void make_requests(void)
{
    for (int32_t number = 0; number < REQUESTS; number++) {
        oct_sampling *s = &samplings[number];
        *s = oct_sampling_default();
        s->temperature = number % 3 == 0 ? 0 : number % 3 == 1 ? 0.7f : 1;
        s->seed = 100 + (uint64_t)number;
        s->top_p = number % 2 == 0 ? 1 : 0.9f;
        if (number % 4 == 3) {
            s->repetition_penalty = 1.2f;
            s->frequency_penalty = 0.5f;
            s->presence_penalty = 0.3f;
        }
        for (int32_t i = 0; i < PROMPT; i++)
            prompts[number][i] = 260 + (i * 7 + number * 3) % 50;
    }
}

// By the engine itself, without a coordinator.
static void each_alone(void **state)
{
    (void)state;
    make_requests();
    for (int32_t number = 0; number < REQUESTS; number++) {
        oct_choice choice;
        assert_int_equal(oct_engine_begin_sequence(engine, 1, &samplings[number], NULL, 0, 0), OCT_OK);
        assert_int_equal(oct_engine_forward(engine, 1, prompts[number], prompt_tokens(number), true, OCT_WANT_TOKEN,
                                            &choice, NULL, NULL),
                         OCT_OK);
        int32_t different = 0;
        for (int32_t i = 0; i < LONG; i++) {
            const int32_t token = alone[number][i] = choice.token;
            different += token != alone[number][0];
            assert_int_equal(oct_engine_forward(engine, 1, &token, 1, false, OCT_WANT_TOKEN, &choice, NULL, NULL),
                             OCT_OK);
        }
        assert_true(different > 2); // or the comparisons below would show nothing
    }
}

static void in_company(void **state)
{
    (void)state;
    oct_coordinator *c = create(NULL);
    for (int32_t first = 0; first < 3; first++)
        run_requests(c, first, TOKENS);
    assert_int_equal(oct_coordinator_read_figures(c)->drafted, 0);
    oct_coordinator_destroy(c);
}

// A drafter that proposes what comes, but for one token in three, and says that it is less sure.
#define SAID 0.3f
typedef struct scripted {
    oct_drafter drafter;
    int64_t request[SLOTS];
    int32_t length[SLOTS];
} scripted;

static oct_status script_begin(oct_drafter *drafter, int32_t slot, int64_t request, const int32_t *prompt,
                               int32_t count, const oct_sampling *sampling)
{
    scripted *s = (scripted *)drafter;
    assert_ptr_equal(sampling, &samplings[request]);
    assert_int_equal(count, prompt_tokens((int32_t)request));
    assert_memory_equal(prompt, prompts[request], (size_t)count * sizeof *prompt);
    s->request[slot] = request;
    s->length[slot] = 0;
    return OCT_OK;
}

static oct_status script_append(oct_drafter *drafter, int32_t slot, const int32_t *tokens, int32_t count)
{
    scripted *s = (scripted *)drafter;
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(tokens[i], alone[s->request[slot]][s->length[slot]++]);
    return OCT_OK;
}

static oct_status script_propose(oct_drafter *drafter, int32_t slot, int32_t most, oct_draft *drafts, int32_t *count)
{
    scripted *s = (scripted *)drafter;
    const int32_t at = s->length[slot];
    *count = (at + slot) % (most + 1);
    for (int32_t i = 0; i < *count; i++) {
        const int32_t right = alone[s->request[slot]][at + i];
        drafts[i] = (oct_draft){.token = (at + i) % 3 == 2 ? right ^ 1 : right,
                                .probability = SAID,
                                .source = OCT_DRAFT_SUFFIX_OWN};
    }
    return OCT_OK;
}

static void with_scripted_drafts(void **state)
{
    (void)state;
    scripted script = {.drafter = {.begin = script_begin, .append = script_append, .propose = script_propose}};
    oct_coordinator *c = create(&script.drafter);
    const oct_coordinator_figures *figures = oct_coordinator_read_figures(c);
    for (int32_t first = 0; first < 3; first++)
        run_requests(c, first, TOKENS);
    assert_true(figures->accepted > 50 && figures->accepted < figures->drafted);
    assert_int_equal(figures->drafted_by[OCT_DRAFT_SUFFIX_OWN], figures->drafted);
    assert_int_equal(figures->accepted_by[OCT_DRAFT_SUFFIX_OWN], figures->accepted);
    int64_t sum = 0;
    for (int32_t i = 0; i < DRAFTS; i++) {
        sum += figures->accepted_at[i];
        assert_true(i == 0 || figures->accepted_at[i] <= figures->accepted_at[i - 1]);
    }
    assert_int_equal(sum, figures->accepted);
    oct_coordinator_destroy(c);
}

static oct_drafter *record(double probability)
{
    oct_drafter *drafter = NULL;
    assert_int_equal(
        oct_drafter_synthetic_create(&drafter, SLOTS, oct_engine_model(engine)->vocabulary, probability), OCT_OK);
    oct_coordinator *c = create(drafter);
    run_requests(c, 1, TOKENS);
    assert_int_equal(oct_coordinator_read_figures(c)->drafted, 0);
    oct_coordinator_destroy(c);
    oct_drafter_synthetic_replay(drafter);
    return drafter;
}

static void with_synthetic_drafts(void **state)
{
    (void)state;
    const double probabilities[] = {0, 0.5, 1};
    for (int i = 0; i < 3; i++) {
        oct_drafter *drafter = record(probabilities[i]);
        oct_coordinator *c = create(drafter);
        run_requests(c, 2, TOKENS);
        const oct_coordinator_figures *figures = oct_coordinator_read_figures(c);
        assert_true(figures->drafted > 100);
        const double first = (double)figures->accepted_at[0] / (double)figures->drafted_at[0];
        assert_true(first >= probabilities[i] - 0.2 && first <= probabilities[i] + 0.2);
        if (i != 1)
            assert_int_equal(figures->accepted, i == 0 ? 0 : figures->drafted);
        oct_coordinator_destroy(c);
        drafter->destroy(drafter);
    }
}

// By what it believes that columns cost, the controller takes all drafts, none until it finds out, or some: the tokens are
// the same. What it leaves out it learns from all the same.
static void with_a_controller(void **state)
{
    (void)state;
    const double growth[] = {1, 4}; // from a point to the next
    int64_t drafted[3];
    for (int i = 0; i < 3; i++) {
        scripted script = {.drafter = {.begin = script_begin, .append = script_append, .propose = script_propose}};
        oct_controller *controller = NULL;
        int32_t columns[OCT_COST_POINTS];
        oct_step_cost costs[OCT_COST_POINTS];
        assert_int_equal(oct_controller_create(&controller, SLOTS, DRAFTS), OCT_OK);
        const int32_t points = oct_controller_points(controller, columns);
        oct_coordinator *c = create_with(&script.drafter, controller);
        if (i == 2)
            assert_int_equal(oct_coordinator_measure_costs(c), OCT_OK);
        double seconds = 1e-3;
        for (int32_t point = 0; i < 2 && point < points; point++, seconds *= growth[i])
            oct_controller_measured(controller, point, seconds);
        assert_true(oct_controller_read_costs(controller, costs) >= 2);
        run_requests(c, i, TOKENS);
        const oct_coordinator_figures *figures = oct_coordinator_read_figures(c);
        const oct_draft likewise = {.probability = SAID, .source = OCT_DRAFT_SUFFIX_OWN};
        drafted[i] = figures->drafted;
        assert_true(i > 0 || (figures->drafted > 100 && figures->verify_s > 0));
        assert_true(i != 1 || figures->drafted < drafted[0]);
        assert_true(oct_controller_probability(controller, &likewise) > 1.5 * SAID);
        oct_coordinator_destroy(c);
        oct_controller_destroy(controller);
    }
}

// The KV cache holds 8 pages, four sequences want 14: some have to go, and come again.
static void pages_run_out(void **state)
{
    (void)state;
    oct_coordinator *c = create(NULL);
    run_requests(c, 0, LONG);
    assert_true(oct_coordinator_read_figures(c)->preempted > 0);
    oct_coordinator_destroy(c);
    scripted script = {.drafter = {.begin = script_begin, .append = script_append, .propose = script_propose}};
    c = create(&script.drafter);
    run_requests(c, 1, LONG);
    assert_true(oct_coordinator_read_figures(c)->preempted > 0);
    assert_true(oct_coordinator_read_figures(c)->accepted > 0);
    oct_coordinator_destroy(c);
}

// A sequence that is stopped inside a run of right drafts ends there, in the KV cache too: who goes on from there gets
// the right tokens.
static void stopped_inside_a_run(void **state)
{
    (void)state;
    oct_drafter *drafter = record(1);
    oct_coordinator *c = create(drafter);
    outcome stopped = {.stop_at = 9}, next = {0};
    oct_sequence_request request = request_of(0, TOKENS, &stopped);
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    run(c);
    expect(0, 9, &stopped);
    assert_int_equal(stopped.reason, OCT_SEQUENCE_STOPPED);
    assert_int_equal(oct_coordinator_read_figures(c)->drafted, 10);
    assert_int_equal(oct_coordinator_read_figures(c)->accepted, 6); // 1, then 5 drafts and 1, then 1 draft and 1

    const int64_t shared = oct_coordinator_read_figures(c)->shared_tokens;
    int32_t longer[PROMPT + 12];
    memcpy(longer, prompts[0], sizeof prompts[0]);
    memcpy(longer + PROMPT, alone[0], 12 * sizeof *longer);
    request = request_of(0, TOKENS - 12, &next);
    request.number = REQUESTS;
    request.prompt = longer;
    request.prompt_tokens = PROMPT + 12;
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    run(c);
    assert_int_equal(oct_coordinator_read_figures(c)->shared_tokens, shared + 64);
    assert_int_equal(next.count, TOKENS - 12);
    assert_memory_equal(next.tokens, alone[0] + 12, (TOKENS - 12) * sizeof *alone[0]);
    oct_coordinator_destroy(c);
    drafter->destroy(drafter);
}

enum { TURN = PROMPT + LONG, MORE = 5 }; // tokens of a whole first turn, and those that the second puts behind them

// What a prompt [count] gives where nothing is known of it beforehand.
static void answer_privately(const int32_t *prompt, int32_t count, const oct_sampling *sampling, int32_t *answer)
{
    oct_choice choice;
    assert_int_equal(oct_engine_begin_sequence(engine, 1, sampling, NULL, 0, 0), OCT_OK);
    assert_int_equal(oct_engine_forward(engine, 1, prompt, count, true, OCT_WANT_TOKEN, &choice, NULL, NULL), OCT_OK);
    for (int32_t i = 0; i < TOKENS; i++) {
        answer[i] = choice.token;
        assert_int_equal(oct_engine_forward(engine, 1, &answer[i], 1, false, OCT_WANT_TOKEN, &choice, NULL, NULL),
                         OCT_OK);
    }
    oct_engine_truncate(engine, 1, 0);
}

// A request and one that goes on behind its answer, of which `said` tokens are left by the end of the first.
static void two_turns(oct_coordinator *c, int32_t number, int32_t said)
{
    int32_t prompt[TURN + MORE], expected[TOKENS];
    const int32_t known = prompt_tokens(number) + said;
    memcpy(prompt, prompts[number], sizeof prompts[number]);
    memcpy(prompt + prompt_tokens(number), alone[number], (size_t)said * sizeof *prompt);
    for (int32_t i = 0; i < MORE; i++)
        prompt[known + i] = 305 - i;
    answer_privately(prompt, known + MORE, &samplings[number], expected);
    outcome first = {.stop_at = said}, second = {0};
    oct_sequence_request request = request_of(number, LONG, &first);
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    run(c);
    expect(number, said, &first);
    const int64_t shared = oct_coordinator_read_figures(c)->shared_tokens;
    request = request_of(number, TOKENS, &second);
    request.number = REQUESTS;
    request.prompt = prompt;
    request.prompt_tokens = known + MORE;
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    run(c);
    assert_int_equal(oct_coordinator_read_figures(c)->shared_tokens - shared, (known - 1) / 64 * 64);
    assert_int_equal(second.count, TOKENS);
    assert_memory_equal(second.tokens, expected, sizeof expected);
}

// The second turn of a conversation finds all whole pages of the first one, its answer included; also where that was
// stopped among drafts, and where the history counts what was said as prompt now.
static void the_next_turn_finds_what_was_said(void **state)
{
    (void)state;
    oct_coordinator *c = create(NULL);
    for (int32_t number = 0; number < 5; number++)
        two_turns(c, number, LONG - 7 * number);
    oct_coordinator_destroy(c);
    for (int32_t said = 120; said < 120 + DRAFTS; said++) {
        oct_drafter *drafter = NULL;
        assert_int_equal(
            oct_drafter_synthetic_create(&drafter, SLOTS, oct_engine_model(engine)->vocabulary, 1), OCT_OK);
        c = create(drafter);
        two_turns(c, 6, said);
        oct_coordinator_destroy(c);
        oct_drafter_synthetic_replay(drafter);
        c = create(drafter);
        two_turns(c, 6, said);
        assert_true(oct_coordinator_read_figures(c)->accepted > 100);
        oct_coordinator_destroy(c);
        drafter->destroy(drafter);
    }
}

static void what_cannot_be(void **state)
{
    (void)state;
    static int32_t whole[CONTEXT];
    for (int32_t i = 0; i < CONTEXT; i++)
        whole[i] = 260 + i % 40;
    oct_coordinator *c = create(NULL);
    outcome o = {0};
    oct_sequence_request request = request_of(0, TOKENS, &o);
    request.prompt = whole;
    request.prompt_tokens = CONTEXT;
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_ERR_USAGE);
    assert_non_null(strstr(oct_failure_text(), "256 tokens long"));
    oct_failure_clear();
    request.prompt_tokens = 0;
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_ERR_USAGE);
    oct_failure_clear();
    assert_true(oct_coordinator_is_idle(c));
    request.prompt_tokens = CONTEXT - 3; // ends with the context
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    run(c);
    assert_int_equal(o.count, 3);
    assert_int_equal(o.reason, OCT_SEQUENCE_FULL);
    oct_coordinator_destroy(c);
    assert_int_equal(oct_engine_read_figures(engine)->logit_columns, SLOTS * (1 + DRAFTS)); // whatever the chunk
    oct_coordinator_options options = {.draft_tokens = OCT_MAX_DRAFT_TOKENS};
    assert_int_equal(oct_coordinator_create(&c, engine, &options), OCT_ERR_USAGE);
    oct_failure_clear();
    options.draft_tokens = DRAFTS + 1;
    assert_int_equal(oct_coordinator_create(&c, engine, &options), OCT_ERR_USAGE);
    oct_failure_clear();
}

// Behind a long prompt a short one does not wait until that is through; nor does what decodes.
static void nobody_waits_for_a_long_prompt(void **state)
{
    (void)state;
    static int32_t whole[200];
    for (int32_t i = 0; i < 200; i++)
        whole[i] = 300 + i % 30;
    oct_coordinator *c = create(NULL);
    outcome slow = {0}, quick = {0};
    oct_sequence_request request = request_of(0, 2, &slow);
    request.prompt = whole;
    request.prompt_tokens = 200;
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    request = request_of(9, 3, &quick);
    assert_int_equal(oct_coordinator_submit(c, &request), OCT_OK);
    while (quick.ends == 0) {
        oct_step_report report;
        assert_int_equal(oct_coordinator_step(c, &report), OCT_OK);
    }
    assert_int_equal(slow.count, 0);
    expect(9, 3, &quick);
    run(c);
    assert_int_equal(slow.count, 2);
    oct_coordinator_destroy(c);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_alone),
        cmocka_unit_test(in_company),
        cmocka_unit_test(with_scripted_drafts),
        cmocka_unit_test(with_synthetic_drafts),
        cmocka_unit_test(with_a_controller),
        cmocka_unit_test(pages_run_out),
        cmocka_unit_test(stopped_inside_a_run),
        cmocka_unit_test(the_next_turn_finds_what_was_said),
        cmocka_unit_test(what_cannot_be),
        cmocka_unit_test(nobody_waits_for_a_long_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    const oct_engine_options wanted = {.threads = 1,
                                       .instructions = -1,
                                       .context = CONTEXT,
                                       .prefill_chunk = 32,
                                       .slots = SLOTS,
                                       .step_columns = SLOTS * (1 + DRAFTS),
                                       .kv_tokens = 2 * CONTEXT};
    return run_with_tiny_engine(argc, argv, &wanted, run_all);
}
