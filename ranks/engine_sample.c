// From the logits of a step to rank 0's decision: maxima, candidates and, where asked for, all logits travel
// through the same exchange as the reduction.
#include <math.h>
#include <string.h>

#include "ranks/engine_state.h"

// One column to be sampled. The shard's rows are cut into parts, one a thread.
typedef struct sample_work {
    oct_engine *engine;
    float *logits;
    uint64_t position; // of the token to be sampled
    float maximum;     // of the whole vocabulary
    int32_t list_size;
    int32_t parts;
} sample_work;

static void find_maximum(void *context, int32_t thread, int32_t threads)
{
    (void)threads;
    sample_work *work = context;
    if (thread >= work->parts)
        return;
    const int64_t n = work->engine->own_tokens;
    const int64_t begin = n * thread / work->parts, end = n * (thread + 1) / work->parts;
    work->engine->parts_maximum[thread] = oct_sampling_maximum(work->logits + begin, (int32_t)(end - begin));
}

static void find_candidates(void *context, int32_t thread, int32_t threads)
{
    (void)threads;
    sample_work *work = context;
    oct_engine *engine = work->engine;
    if (thread >= work->parts)
        return;
    const int64_t n = engine->own_tokens;
    const int64_t begin = n * thread / work->parts, end = n * (thread + 1) / work->parts;
    oct_candidates_make(&engine->candidates[thread], &engine->sampling, work->position, work->logits + begin,
                        engine->first_token + (int32_t)begin, (int32_t)(end - begin), work->maximum, NULL,
                        work->list_size);
}

static oct_status one_round(oct_engine *engine, size_t bytes)
{
    size_t bytes_of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        bytes_of_rank[rank] = bytes;
    return engine->exchange.round(engine->exchange.context, bytes_of_rank);
}

static oct_status agree_on_maximum(oct_engine *engine, sample_work *work)
{
    oct_backend_run(engine->backend, find_maximum, work);
    float *own = engine->exchange.slot(engine->exchange.context, 0);
    *own = engine->parts_maximum[0];
    for (int32_t thread = 1; thread < work->parts; thread++)
        if (engine->parts_maximum[thread] > *own)
            *own = engine->parts_maximum[thread];
    const oct_status status = one_round(engine, sizeof *own);
    if (status != OCT_OK)
        return status;
    for (int32_t rank = 0; rank < engine->world->size; rank++) {
        const float theirs = *(const float *)engine->exchange.peer(engine->exchange.context, 0, rank);
        work->maximum = rank == 0 || theirs > work->maximum ? theirs : work->maximum;
    }
    return OCT_OK;
}

// Every rank holds the same final residual; one that does not has computed with other bits.
static oct_status compare_hashes(const oct_engine *engine, const oct_candidates *const lists[])
{
    for (int32_t rank = 1; rank < engine->world->size; rank++)
        if (lists[rank]->residual_hash != lists[0]->residual_hash)
            return oct_fail(OCT_ERR_DISAGREE,
                            "rank %d disagrees with rank 0 about the residual at position %d: %016llx against %016llx; "
                            "its memory, binary or libraries differ",
                            rank, engine->length - 1, (unsigned long long)lists[rank]->residual_hash,
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

oct_status oct_engine_sample(oct_engine *engine, oct_choice *choice, oct_decision *decided)
{
    const oct_sampling *sampling = &engine->sampling;
    const int32_t threads = engine->figures.threads;
    const int32_t split = threads < OCT_MAX_CANDIDATE_LISTS ? threads : OCT_MAX_CANDIDATE_LISTS;
    sample_work work = {.engine = engine,
                        .logits = oct_backend_logits(engine->backend, 0),
                        .position = (uint64_t)engine->length,
                        .list_size = oct_sampling_list_size(sampling),
                        .parts = split};
    oct_sampling_adjust(sampling, &engine->history, work.logits, engine->first_token, engine->own_tokens);
    if (oct_sampling_needs_maximum(sampling)) {
        const oct_status status = agree_on_maximum(engine, &work);
        if (status != OCT_OK)
            return status;
    }
    oct_backend_run(engine->backend, find_candidates, &work);
    const oct_candidates *parts[OCT_MAX_CANDIDATE_LISTS];
    for (int32_t thread = 0; thread < split; thread++)
        parts[thread] = &engine->candidates[thread];
    oct_candidates *joined = &engine->candidates[split];
    oct_candidates_merge(joined, parts, split, work.list_size);
    joined->residual_hash = engine->residual_hash;
    const size_t bytes = oct_candidates_bytes(work.list_size);
    memcpy(engine->exchange.slot(engine->exchange.context, 0), joined, bytes);
    oct_status status = one_round(engine, bytes);
    if (status != OCT_OK || engine->world->rank != 0)
        return status;
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        parts[rank] = engine->exchange.peer(engine->exchange.context, 0, rank);
    status = compare_hashes(engine, parts);
    engine->not_numbers = !are_numbers(parts, engine->world->size);
    *decided = OCT_DECIDED;
    if (status == OCT_OK && !engine->not_numbers)
        *decided = oct_sampling_decide(sampling, work.position, parts, engine->world->size, choice);
    return status;
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

oct_status oct_engine_gather(oct_engine *engine, int32_t columns, int32_t first_position, oct_receive_logits receive,
                             void *context)
{
    size_t bytes_of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < engine->world->size; rank++) {
        const oct_run rows = rows_of(engine, rank);
        bytes_of_rank[rank] = (size_t)(rows.end - rows.begin) * sizeof(float);
    }
    for (int32_t c = 0; c < columns; c++) {
        memcpy(engine->exchange.slot(engine->exchange.context, 0), oct_backend_logits(engine->backend, c),
               bytes_of_rank[engine->world->rank]);
        const oct_status status = engine->exchange.round(engine->exchange.context, bytes_of_rank);
        if (status != OCT_OK)
            return status;
        if (engine->world->rank != 0)
            continue;
        for (int32_t rank = 0; rank < engine->world->size; rank++)
            memcpy(engine->gathered + rows_of(engine, rank).begin,
                   engine->exchange.peer(engine->exchange.context, 0, rank), bytes_of_rank[rank]);
        receive(context, first_position + c, engine->gathered);
    }
    return OCT_OK;
}
