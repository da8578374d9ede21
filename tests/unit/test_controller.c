// The controller against a search through all choices, and what it must learn from steps and from drafts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ranks/controller.h"

enum { SEQUENCES = 3, DRAFTS = 4, MOST = SEQUENCES * (1 + DRAFTS), POINTS = 5 }; // columns 1, 2, 4, 8, 15

static uint32_t random_state = 11;

// 0 … 1.
static float random_part(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return (float)(random_state >> 8) / (float)(1 << 24);
}

static oct_controller *make(int32_t sequences, int32_t draft_tokens, const double *seconds, int32_t count)
{
    oct_controller *controller = NULL;
    assert_int_equal(oct_controller_create(&controller, sequences, draft_tokens), OCT_OK);
    for (int32_t i = 0; i < count; i++)
        if (seconds[i] > 0)
            oct_controller_measured(controller, i, seconds[i]);
    return controller;
}

static void expect_near(double value, double expected, double tolerance)
{
    if (!(value >= expected * (1 - tolerance) && value <= expected * (1 + tolerance)))
        fail_msg("%g, expected %g within %g", value, expected, tolerance);
}

static void costs_between_points(void **state)
{
    (void)state;
    const double seconds[] = {3, 4, 6, 5, 0}; // 4 columns were disturbed more than 8, 15 were never measured
    oct_controller *controller = make(SEQUENCES, DRAFTS, NULL, 0);
    int32_t columns[OCT_COST_POINTS];
    assert_int_equal(oct_controller_points(controller, columns), POINTS);
    const int32_t expected[POINTS] = {1, 2, 4, 8, 15};
    assert_memory_equal(columns, expected, sizeof expected);
    expect_near(oct_controller_step_cost(controller, 1), oct_controller_step_cost(controller, 9), 0);
    oct_controller_observe_step(controller, 1, 5);
    oct_step_cost costs[OCT_COST_POINTS];
    assert_int_equal(oct_controller_read_costs(controller, costs), 0);
    oct_controller_destroy(controller);

    controller = make(SEQUENCES, DRAFTS, seconds, POINTS);
    const double by_columns[] = {3, 4, 5, 6, 6, 6, 6, 6, 6};
    for (int32_t i = 0; i < 9; i++)
        expect_near(oct_controller_step_cost(controller, 1 + i), by_columns[i], 1e-9);
    oct_controller_measured(controller, 2, 4.5); // the shortest counts
    oct_controller_measured(controller, 2, 9);
    expect_near(oct_controller_step_cost(controller, 3), 4.25, 1e-9);
    expect_near(oct_controller_step_cost(controller, 12), 5.5, 1e-9); // on along the last line
    assert_int_equal(oct_controller_read_costs(controller, costs), 4);
    assert_int_equal(costs[3].columns, 8);
    expect_near(costs[3].seconds, 5, 1e-9);
    oct_controller_destroy(controller);
}

// The most expected tokens a second of all ways to choose.
static double search(const oct_controller *controller, int32_t columns, int32_t room, const oct_proposal *proposals,
                     int32_t at, int32_t taken, double tokens)
{
    if (at == SEQUENCES)
        return tokens / oct_controller_step_cost(controller, columns + taken);
    double likely = 1, best = 0;
    for (int32_t chosen = 0; chosen <= proposals[at].count && taken + chosen <= room; chosen++) {
        if (chosen > 0) {
            likely *= oct_controller_probability(controller, &proposals[at].drafts[chosen - 1]);
            tokens += likely;
        }
        const double rate = search(controller, columns, room, proposals, at + 1, taken + chosen, tokens);
        best = rate > best ? rate : best;
    }
    return best;
}

static double rate_of(const oct_controller *controller, int32_t columns, int32_t room, const oct_proposal *proposals)
{
    int32_t taken = 0;
    double tokens = columns;
    for (int32_t i = 0; i < SEQUENCES; i++) {
        double likely = 1;
        assert_true(proposals[i].chosen >= 0 && proposals[i].chosen <= proposals[i].count);
        for (int32_t draft = 0; draft < proposals[i].chosen; draft++) {
            likely *= oct_controller_probability(controller, &proposals[i].drafts[draft]);
            tokens += likely;
        }
        taken += proposals[i].chosen;
    }
    assert_true(taken <= room);
    return tokens / oct_controller_step_cost(controller, columns + taken);
}

// Costs that rise evenly, in stairs, or not at all; drafts that are likely, unlikely, missing.
static void finds_the_best_choice(void **state)
{
    (void)state;
    int32_t none = 0, all = 0;
    for (int32_t trial = 0; trial < 3000; trial++) {
        double seconds[POINTS], now = 1;
        oct_draft drafts[SEQUENCES][DRAFTS];
        oct_proposal proposals[SEQUENCES];
        for (int32_t i = 0; i < POINTS; i++)
            seconds[i] = now += random_part() < 0.3f ? 0 : random_part() * 2;
        oct_controller *controller = make(SEQUENCES, DRAFTS, seconds, POINTS);
        for (int32_t i = 0; i < SEQUENCES; i++) {
            const float about = random_part();
            proposals[i] = (oct_proposal){.drafts = drafts[i], .count = (int32_t)(random_part() * (DRAFTS + 0.99f))};
            for (int32_t draft = 0; draft < DRAFTS; draft++)
                drafts[i][draft] = (oct_draft){.probability = (about + random_part()) / 2};
        }
        const int32_t room = trial % 4 == 0 ? 3 : SEQUENCES * DRAFTS;
        oct_controller_choose(controller, SEQUENCES, room, proposals, SEQUENCES);
        expect_near(rate_of(controller, SEQUENCES, room, proposals),
                    search(controller, SEQUENCES, room, proposals, 0, 0, SEQUENCES), 1e-12);
        int32_t chosen = 0, proposed = 0;
        for (int32_t i = 0; i < SEQUENCES; i++) {
            chosen += proposals[i].chosen;
            proposed += proposals[i].count;
        }
        none += proposed > 0 && chosen == 0;
        all += proposed > 0 && chosen == proposed;
        oct_controller_destroy(controller);
    }
    assert_true(none > 30 && all > 30); // or the trials show little
}

static void known_choices(void **state)
{
    (void)state;
    const double even[] = {1, 2, 4, 8, 15}, free_of_charge[] = {1, 1, 1, 1, 1}, stairs[] = {1, 1.8, 1.8, 9, 20};
    const oct_draft sure[DRAFTS] = {{1, 0.9f, 0, 0}, {2, 0.9f, 0, 0}, {3, 0.9f, 0, 0}, {4, 0.9f, 0, 0}};
    oct_proposal one = {.drafts = sure, .count = DRAFTS};
    oct_controller *controller = make(SEQUENCES, DRAFTS, even, POINTS); // a column costs as much as a token is worth
    oct_controller_choose(controller, 1, 12, &one, 1);
    assert_int_equal(one.chosen, 0);
    oct_controller_destroy(controller);
    controller = make(SEQUENCES, DRAFTS, free_of_charge, POINTS);
    oct_controller_choose(controller, 1, 12, &one, 1);
    assert_int_equal(one.chosen, DRAFTS);
    oct_controller_choose(controller, 1, 0, &one, 1);
    assert_int_equal(one.chosen, 0);
    oct_controller_destroy(controller);
    controller = make(SEQUENCES, DRAFTS, stairs, POINTS); // 1.9 / 1.8 and 2.71 / 1.8 and 3.439 / 1.8, then no more
    oct_controller_choose(controller, 1, 12, &one, 1);
    assert_int_equal(one.chosen, 3);
    oct_controller_destroy(controller);
    // Beside a prompt of many tokens a column must be worth more than one of those.
    const double prompts[] = {3, 3.3, 3.6, 4, 8};
    controller = make(SEQUENCES, DRAFTS, prompts, POINTS);
    oct_controller_choose(controller, 1, 12, &one, 1);
    assert_int_equal(one.chosen, DRAFTS);
    const oct_draft doubtful[1] = {{1, 0.5f, 0, 0}};
    one = (oct_proposal){.drafts = doubtful, .count = 1};
    oct_controller_choose(controller, 1, 12, &one, 1);
    assert_int_equal(one.chosen, 1);
    oct_controller_choose(controller, 9, 12, &one, 1);
    assert_int_equal(one.chosen, 0);
    oct_controller_destroy(controller);
}

static void acceptance_is_learnt(void **state)
{
    (void)state;
    oct_controller *controller = make(1, 1, NULL, 0);
    const oct_draft optimistic = {.probability = 0.22f, .source = OCT_DRAFT_SUFFIX_ALL, .match = 1},
                    modest = {.probability = 0.6f, .source = OCT_DRAFT_SUFFIX_OWN, .match = 9},
                    other = {.probability = 0.22f, .source = OCT_DRAFT_SUFFIX_ALL, .match = 2};
    expect_near(oct_controller_probability(controller, &optimistic), 0.22, 1e-6); // believed at first
    for (int32_t i = 0; i < 2000; i++) {
        oct_controller_observe_draft(controller, &optimistic, random_part() < 0.1f);
        oct_controller_observe_draft(controller, &modest, random_part() < 0.9f);
    }
    expect_near(oct_controller_probability(controller, &optimistic), 0.1, 0.35);
    expect_near(oct_controller_probability(controller, &modest), 0.9, 0.1);
    expect_near(oct_controller_probability(controller, &other), 0.22, 1e-6); // another length, another tale
    const oct_draft longer = {.probability = 0.6f, .source = OCT_DRAFT_SUFFIX_OWN, .match = 15};
    expect_near(oct_controller_probability(controller, &longer), 0.9, 0.1);
    const oct_draft sure = {.probability = 0.9f, .source = OCT_DRAFT_SUFFIX_OWN, .match = 9};
    assert_true(oct_controller_probability(controller, &sure) <= 1);
    for (int32_t i = 0; i < 600; i++) // the text has changed
        oct_controller_observe_draft(controller, &optimistic, true);
    assert_true(oct_controller_probability(controller, &optimistic) > 0.7);
    oct_controller_destroy(controller);
}

static void costs_are_kept_up_to_date(void **state)
{
    (void)state;
    const double seconds[] = {4, 5, 6, 8, 12};
    oct_controller *controller = make(SEQUENCES, DRAFTS, seconds, POINTS);
    oct_controller_observe_step(controller, 1, 4000); // a step that stood still moves them little
    assert_true(oct_controller_step_cost(controller, 1) < 4.6);
    for (int32_t i = 0; i < 100; i++) // all is slower, which only steps of one column show: the others move along
        oct_controller_observe_step(controller, 1, 6);
    expect_near(oct_controller_step_cost(controller, 1), 6, 0.01);
    expect_near(oct_controller_step_cost(controller, 8), 12, 0.1);
    for (int32_t i = 0; i < 1500; i++) { // columns cost more than measured
        oct_controller_observe_step(controller, 1, 4);
        oct_controller_observe_step(controller, 6, 16);
    }
    expect_near(oct_controller_step_cost(controller, 1), 4, 0.15);
    expect_near(oct_controller_step_cost(controller, 6), 16, 0.15);
    assert_true(oct_controller_step_cost(controller, 5) >= oct_controller_step_cost(controller, 4));
    oct_controller_destroy(controller);

    // What was not measured becomes known by use.
    const double two[] = {4, 4.5, 0, 0, 0};
    controller = make(SEQUENCES, DRAFTS, two, POINTS);
    oct_step_cost costs[OCT_COST_POINTS];
    for (int32_t i = 0; i < 2000; i++) {
        oct_controller_observe_step(controller, 1, 4);
        oct_controller_observe_step(controller, 8, 20);
    }
    assert_int_equal(oct_controller_read_costs(controller, costs), 3);
    assert_int_equal(costs[2].columns, 8);
    expect_near(costs[2].seconds, 20, 0.15);
    oct_controller_destroy(controller);
}

// Of a step of one sequence with drafts that are surely right; `column_s` is what each column adds. Counts the steps with
// drafts among `steps`.
static int32_t steps_with_drafts(oct_controller *controller, int32_t steps, double column_s)
{
    const oct_draft sure[7] = {{1, 0.95f, 0, 9}, {2, 0.95f, 0, 9}, {3, 0.95f, 0, 9}, {4, 0.95f, 0, 9},
                               {5, 0.95f, 0, 9}, {6, 0.95f, 0, 9}, {7, 0.95f, 0, 9}};
    oct_proposal proposal = {.drafts = sure, .count = 7};
    int32_t with = 0;
    for (int32_t i = 0; i < steps; i++) {
        oct_controller_choose(controller, 1, 7, &proposal, 1);
        with += proposal.chosen > 0;
        oct_controller_observe_step(controller, 1 + proposal.chosen, 1 + column_s * proposal.chosen);
    }
    return with;
}

static void a_disturbed_measurement_is_found_out(void **state)
{
    (void)state;
    const double disturbed[] = {1, 6}; // two columns once took six times as long, and no more was measured
    oct_controller *controller = make(1, 7, disturbed, 2);
    assert_int_equal(steps_with_drafts(controller, 15, 0.1), 0);
    assert_int_equal(steps_with_drafts(controller, 1, 0.1), 1);
    assert_int_equal(steps_with_drafts(controller, 100, 0.1), 100);
    expect_near(oct_controller_step_cost(controller, 8), 1.7, 0.05);
    expect_near(oct_controller_step_cost(controller, 1), 1, 0.05);
    oct_controller_destroy(controller);

    // What is too dear indeed is tried ever more rarely: after 16, 32, 64, … steps.
    controller = make(1, 7, disturbed, 2);
    assert_int_equal(steps_with_drafts(controller, 10000, 6), 6 + (10000 - 1008) / 1024);
    expect_near(oct_controller_step_cost(controller, 1), 1, 0.05);
    oct_controller_destroy(controller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costs_between_points),     cmocka_unit_test(finds_the_best_choice),
        cmocka_unit_test(known_choices),            cmocka_unit_test(acceptance_is_learnt),
        cmocka_unit_test(costs_are_kept_up_to_date),
        cmocka_unit_test(a_disturbed_measurement_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
