// The engine at work: the steps that rank 0 drives, and the loop of the other ranks.
#include "ranks/engine_state.h"

#include <string.h>

#include "runtime/bandwidth.h"
#include "runtime/fault.h"

enum { PROBE_PASSES = 3, PROBE_LIMIT_BYTES = 1 << 30 };

static oct_status set_sequence(oct_engine *engine, const oct_sampling *sampling)
{
    engine->sampling = *sampling;
    engine->length = 0;
    oct_history_reset(&engine->history);
    oct_page_table_truncate(&engine->page_table, 0, 0);
    return OCT_OK;
}

static oct_status remember(oct_engine *engine, const oct_control_step *step)
{
    if (!oct_sampling_needs_history(&engine->sampling))
        return OCT_OK;
    return step->prompt ? oct_history_append_prompt(&engine->history, step->tokens, step->columns)
                        : oct_history_append_output(&engine->history, step->tokens, step->columns);
}

oct_status oct_engine_run_step(oct_engine *engine, const oct_control_step *step)
{
    const oct_phase phase = step->prompt ? OCT_PHASE_PREFILL : OCT_PHASE_DECODE;
    oct_progress_phase(phase);
    oct_progress_step(step->position);
    oct_status status = oct_fault_point(phase);
    if (status == OCT_OK)
        status = remember(engine, step);
    if (status == OCT_OK)
        status = oct_page_table_reserve(&engine->page_table, 0, (int64_t)step->position + step->columns);
    if (status != OCT_OK)
        return status;
    const int32_t last = step->columns - 1;
    for (int32_t column = 0; column < step->columns; column++)
        engine->positions[column] = step->position + column;
    const oct_step work = {
        .columns = step->columns,
        .tokens = step->tokens,
        .positions = engine->positions,
        .pages = engine->pages,
        .logit_columns = step->want == OCT_WANT_LOGITS  ? step->columns
                         : step->want == OCT_WANT_TOKEN ? 1
                                                        : 0,
        .logit_column = step->want == OCT_WANT_LOGITS ? engine->all_columns : &engine->all_columns[last],
    };
    engine->length = step->position + step->columns;
    status = oct_backend_step(engine->backend, &work, &engine->residual_hash);
    oct_backend_exchange_time(engine->backend, &engine->figures.exchange_ns,
                              &engine->figures.exchange_rounds);
    return status;
}

// Enough to leave every cache behind, little enough to be over soon.
size_t oct_engine_probe_bytes(const oct_engine *engine)
{
    return engine->shard.bytes < PROBE_LIMIT_BYTES ? engine->shard.bytes : PROBE_LIMIT_BYTES;
}

// The threads that load inherit this one's mask: the rank's own processors, so that its pages are placed near
// them.
typedef struct probe_work {
    const uint8_t *data;
    size_t bytes;
} probe_work;

static void probe_part(void *context, int32_t thread, int32_t threads)
{
    const probe_work *work = context;
    const size_t begin = work->bytes / 64 * (size_t)thread / (size_t)threads * 64;
    const size_t end = work->bytes / 64 * (size_t)(thread + 1) / (size_t)threads * 64;
    static _Thread_local volatile uint64_t sink;
    sink = oct_read_touch(work->data + begin, end - begin);
    (void)sink;
}

// When a rank began to read and when it had read everything.
typedef struct probe_times {
    int64_t begin_ns, end_ns;
} probe_times;

// From the first begin to the last end, by one clock on one host; ranks that share a core take turns, so that no
// rank's own time would do. Between hosts the clocks differ: the longest time of any rank.
static double probe_seconds(const oct_engine *engine)
{
    int64_t begin = INT64_MAX, end = 0, longest = 0;
    for (int32_t rank = 0; rank < engine->world->size; rank++) {
        const probe_times *times = engine->exchange.peer(engine->exchange.context, 0, rank);
        begin = times->begin_ns < begin ? times->begin_ns : begin;
        end = times->end_ns > end ? times->end_ns : end;
        longest = times->end_ns - times->begin_ns > longest ? times->end_ns - times->begin_ns : longest;
    }
    return (double)(engine->world->host_count == 1 ? end - begin : longest) * 1e-9;
}

// All ranks read at the same time, from one round of the exchange to the next.
static oct_status probe_once(oct_engine *engine, probe_work *work, double *seconds)
{
    size_t bytes_of_rank[OCT_MAX_RANKS] = {0};
    oct_status status = engine->exchange.round(engine->exchange.context, bytes_of_rank);
    if (status != OCT_OK)
        return status;
    probe_times times = {.begin_ns = oct_now_ns()};
    oct_backend_run(engine->backend, probe_part, work);
    times.end_ns = oct_now_ns();
    memcpy(engine->exchange.slot(engine->exchange.context, 0), &times, sizeof times);
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        bytes_of_rank[rank] = sizeof times;
    status = engine->exchange.round(engine->exchange.context, bytes_of_rank);
    if (status == OCT_OK)
        *seconds = probe_seconds(engine);
    return status;
}

static oct_status probe(oct_engine *engine, double *bytes_per_s)
{
    probe_work work;
    size_t mapped;
    work.data = oct_backend_weights(engine->backend, &mapped);
    work.bytes = oct_engine_probe_bytes(engine);
    double best = 0;
    oct_progress_phase(OCT_PHASE_DECODE); // under its deadline
    for (int pass = 0; pass < PROBE_PASSES; pass++) {
        double seconds = 0;
        const oct_status status = probe_once(engine, &work, &seconds);
        if (status != OCT_OK)
            return status;
        const double rate = seconds > 0 ? (double)engine->probe_bytes / seconds : 0;
        best = rate > best ? rate : best;
    }
    *bytes_per_s = best;
    oct_progress_phase(OCT_PHASE_IDLE); // rank 0 may read a prompt now, for as long as it takes
    return OCT_OK;
}

static oct_status follow(oct_engine *engine, oct_control_kind kind, const void *payload)
{
    const oct_control_step *step = payload;
    oct_decision decided;
    double bytes_per_s;
    oct_status status = OCT_OK;
    switch (kind) {
    case OCT_CONTROL_SEQUENCE:
        return set_sequence(engine, payload);
    case OCT_CONTROL_STEP:
        status = oct_engine_run_step(engine, step);
        if (status == OCT_OK && step->want == OCT_WANT_TOKEN)
            status = oct_engine_sample(engine, NULL, &decided);
        if (status == OCT_OK && step->want == OCT_WANT_LOGITS)
            status = oct_engine_gather(engine, step->columns, step->position, NULL, NULL);
        return status;
    case OCT_CONTROL_LOGITS:
        return oct_engine_gather(engine, 1, engine->length - 1, NULL, NULL);
    case OCT_CONTROL_PROBE:
        return probe(engine, &bytes_per_s);
    case OCT_CONTROL_IDLE:
        oct_progress_phase(OCT_PHASE_IDLE);
        return OCT_OK;
    case OCT_CONTROL_PASS:
    case OCT_CONTROL_FINISH:
        break;
    }
    return OCT_OK;
}

oct_status oct_engine_serve(oct_engine *engine, bool *finished)
{
    for (;;) {
        oct_control_kind kind = OCT_CONTROL_IDLE;
        const void *payload;
        size_t bytes;
        oct_status status = oct_control_receive(engine->control, &kind, &payload, &bytes);
        *finished = kind == OCT_CONTROL_FINISH;
        if (status == OCT_OK && (kind == OCT_CONTROL_FINISH || kind == OCT_CONTROL_PASS))
            return OCT_OK;
        if (status == OCT_OK)
            status = follow(engine, kind, payload);
        if (status != OCT_OK)
            return status;
    }
}

oct_status oct_engine_begin_sequence(oct_engine *engine, const oct_sampling *sampling)
{
    const oct_status status =
        oct_control_send(engine->control, OCT_CONTROL_SEQUENCE, sampling, sizeof *sampling);
    return status != OCT_OK ? status : set_sequence(engine, sampling);
}

static void keep_logits(void *context, int32_t position, const float *logits)
{
    (void)context;
    (void)position;
    (void)logits; // they stay in engine->gathered
}

static oct_status choose(oct_engine *engine, oct_choice *choice)
{
    oct_decision decided;
    oct_status status = oct_engine_sample(engine, choice, &decided);
    if (status != OCT_OK || decided == OCT_DECIDED)
        return status;
    status = oct_control_send(engine->control, OCT_CONTROL_LOGITS, NULL, 0);
    if (status == OCT_OK)
        status = oct_engine_gather(engine, 1, engine->length - 1, keep_logits, NULL);
    if (status == OCT_OK)
        oct_sampling_decide_full(&engine->sampling, (uint64_t)engine->length, engine->gathered,
                                 engine->shard.program.model.vocabulary, engine->scratch, choice);
    return status;
}

oct_status oct_engine_forward(oct_engine *engine, const int32_t *tokens, int32_t count, bool prompt,
                              oct_want want, oct_choice *choice, oct_receive_logits receive, void *context)
{
    for (int32_t done = 0; done < count;) {
        oct_control_step *step = engine->descriptor;
        step->columns =
            count - done < engine->figures.prefill_chunk ? count - done : engine->figures.prefill_chunk;
        step->position = engine->length;
        step->prompt = prompt;
        const bool last = done + step->columns == count;
        step->want = want == OCT_WANT_TOKEN && !last ? OCT_WANT_NOTHING : want;
        memcpy(step->tokens, tokens + done, (size_t)step->columns * sizeof *tokens);
        oct_status status = oct_control_send(engine->control, OCT_CONTROL_STEP, step,
                                             sizeof *step + (size_t)step->columns * sizeof *tokens);
        if (status == OCT_OK)
            status = oct_engine_run_step(engine, step);
        if (status == OCT_OK && step->want == OCT_WANT_TOKEN)
            status = choose(engine, choice);
        if (status == OCT_OK && step->want == OCT_WANT_LOGITS)
            status = oct_engine_gather(engine, step->columns, step->position, receive, context);
        if (status != OCT_OK) {
            engine->broken = true;
            return status;
        }
        done += step->columns;
    }
    if (want == OCT_WANT_TOKEN && engine->not_numbers)
        return oct_fail(OCT_ERR_FILE,
                        "the logits behind position %d are NaN or infinite, expected numbers: the weights "
                        "are damaged or overflow; see `octet inspect --verify`, or import the model again",
                        engine->length - 1);
    return OCT_OK;
}

oct_status oct_engine_probe_bandwidth(oct_engine *engine, double *bytes_per_s)
{
    const oct_status status = oct_control_send(engine->control, OCT_CONTROL_PROBE, NULL, 0);
    return status != OCT_OK ? status : probe(engine, bytes_per_s);
}

oct_status oct_engine_idle(oct_engine *engine)
{
    oct_progress_phase(OCT_PHASE_IDLE);
    return oct_control_send(engine->control, OCT_CONTROL_IDLE, NULL, 0);
}

oct_status oct_engine_pass(oct_engine *engine)
{
    return oct_control_send(engine->control, OCT_CONTROL_PASS, NULL, 0);
}

oct_status oct_engine_finish(oct_engine *engine)
{
    oct_progress_phase(OCT_PHASE_FINISH);
    return oct_control_send(engine->control, OCT_CONTROL_FINISH, NULL, 0);
}
