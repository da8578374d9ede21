// The engine at work: the steps that rank 0 drives, and the loop of the other ranks.
#include "ranks/engine_state.h"

#include <string.h>

#include "runtime/fault.h"

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

static oct_status follow(oct_engine *engine, oct_control_kind kind, const void *payload)
{
    const oct_control_step *step = payload;
    oct_decision decided;
    double measured;
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
        return oct_engine_run_probe(engine, &measured);
    case OCT_CONTROL_TOUCH:
        return oct_engine_run_touch(engine, *(const int64_t *)payload, &measured);
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

static oct_status choose_timed(oct_engine *engine, oct_choice *choice)
{
    const int64_t begin = oct_now_ns();
    const oct_status status = choose(engine, choice);
    if (engine->times != NULL)
        engine->times->sampling_ns += (uint64_t)(oct_now_ns() - begin);
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
            status = choose_timed(engine, choice);
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
