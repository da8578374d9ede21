// Rotation, the KV cache and attention on the CPU: how they are divided over heads, columns and splits.
#include <string.h>

#include "kernels/cpu/executor.h"
#include "runtime/progress.h"

static uint16_t *cache_page(const oct_cpu_backend *backend, int32_t layer, int32_t page, int32_t kv_head)
{
    const int32_t kv_heads = backend->program->kv_heads.end - backend->program->kv_heads.begin;
    const size_t index = ((size_t)page * (size_t)backend->program->model.layers + (size_t)layer) * (size_t)kv_heads;
    return backend->kv_cache + (index + (size_t)kv_head) * backend->page_elements;
}

static void add_bias(const oct_cpu_backend *backend, float *head, int32_t vector, int32_t index)
{
    const int32_t head_dim = backend->program->model.head_dim;
    if (vector >= 0)
        backend->kernels->add(head, backend->vectors[vector] + (int64_t)index * head_dim, head_dim);
}

// Bias, head norm and rotation of one query or key head.
static void finish_head(const oct_cpu_backend *backend, float *head, int32_t bias, int32_t norm, int32_t index,
                        int32_t position)
{
    const oct_model *model = &backend->program->model;
    add_bias(backend, head, bias, index);
    if (norm >= 0)
        backend->kernels->rms_norm(head, backend->vectors[norm], model->head_dim, model->norm_epsilon, head);
    backend->kernels->rope(head, backend->rope + (int64_t)position * model->rope_dims, model->rope_dims,
                           model->rope_convention);
}

// Bias, head norm and rotation of the query heads `queries` of a column.
static void finish_queries(const oct_cpu_backend *backend, const oct_operation *operation, int32_t c, oct_run queries)
{
    const oct_step_program *program = backend->program;
    const int32_t head_dim = program->model.head_dim;
    for (int32_t h = queries.begin; h < queries.end; h++)
        finish_head(backend, backend->qkv + c * backend->program->qkv_width + h * head_dim, operation->vectors[0],
                    operation->vectors[3], program->heads.begin + h, backend->step->positions[c]);
}

// The same for a key head; with its value head into the cache.
static void cache_key_value(const oct_cpu_backend *backend, const oct_operation *operation, int32_t c, int32_t kv)
{
    const oct_step_program *program = backend->program;
    const int32_t head_dim = program->model.head_dim, position = backend->step->positions[c];
    const int32_t heads = program->heads.end - program->heads.begin;
    const int32_t kv_heads = program->kv_heads.end - program->kv_heads.begin;
    float *key = backend->qkv + c * program->qkv_width + (heads + kv) * head_dim, *value = key + kv_heads * head_dim;
    finish_head(backend, key, operation->vectors[1], operation->vectors[4], program->kv_heads.begin + kv, position);
    add_bias(backend, value, operation->vectors[2], program->kv_heads.begin + kv);
    const int32_t page = backend->step->pages[c][position / OCT_PAGE_POSITIONS];
    backend->kernels->store_key_value(cache_page(backend, operation->layer, page, kv), head_dim,
                                      position % OCT_PAGE_POSITIONS, key, value);
}

// The query heads of this rank that share a key-value head of it.
static oct_run queries_of(const oct_step_program *program, int32_t kv)
{
    const int32_t group = program->model.heads / program->model.kv_heads;
    const int32_t head = (program->kv_heads.begin + kv) * group;
    oct_run run = {head > program->heads.begin ? head : program->heads.begin,
                   head + group < program->heads.end ? head + group : program->heads.end};
    run.begin -= program->heads.begin;
    run.end -= program->heads.begin;
    return run;
}

static int32_t split_count(int32_t position)
{
    return position / OCT_SPLIT_POSITIONS + 1;
}

// True where every task of the attention is a column and a key-value head: enough of them for all threads, or nothing
// else to divide by.
static bool by_heads(const oct_cpu_backend *backend, int32_t threads)
{
    const oct_step *step = backend->step;
    const int32_t tasks = step->columns * (backend->program->kv_heads.end - backend->program->kv_heads.begin);
    int32_t longest = 0;
    for (int32_t c = 0; c < step->columns; c++)
        longest = step->positions[c] > longest ? step->positions[c] : longest;
    return split_count(longest) == 1 || tasks >= 4 * threads || tasks % threads == 0 ||
           step->columns > OCT_SPLIT_PARALLEL_COLUMNS;
}

// With one column and a key-value head a task, the task does this itself: its keys are nobody else's, and nobody waits.
static bool rope_within_attention(const oct_cpu_backend *backend, int32_t threads)
{
    return backend->step->columns == 1 && by_heads(backend, threads);
}

bool oct_cpu_rope_cache(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    const oct_step_program *program = backend->program;
    const int32_t heads = program->heads.end - program->heads.begin;
    const int32_t kv_heads = program->kv_heads.end - program->kv_heads.begin;
    if (rope_within_attention(backend, threads))
        return true;
    const oct_run mine = oct_thread_run((int64_t)backend->step->columns * (heads + kv_heads), thread, threads);
    for (int32_t task = mine.begin; task < mine.end; task++) {
        const int32_t c = task / (heads + kv_heads), h = task % (heads + kv_heads);
        if (h < heads)
            finish_queries(backend, operation, c, (oct_run){h, h + 1});
        else
            cache_key_value(backend, operation, c, h - heads);
    }
    oct_team_barrier(backend->team);
    return true;
}

// One split of one column for the queries of one key-value head. state [queries][2 + head_dim].
static void attend_split(const oct_cpu_backend *backend, int32_t layer, int32_t c, int32_t kv, int32_t split,
                         float *state)
{
    const oct_step *step = backend->step;
    const oct_step_program *program = backend->program;
    const int32_t head_dim = program->model.head_dim;
    const oct_run queries = queries_of(program, kv);
    const int32_t left = step->positions[c] + 1 - split * OCT_SPLIT_POSITIONS;
    oct_attention attention = {.q = backend->qkv + c * backend->program->qkv_width + queries.begin * head_dim,
                               .queries = queries.end - queries.begin,
                               .head_dim = head_dim,
                               .scale = backend->attention_scale,
                               .begin = 0,
                               .end = left < OCT_SPLIT_POSITIONS ? left : OCT_SPLIT_POSITIONS,
                               .state = state};
    for (int32_t i = 0; i * OCT_PAGE_POSITIONS < attention.end; i++)
        attention.pages[i] = cache_page(backend, layer, step->pages[c][split * OCT_SPLIT_PAGES + i], kv);
    if (left > OCT_SPLIT_POSITIONS)
        attention.next = cache_page(backend, layer, step->pages[c][(split + 1) * OCT_SPLIT_PAGES], kv);
    backend->kernels->attention_split(&attention);
}

// Every task is a column and a key-value head; the thread walks its splits and merges them.
static void attend_by_heads(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    const int32_t layer = operation->layer;
    const bool rope = rope_within_attention(backend, threads);
    const oct_step *step = backend->step;
    const oct_step_program *program = backend->program;
    const int32_t head_dim = program->model.head_dim;
    const int32_t kv_heads = program->kv_heads.end - program->kv_heads.begin;
    float *states = backend->scratch[thread].states;
    const oct_run mine = oct_thread_run((int64_t)step->columns * kv_heads, thread, threads);
    for (int32_t task = mine.begin; task < mine.end; task++) {
        const int32_t c = task / kv_heads, kv = task % kv_heads, splits = split_count(step->positions[c]);
        const oct_run queries = queries_of(program, kv);
        const int64_t stride = (int64_t)(queries.end - queries.begin) * (2 + head_dim);
        if (thread == 0)
            oct_progress_bump(); // many columns of a long context take longer than the deadline
        if (rope) {
            const oct_operation *before = operation - 1; // OCT_OP_ROPE_CACHE stands in front of every attention
            finish_queries(backend, before, c, queries);
            cache_key_value(backend, before, c, kv);
        }
        for (int32_t split = 0; split < splits; split++)
            attend_split(backend, layer, c, kv, split, states + split * stride);
        float *merged = backend->attention + c * backend->program->attention_width;
        for (int32_t q = queries.begin; q < queries.end; q++)
            backend->kernels->attention_merge(states + (int64_t)(q - queries.begin) * (2 + head_dim), stride, splits,
                                              head_dim, merged + q * head_dim);
    }
}

// Few columns and long contexts: the splits are divided over the threads too, then merged by query head.
static void attend_by_splits(oct_cpu_backend *backend, int32_t layer, int32_t thread, int32_t threads)
{
    const oct_step *step = backend->step;
    const oct_step_program *program = backend->program;
    const int32_t head_dim = program->model.head_dim, state = 2 + head_dim;
    const int32_t heads = program->heads.end - program->heads.begin;
    const int32_t kv_heads = program->kv_heads.end - program->kv_heads.begin;
    const int64_t split_stride = (int64_t)heads * state, column_stride = backend->max_splits * split_stride;
    int64_t tasks = 0, task = 0;
    for (int32_t c = 0; c < step->columns; c++)
        tasks += (int64_t)kv_heads * split_count(step->positions[c]);
    const oct_run own = oct_thread_run(tasks, thread, threads); // neighbours in memory, which are fetched in time
    for (int32_t c = 0; c < step->columns; c++)
        for (int32_t kv = 0; kv < kv_heads; kv++)
            for (int32_t split = 0; split < split_count(step->positions[c]); split++, task++)
                if (task >= own.begin && task < own.end)
                    attend_split(backend, layer, c, kv, split,
                                 backend->states + c * column_stride + split * split_stride +
                                     (int64_t)queries_of(program, kv).begin * state);
    oct_team_barrier(backend->team);
    const oct_run mine = oct_thread_run((int64_t)step->columns * heads, thread, threads);
    for (int32_t merge = mine.begin; merge < mine.end; merge++) {
        const int32_t c = merge / heads, h = merge % heads;
        backend->kernels->attention_merge(backend->states + c * column_stride + (int64_t)h * state, split_stride,
                                          split_count(step->positions[c]), head_dim,
                                          backend->attention + c * backend->program->attention_width + h * head_dim);
    }
}

bool oct_cpu_attention(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread, int32_t threads)
{
    if (by_heads(backend, threads))
        attend_by_heads(backend, operation, thread, threads);
    else
        attend_by_splits(backend, operation->layer, thread, threads);
    oct_team_barrier(backend->team);
    return true;
}
