// From the logits of a step to rank 0's decisions: maxima, candidates and, where asked for, all logits travel
// through the same exchange as the reduction.
#include <math.h>
#include <string.h>

#include "ranks/engine_state.h"

static oct_status one_round(oct_engine *engine, size_t bytes)
{
    size_t bytes_of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        bytes_of_rank[rank] = bytes;
    return engine->exchange.round(engine->exchange.context, bytes_of_rank);
}

static bool needs_maximum(const oct_column_sampling *column)
{
    return column->sampling != NULL && oct_sampling_needs_maximum(column->sampling);
}

// Where some columns' candidates need the largest logit of the whole vocabulary: agrees on it and makes them.
static oct_status agree_on_maxima(oct_engine *engine)
{
    const oct_step *step = &engine->step;
    bool some = false;
    float *own = engine->exchange.slot(engine->exchange.context, 0);
    for (int32_t i = 0; i < step->logit_columns; i++) {
        const bool needed = needs_maximum(&step->samplings[i]);
        own[i] = needed ? engine->backend->kind->maximum(engine->backend, i) : 0;
        some = some || needed;
    }
    if (!some)
        return OCT_OK;
    const oct_status status = one_round(engine, (size_t)step->logit_columns * sizeof *own);
    if (status != OCT_OK)
        return status;
    for (int32_t rank = 0; rank < engine->world->size; rank++) {
        const float *theirs = engine->exchange.peer(engine->exchange.context, 0, rank);
        for (int32_t i = 0; i < step->logit_columns; i++)
            engine->maxima[i] = rank == 0 || theirs[i] > engine->maxima[i] ? theirs[i] : engine->maxima[i];
    }
    return engine->backend->kind->make_candidates(engine->backend, engine->maxima);
}

// The candidates of all sampled columns of this rank, one after another, to all ranks. *sampled: how many.
static oct_status exchange_candidates(oct_engine *engine, int32_t *sampled)
{
    const oct_step *step = &engine->step;
    uint8_t *at = engine->exchange.slot(engine->exchange.context, 0);
    size_t bytes = 0;
    *sampled = 0;
    for (int32_t i = 0; i < step->logit_columns; i++) {
        const oct_sampling *sampling = step->samplings[i].sampling;
        if (sampling == NULL)
            continue;
        oct_candidates *candidates = (oct_candidates *)(void *)(at + bytes);
        engine->backend->kind->candidates(engine->backend, i, candidates);
        candidates->residual_hash = engine->residual_hash;
        bytes += oct_candidates_bytes(oct_sampling_list_size(sampling));
        ++*sampled;
    }
    return *sampled > 0 ? one_round(engine, bytes) : OCT_OK;
}

// Every rank holds the same final residual; one that does not has computed with other bits.
static oct_status compare_hashes(const oct_engine *engine, const oct_candidates *const lists[])
{
    for (int32_t rank = 1; rank < engine->world->size; rank++)
        if (lists[rank]->residual_hash != lists[0]->residual_hash)
            return oct_fail(OCT_ERR_DISAGREE,
                            "rank %d disagrees with rank 0 about the residual at position %d: %016llx against %016llx; "
                            "its memory, binary or libraries differ",
                            rank, engine->positions[engine->logit_column[0]],
                            (unsigned long long)lists[rank]->residual_hash,
                            (unsigned long long)lists[0]->residual_hash);
    return OCT_OK;
}

// False where the logits are NaN or infinite, the same for any number of ranks. The largest is always looked at,
// which finds +infinity and a column of nothing but NaN (the usual case: one NaN in the residual spoils them all);
// single NaN or -infinity among numbers are only counted where a mass is made (top-p, log-probabilities).
static bool are_numbers(const oct_candidates *const lists[], int32_t ranks)
{
    bool some = false;
    for (int32_t rank = 0; rank < ranks; rank++) {
        const oct_best *best = &lists[rank]->best;
        if (lists[rank]->not_numbers > 0 || (best->token >= 0 && best->logit == INFINITY))
            return false;
        some = some || (best->token >= 0 && isfinite(best->logit));
    }
    return some;
}

// Rank 0: chooses from the candidates that have just arrived.
static oct_status decide(oct_engine *engine, oct_choice *choices)
{
    const oct_step *step = &engine->step;
    const int32_t ranks = engine->world->size;
    size_t offset = 0;
    for (int32_t i = 0, chosen = 0; i < step->logit_columns; i++) {
        const oct_column_sampling *column = &step->samplings[i];
        engine->undecided[i] = false;
        if (column->sampling == NULL)
            continue;
        const oct_candidates *lists[OCT_MAX_RANKS];
        for (int32_t rank = 0; rank < ranks; rank++) {
            const uint8_t *theirs = engine->exchange.peer(engine->exchange.context, 0, rank);
            lists[rank] = (const oct_candidates *)(const void *)(theirs + offset);
        }
        offset += oct_candidates_bytes(oct_sampling_list_size(column->sampling));
        const oct_status status = compare_hashes(engine, lists);
        if (status != OCT_OK)
            return status;
        oct_choice *choice = &choices[chosen++];
        if (are_numbers(lists, ranks))
            engine->undecided[i] =
                oct_sampling_decide(column->sampling, column->position, lists, ranks, choice) == OCT_NEEDS_LOGITS;
        else
            *choice = (oct_choice){.token = -1};
    }
    return OCT_OK;
}

oct_status oct_engine_take_results(oct_engine *engine, oct_choice *choices, oct_receive_logits receive, void *context)
{
    const oct_step *step = &engine->step;
    const bool speaks = engine->world->rank == 0;
    int32_t sampled = 0;
    oct_status status = agree_on_maxima(engine);
    if (status == OCT_OK)
        status = exchange_candidates(engine, &sampled);
    if (status == OCT_OK && speaks)
        status = decide(engine, choices);
    for (int32_t i = 0; status == OCT_OK && sampled < step->logit_columns && i < step->logit_columns; i++) {
        if (step->samplings[i].sampling != NULL)
            continue;
        status = oct_engine_gather(engine, i);
        if (status == OCT_OK && speaks)
            receive(context, engine->positions[engine->logit_column[i]], engine->gathered);
    }
    return status;
}

oct_status oct_engine_decide_rest(oct_engine *engine, oct_choice *choices)
{
    const oct_step *step = &engine->step;
    for (int32_t i = 0, chosen = 0; i < step->logit_columns; i++) {
        const oct_column_sampling *column = &step->samplings[i];
        if (engine->undecided[i]) {
            oct_status status = oct_control_send(engine->control, OCT_CONTROL_LOGITS, &i, sizeof i);
            if (status == OCT_OK)
                status = oct_engine_gather(engine, i);
            if (status != OCT_OK)
                return status;
            oct_sampling_decide_full(column->sampling, column->position, engine->gathered,
                                     engine->shard.program.model.vocabulary, engine->scratch, &choices[chosen]);
        }
        chosen += column->sampling != NULL;
    }
    return OCT_OK;
}

// Rows of the vocabulary of a rank.
static oct_run rows_of(const oct_engine *engine, int32_t rank)
{
    const oct_model *model = &engine->shard.program.model;
    const oct_partition partition = oct_model_vocabulary_partition(model);
    oct_run rows = oct_partition_units(&partition, engine->world->size, rank);
    rows.begin = rows.begin * OCT_TILE_ROWS < model->vocabulary ? rows.begin * OCT_TILE_ROWS : model->vocabulary;
    rows.end = rows.end * OCT_TILE_ROWS < model->vocabulary ? rows.end * OCT_TILE_ROWS : model->vocabulary;
    return rows;
}

oct_status oct_engine_gather(oct_engine *engine, int32_t column)
{
    size_t bytes_of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < engine->world->size; rank++) {
        const oct_run rows = rows_of(engine, rank);
        bytes_of_rank[rank] = (size_t)(rows.end - rows.begin) * sizeof(float);
    }
    oct_status status = engine->backend->kind->logits(engine->backend, column,
                                                      engine->exchange.slot(engine->exchange.context, 0));
    if (status == OCT_OK)
        status = engine->exchange.round(engine->exchange.context, bytes_of_rank);
    if (status != OCT_OK || engine->world->rank != 0)
        return status;
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        memcpy(engine->gathered + rows_of(engine, rank).begin, engine->exchange.peer(engine->exchange.context, 0, rank),
               bytes_of_rank[rank]);
    return OCT_OK;
}
