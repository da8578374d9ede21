// The engine at work: the steps that rank 0 drives, and the loop of the other ranks.
#include "ranks/engine_state.h"

#include <assert.h>
#include <string.h>

#include "runtime/fault.h"

// A sequence that is over: whole pages of what it was begun with and of its output can be shared from now on (those of
// the former already could). Wrong drafts at its end do no harm: a page is found by its tokens.
static void end_sequence(oct_engine *engine, int32_t at)
{
    const oct_engine_slot *slot = &engine->slots[at];
    if (slot->begun_count > 0)
        oct_page_table_seal(&engine->page_table, at, slot->tokens, slot->length);
}

static void cut_sequence(oct_engine *engine, const oct_control_cut *cut)
{
    oct_engine_slot *slot = &engine->slots[cut->slot];
    if (cut->length >= slot->length)
        return;
    if (cut->length == 0)
        end_sequence(engine, cut->slot);
    slot->length = cut->length;
    oct_history_truncate(&slot->history, cut->length);
    oct_page_table_truncate(&engine->page_table, cut->slot, cut->length);
}

static oct_status set_sequence(oct_engine *engine, const oct_control_sequence *begun)
{
    oct_engine_slot *slot = &engine->slots[begun->slot];
    cut_sequence(engine, &(oct_control_cut){.slot = begun->slot, .length = 0});
    slot->sampling = begun->sampling;
    slot->begun_count = begun->count;
    memcpy(slot->tokens, begun->tokens, (size_t)begun->count * sizeof *slot->tokens);
    oct_history_reset(&slot->history);
    // The last token is computed in any case: what follows it is wanted.
    slot->length = oct_page_table_share(&engine->page_table, begun->slot, slot->tokens, begun->count - 1);
    if (!oct_sampling_needs_history(&slot->sampling))
        return OCT_OK;
    const int32_t prompt = slot->length < begun->prompt_count ? slot->length : begun->prompt_count;
    const oct_status status = oct_history_append_prompt(&slot->history, slot->tokens, prompt);
    return status != OCT_OK
               ? status
               : oct_history_append_output(&slot->history, slot->tokens + prompt, slot->length - prompt);
}

// Puts a column behind its sequence, and into the step.
static oct_status add_column(oct_engine *engine, const oct_control_column *column)
{
    oct_engine_slot *slot = &engine->slots[column->slot];
    oct_step *step = &engine->step;
    oct_status status = OCT_OK;
    if (slot->length < slot->begun_count && column->token != slot->tokens[slot->length])
        status = oct_fail(OCT_ERR_INTERNAL, "token %d at position %d of a sequence that was begun with %d there",
                          column->token, slot->length, slot->tokens[slot->length]);
    else if (slot->length >= engine->figures.context || column->token < 0 ||
             column->token >= engine->shard.program.model.vocabulary)
        status = oct_fail(OCT_ERR_INTERNAL, "token %d at position %d: the vocabulary has %d, the context %d",
                          column->token, slot->length, engine->shard.program.model.vocabulary, engine->figures.context);
    if (status == OCT_OK)
        status = oct_page_table_reserve(&engine->page_table, column->slot, (int64_t)slot->length + 1);
    if (status == OCT_OK && oct_sampling_needs_history(&slot->sampling))
        status = column->prompt ? oct_history_append_prompt(&slot->history, &column->token, 1)
                                : oct_history_append_output(&slot->history, &column->token, 1);
    if (status != OCT_OK)
        return status;
    const int32_t at = step->columns++;
    engine->tokens[at] = column->token;
    slot->tokens[slot->length] = column->token;
    engine->positions[at] = slot->length++;
    engine->pages[at] = oct_page_table_slot(&engine->page_table, column->slot);
    if (column->want == OCT_WANT_NOTHING)
        return OCT_OK;
    if (step->logit_columns == engine->figures.logit_columns)
        return oct_fail(OCT_ERR_INTERNAL, "more than %d columns of a step want tokens or logits",
                        engine->figures.logit_columns);
    engine->samplings[step->logit_columns] =
        (oct_column_sampling){.sampling = column->want == OCT_WANT_TOKEN ? &slot->sampling : NULL,
                              .history = &slot->history,
                              .history_length = slot->history.length,
                              .position = (uint64_t)slot->length};
    engine->logit_column[step->logit_columns++] = at;
    return OCT_OK;
}

// From now on others may share the pages that the step has filled with tokens that nobody takes back.
static void seal_pages(oct_engine *engine, const oct_control_step *asked)
{
    for (int32_t i = 0; i < asked->count; i++) {
        const int32_t at = asked->columns[i].slot;
        const oct_engine_slot *slot = &engine->slots[at];
        oct_page_table_seal(&engine->page_table, at, slot->tokens,
                            slot->length < slot->begun_count ? slot->length : slot->begun_count);
    }
}

// What every rank does for a step that rank 0 has described, up to its logits.
static oct_status run_step(oct_engine *engine, const oct_control_step *asked)
{
    const oct_phase phase = asked->columns[0].prompt ? OCT_PHASE_PREFILL : OCT_PHASE_DECODE;
    oct_progress_phase(phase);
    oct_progress_step(engine->slots[asked->columns[0].slot].length);
    oct_status status = oct_fault_point(phase);
    engine->step = (oct_step){.tokens = engine->tokens,
                              .positions = engine->positions,
                              .pages = engine->pages,
                              .logit_column = engine->logit_column,
                              .samplings = engine->samplings};
    for (int32_t i = 0; status == OCT_OK && i < asked->count; i++)
        status = add_column(engine, &asked->columns[i]);
    if (status != OCT_OK)
        return status;
    status = engine->backend->kind->step(engine->backend, &engine->step, &engine->residual_hash);
    engine->backend->kind->exchange_time(engine->backend, &engine->figures.exchange_ns,
                                         &engine->figures.exchange_rounds);
    if (status == OCT_OK)
        seal_pages(engine, asked);
    return status;
}

// Rank 0 asks for logits of the last step, which only the engine knows.
static oct_status gather_asked(oct_engine *engine, int32_t column)
{
    if (column >= engine->step.logit_columns)
        return oct_fail(OCT_ERR_INTERNAL, "the logits of column %d are asked for, the last step has %d", column,
                        engine->step.logit_columns);
    return oct_engine_gather(engine, column);
}

static void follow_cuts(oct_engine *engine, const oct_control_cut *cuts, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        cut_sequence(engine, &cuts[i]);
}

static oct_status follow_sequence(oct_engine *engine, const oct_control_sequence *begun)
{
    follow_cuts(engine, oct_control_sequence_cuts(begun), begun->cut_count);
    return set_sequence(engine, begun);
}

static oct_status follow_step(oct_engine *engine, const oct_control_step *step)
{
    follow_cuts(engine, oct_control_step_cuts(step), step->cut_count);
    const oct_status status = run_step(engine, step);
    return status != OCT_OK ? status : oct_engine_take_results(engine, NULL, NULL, NULL);
}

static oct_status follow(oct_engine *engine, oct_control_kind kind, const void *payload)
{
    double measured;
    switch (kind) {
    case OCT_CONTROL_SEQUENCE:
        return follow_sequence(engine, payload);
    case OCT_CONTROL_STEP:
        return follow_step(engine, payload);
    case OCT_CONTROL_LOGITS:
        return gather_asked(engine, *(const int32_t *)payload);
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

// Moves the cuts that wait into a message.
static int32_t send_cuts(oct_engine *engine, oct_control_cut *out)
{
    const int32_t count = engine->cut_count;
    memcpy(out, engine->cuts, (size_t)count * sizeof *out);
    engine->cut_count = 0;
    return count;
}

oct_status oct_engine_begin_sequence(oct_engine *engine, int32_t slot, const oct_sampling *sampling,
                                     const int32_t *tokens, int32_t count, int32_t prompt_count)
{
    assert(slot >= 0 && slot < engine->figures.slots);
    assert(count >= 0 && count <= engine->figures.context && prompt_count >= 0 && prompt_count <= count);
    oct_control_sequence *begun = engine->beginning;
    *begun = (oct_control_sequence){
        .slot = slot, .count = count, .prompt_count = prompt_count, .sampling = *sampling};
    if (count > 0)
        memcpy(begun->tokens, tokens, (size_t)count * sizeof *tokens);
    begun->cut_count = send_cuts(engine, oct_control_sequence_cuts(begun));
    const oct_status status = oct_control_send(engine->control, OCT_CONTROL_SEQUENCE, begun,
                                               oct_control_sequence_bytes(count, begun->cut_count));
    return status != OCT_OK ? status : set_sequence(engine, begun);
}

int32_t oct_engine_free_pages(const oct_engine *engine)
{
    return oct_page_table_available(&engine->page_table);
}

int32_t oct_engine_pages_wanted(const oct_engine *engine, const int32_t *tokens, int32_t count)
{
    return oct_page_count(count) - oct_page_table_held(&engine->page_table, tokens, count - 1);
}

// Pages that a step of these columns takes.
static int32_t pages_of_step(oct_engine *engine, const oct_control_column *columns, int32_t count)
{
    int32_t pages = 0;
    for (int32_t i = 0; i < count; i++) {
        oct_engine_slot *slot = &engine->slots[columns[i].slot];
        pages += (slot->length + slot->ahead++) % OCT_PAGE_POSITIONS == 0; // the first of its page
    }
    for (int32_t i = 0; i < count; i++)
        engine->slots[columns[i].slot].ahead = 0;
    return pages;
}

bool oct_engine_fits(oct_engine *engine, const oct_control_column *columns, int32_t count)
{
    return pages_of_step(engine, columns, count) <= oct_engine_free_pages(engine);
}

void oct_engine_truncate(oct_engine *engine, int32_t slot, int32_t length)
{
    assert(slot >= 0 && slot < engine->figures.slots && length >= 0);
    if (length >= engine->slots[slot].length)
        return;
    assert(engine->cut_count < OCT_CONTROL_CUTS * engine->figures.slots);
    const oct_control_cut cut = {.slot = slot, .length = length};
    engine->cuts[engine->cut_count++] = cut;
    cut_sequence(engine, &cut);
}

// From the logits to the choices.
static oct_status choose(oct_engine *engine, oct_choice *choices, oct_receive_logits receive, void *context)
{
    const int64_t begin = oct_now_ns();
    oct_status status = oct_engine_take_results(engine, choices, receive, context);
    if (status == OCT_OK)
        status = oct_engine_decide_rest(engine, choices);
    if (engine->times != NULL)
        engine->times->sampling_ns += (uint64_t)(oct_now_ns() - begin);
    return status;
}

oct_status oct_engine_step(oct_engine *engine, const oct_control_column *columns, int32_t count, oct_choice *choices,
                           oct_receive_logits receive, void *context)
{
    assert(count >= 1 && count <= engine->figures.step_columns);
    if (!oct_engine_fits(engine, columns, count))
        return oct_fail(OCT_ERR_MACHINE,
                        "the KV cache is full: of %d pages of %d tokens %d are free and %d more are needed; make it "
                        "larger, or the sequences fewer or shorter",
                        engine->figures.kv_pages, OCT_PAGE_POSITIONS, oct_engine_free_pages(engine),
                        pages_of_step(engine, columns, count));
    oct_control_step *step = engine->descriptor;
    step->count = count;
    memcpy(step->columns, columns, (size_t)count * sizeof *columns);
    step->cut_count = send_cuts(engine, oct_control_step_cuts(step));
    oct_status status = oct_control_send(engine->control, OCT_CONTROL_STEP, step,
                                         oct_control_step_bytes(count, step->cut_count));
    if (status == OCT_OK)
        status = run_step(engine, step);
    if (status == OCT_OK)
        status = choose(engine, choices, receive, context);
    engine->broken = engine->broken || status != OCT_OK;
    return status;
}

oct_status oct_engine_forward(oct_engine *engine, int32_t slot, const int32_t *tokens, int32_t count, bool prompt,
                              oct_want want, oct_choice *choice, oct_receive_logits receive, void *context)
{
    const int32_t chunk = engine->figures.prefill_chunk;
    for (int32_t done = 0; done < count;) {
        const int32_t columns = count - done < chunk ? count - done : chunk;
        for (int32_t i = 0; i < columns; i++, done++) {
            const bool wanted = want == OCT_WANT_LOGITS || done + 1 == count;
            engine->chunk[i] = (oct_control_column){.token = tokens[done],
                                                    .slot = slot,
                                                    .want = wanted ? (int32_t)want : OCT_WANT_NOTHING,
                                                    .prompt = prompt};
        }
        const oct_status status = oct_engine_step(engine, engine->chunk, columns, choice, receive, context);
        if (status != OCT_OK)
            return status;
    }
    return want == OCT_WANT_TOKEN ? oct_engine_check_choice(choice, engine->slots[slot].length) : OCT_OK;
}

oct_status oct_engine_check_choice(const oct_choice *choice, int32_t length)
{
    if (choice->token >= 0)
        return OCT_OK;
    return oct_fail(OCT_ERR_FILE,
                    "the logits behind position %d are NaN or infinite, expected numbers: the weights "
                    "are damaged or overflow; see `octet inspect --verify`, or import the model again",
                    length - 1);
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
