// What steps take, measured before the first request: short steps of a sequence that nobody asked for.
#include "ranks/coordinator_state.h"

#include <assert.h>

#include "runtime/progress.h"

enum { ROUNDS = 4 };

static const double budget_s = 0.1;

// One step of so many columns behind nothing.
static oct_status time_step(oct_coordinator *c, int32_t columns, double *seconds)
{
    const int32_t vocabulary = oct_engine_model(c->engine)->vocabulary;
    for (int32_t i = 0; i < columns; i++)
        c->columns[i] = (oct_control_column){.token = i % vocabulary, .want = OCT_WANT_TOKEN};
    const int64_t begin = oct_now_ns();
    const oct_status status = oct_engine_step(c->engine, c->columns, columns, c->choices, NULL, NULL);
    *seconds = (double)(oct_now_ns() - begin) * 1e-9;
    oct_engine_truncate(c->engine, 0, 0);
    return status;
}

// In rounds over the points, each time as far as the budget lasts; a point that has not been measured is expected to
// take twice as long as the one before it. Of several rounds the least disturbed counts. The first step of all brings
// everything near, and does not.
oct_status oct_coordinator_measure_costs(oct_coordinator *c)
{
    assert(oct_coordinator_is_idle(c));
    oct_controller *controller = c->options.controller;
    const oct_sampling greedy = oct_sampling_default();
    int32_t points[OCT_COST_POINTS];
    double took[OCT_COST_POINTS] = {0}, spent = 0;
    if (controller == NULL)
        return OCT_OK;
    const int32_t count = oct_controller_points(controller, points);
    oct_status status = oct_engine_begin_sequence(c->engine, 0, &greedy, NULL, 0, 0);
    if (status == OCT_OK)
        status = time_step(c, 1, &spent);
    for (int32_t round = 0; round < ROUNDS; round++) {
        for (int32_t i = 0; status == OCT_OK && i < count && points[i] <= c->context; i++) {
            const double expected = took[i] > 0 || i == 0 ? took[i] : 2 * took[i - 1];
            if ((round > 0 || i > 1) && spent + expected > budget_s)
                break;
            status = time_step(c, points[i], &took[i]);
            if (status == OCT_OK)
                oct_controller_measured(controller, i, took[i]);
            spent += took[i];
        }
    }
    return status;
}
