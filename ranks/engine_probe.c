// Measuring: how fast the ranks can read memory, and how long the bytes of a step take when nothing is
// computed with them.
#include <string.h>

#include "ranks/engine_state.h"

enum { PROBE_PASSES = 3, PROBE_LIMIT_BYTES = 1 << 30 };

// Enough to leave every cache behind, little enough to be over soon.
size_t oct_engine_probe_bytes(const oct_engine *engine)
{
    const size_t step = (size_t)engine->backend->kind->step_bytes(engine->backend, 1, 0);
    return step < PROBE_LIMIT_BYTES ? step : PROBE_LIMIT_BYTES;
}

// When a rank began to read and when it had read everything.
typedef struct touch_times {
    int64_t begin_ns, end_ns;
} touch_times;

// From the first begin to the last end, by one clock on one host; ranks that share a core take turns, so that no
// rank's own time would do. Between hosts the clocks differ: the longest time of any rank.
static double touch_seconds(const oct_engine *engine)
{
    int64_t begin = INT64_MAX, end = 0, longest = 0;
    for (int32_t rank = 0; rank < engine->world->size; rank++) {
        const touch_times *times = engine->exchange.peer(engine->exchange.context, 0, rank);
        begin = times->begin_ns < begin ? times->begin_ns : begin;
        end = times->end_ns > end ? times->end_ns : end;
        longest = times->end_ns - times->begin_ns > longest ? times->end_ns - times->begin_ns : longest;
    }
    return (double)(engine->world->host_count == 1 ? end - begin : longest) * 1e-9;
}

// All ranks read at the same time, from one round of the exchange to the next; every rank gets the same seconds.
static oct_status touch_once(oct_engine *engine, size_t weight_bytes, int64_t positions, int32_t way,
                             double *seconds)
{
    size_t bytes_of_rank[OCT_MAX_RANKS] = {0};
    oct_status status = engine->exchange.round(engine->exchange.context, bytes_of_rank);
    if (status != OCT_OK)
        return status;
    touch_times times = {.begin_ns = oct_now_ns()};
    const oct_status touched = engine->backend->kind->touch(engine->backend, weight_bytes, positions, way);
    times.end_ns = oct_now_ns();
    memcpy(engine->exchange.slot(engine->exchange.context, 0), &times, sizeof times);
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        bytes_of_rank[rank] = sizeof times;
    status = engine->exchange.round(engine->exchange.context, bytes_of_rank);
    if (status == OCT_OK)
        status = touched;
    if (status == OCT_OK)
        *seconds = touch_seconds(engine);
    return status;
}

oct_status oct_engine_run_probe(oct_engine *engine, double *bytes_per_s)
{
    double best = 0;
    oct_progress_phase(OCT_PHASE_DECODE); // under its deadline
    for (int pass = 0; pass < OCT_TOUCH_WAYS * PROBE_PASSES; pass++) {
        const int32_t way = pass % OCT_TOUCH_WAYS;
        double seconds = 0;
        const oct_status status = touch_once(engine, oct_engine_probe_bytes(engine), 0, way, &seconds);
        if (status != OCT_OK)
            return status;
        const double rate = seconds > 0 ? (double)engine->probe_bytes / seconds : 0;
        if (rate > best) {
            best = rate;
            engine->touch_way = way;
        }
    }
    *bytes_per_s = best;
    oct_progress_phase(OCT_PHASE_IDLE); // rank 0 may read a prompt now, for as long as it takes
    return OCT_OK;
}

oct_status oct_engine_run_touch(oct_engine *engine, int64_t positions, double *seconds)
{
    return touch_once(engine, SIZE_MAX, positions, engine->touch_way, seconds);
}

oct_status oct_engine_probe_bandwidth(oct_engine *engine, double *bytes_per_s)
{
    const oct_status status = oct_control_send(engine->control, OCT_CONTROL_PROBE, NULL, 0);
    return status != OCT_OK ? status : oct_engine_run_probe(engine, bytes_per_s);
}

oct_status oct_engine_touch(oct_engine *engine, int64_t positions, double *seconds)
{
    const oct_status status = oct_control_send(engine->control, OCT_CONTROL_TOUCH, &positions, sizeof positions);
    return status != OCT_OK ? status : oct_engine_run_touch(engine, positions, seconds);
}

void oct_engine_time_operations(oct_engine *engine, oct_operation_times *times)
{
    engine->times = times;
    engine->backend->kind->time_operations(engine->backend, times);
}
