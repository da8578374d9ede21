// From the step program to launches: each operation is one or a few kernels in the backend's stream. Nothing
// here waits and nothing depends on what a step says, so that a walk can be captured in a graph.
#include <stddef.h>

#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/embedding.h"
#include "runtime/progress.h"

oct_status oct_cuda_mark(oct_cuda_backend *backend, int kind)
{
    if (backend->times == NULL)
        return OCT_OK;
    backend->marked[backend->mark_count] = (int8_t)kind;
    return oct_cuda_check(cudaEventRecord(backend->marks[backend->mark_count++], backend->stream),
                          "recording an event");
}

static const float *vector_of(const oct_cuda_backend *backend, int32_t i)
{
    return i < 0 ? NULL : backend->vectors[i];
}

// Makes the input in global memory where blocks cannot make it themselves, once for all launches that share
// it.
static oct_status prepare_input(const oct_cuda_backend *backend, oct_cuda_projection *p, bool *prepared)
{
    p->input.prepared = NULL;
    if (oct_cuda_input_fits(&backend->device, p))
        return OCT_OK;
    p->input.prepared = backend->prepared;
    if (*prepared)
        return OCT_OK;
    *prepared = true;
    return oct_cuda_prepare(&p->input, backend->stream);
}

// Several matrices with one input, side by side in `out`: those of one encoding share a launch.
static oct_status project_rows(const oct_cuda_backend *backend, const oct_operation *operation,
                               const oct_cuda_input *input, float *out, int64_t out_stride)
{
    bool prepared = false;
    for (int m = 0; m < OCT_OPERATION_MATRICES && operation->matrices[m] >= 0;) {
        const oct_cuda_shard_matrix *first = &backend->matrices[operation->matrices[m]];
        oct_cuda_projection p = {
            .plan = first->plan, .input = *input, .epilogue = OCT_CUDA_STORE, .out_stride = out_stride};
        for (; m < OCT_OPERATION_MATRICES && operation->matrices[m] >= 0; m++) {
            const oct_cuda_shard_matrix *matrix = &backend->matrices[operation->matrices[m]];
            if (matrix->plan.encoding != p.plan.encoding)
                break;
            if (matrix->rows > 0)
                p.matrices[p.matrix_count++] = (oct_cuda_matrix){matrix->weights, matrix->rows, out};
            out += matrix->rows;
        }
        if (p.matrix_count == 0)
            continue;
        oct_status status = prepare_input(backend, &p, &prepared);
        if (status == OCT_OK)
            status = oct_cuda_project(&backend->device, &p, backend->stream);
        if (status != OCT_OK)
            return status;
    }
    return OCT_OK;
}

static oct_cuda_input residual_input(const oct_cuda_backend *backend, const oct_operation *operation, int32_t columns)
{
    const oct_model *model = &backend->program->model;
    const bool reduced = operation->kind != OCT_OP_QKV || operation->layer > 0; // not embedded
    return (oct_cuda_input){.x = backend->residual,
                            .stride = model->hidden,
                            .width = model->hidden,
                            .columns = columns,
                            .norm = vector_of(backend, operation->vectors[0]),
                            .squares = oct_cuda_kernels_exchange(backend) && reduced ? backend->squares : NULL,
                            .epsilon = model->norm_epsilon};
}

static oct_status embed(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    const oct_step_program *program = backend->program;
    const oct_cuda_shard_matrix *matrix = &backend->matrices[operation->matrices[0]];
    const oct_cuda_embedding embedding = {.step = piece->step,
                                          .weights = matrix->weights,
                                          .encoding = matrix->encoding,
                                          .tiles = program->vocabulary_tiles,
                                          .hidden = program->model.hidden,
                                          .rows = oct_cuda_embedded_rows(backend)};
    oct_status status = oct_cuda_embed(&embedding, backend->stream);
    if (status != OCT_OK || backend->exchange == NULL)
        return status;
    status = oct_cuda_mark(backend, OCT_OP_EMBED);
    return status == OCT_OK ? oct_cuda_share_rows(backend, piece) : status;
}

static oct_status project_qkv(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    const oct_cuda_input input = residual_input(backend, operation, piece->columns);
    return project_rows(backend, operation, &input, backend->qkv, backend->program->qkv_width);
}

static const float *heads_of_vector(const oct_cuda_backend *backend, int32_t i, oct_run heads)
{
    return i < 0 ? NULL : backend->vectors[i] + (int64_t)heads.begin * backend->program->model.head_dim;
}

// The attention of a layer and, in front of it, its rotation, with the vectors of `rotation`.
static oct_cuda_attention attention_of(const oct_cuda_backend *backend, const oct_operation *rotation,
                                       const oct_cuda_piece *piece)
{
    const oct_step_program *program = backend->program;
    const oct_model *model = &program->model;
    return (oct_cuda_attention){.step = piece->step,
                                .cache = oct_cuda_cache_of(backend),
                                .heads = oct_cuda_heads_of(program),
                                .layer = rotation->layer,
                                .context = backend->options.context,
                                .qkv = backend->qkv,
                                .qkv_stride = program->qkv_width,
                                .bias = {heads_of_vector(backend, rotation->vectors[0], program->heads),
                                         heads_of_vector(backend, rotation->vectors[1], program->kv_heads),
                                         heads_of_vector(backend, rotation->vectors[2], program->kv_heads)},
                                .norm = {vector_of(backend, rotation->vectors[3]),
                                         vector_of(backend, rotation->vectors[4])},
                                .norm_epsilon = model->norm_epsilon,
                                .rope = backend->rope,
                                .rope_dims = model->rope_dims,
                                .rope_convention = model->rope_convention,
                                .queries = backend->queries,
                                .out = backend->attention,
                                .out_stride = program->attention_width,
                                .states = backend->states,
                                .arrivals = backend->arrivals};
}

static oct_status rope_cache(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    if (backend->program->attention_width == 0)
        return OCT_OK;
    const oct_cuda_attention a = attention_of(backend, operation, piece);
    return oct_cuda_rope_cache(&a, backend->stream);
}

static oct_status attend(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    if (backend->program->attention_width == 0)
        return OCT_OK;
    const oct_cuda_attention a = attention_of(backend, operation - 1, piece); // directly behind its OCT_OP_ROPE_CACHE
    return oct_cuda_attend(&backend->device, &a, backend->stream);
}

// A projection along K: one rank adds the root to the residual at once; several reduce their nodes in the same kernel,
// or exchange them first.
static oct_status project_nodes(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece,
                                const float *x, int64_t stride)
{
    const oct_cuda_shard_matrix *matrix = &backend->matrices[operation->matrices[0]];
    const int32_t segments = matrix->plan.segment_count;
    const bool alone = backend->exchange == NULL, reduces = oct_cuda_kernels_exchange(backend);
    oct_cuda_projection p = {
        .plan = matrix->plan,
        .input = {.x = x, .stride = stride, .columns = piece->columns},
        .matrices = {{matrix->weights, matrix->rows, alone ? backend->residual : backend->nodes.own}},
        .matrix_count = 1,
        .epilogue = alone ? OCT_CUDA_ADD : reduces ? OCT_CUDA_REDUCE : OCT_CUDA_NODES,
        .out_stride = backend->program->model.hidden};
    oct_status status =
        reduces ? oct_cuda_plan_exchange(backend, operation, piece->columns, &p.reduction) : OCT_OK;
    if (status == OCT_OK && segments > 0) {
        bool prepared = false;
        p.input.width = p.plan.segments[segments - 1].last - p.plan.segments[0].first;
        status = prepare_input(backend, &p, &prepared);
    }
    if (status == OCT_OK)
        status = oct_cuda_project(&backend->device, &p, backend->stream);
    if (status != OCT_OK || alone || reduces)
        return status;
    status = oct_cuda_mark(backend, (int)operation->kind);
    return status == OCT_OK ? oct_cuda_gather_nodes(backend, operation, piece->columns) : status;
}

static oct_status project_output(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    return project_nodes(backend, operation, piece, backend->attention, backend->program->attention_width);
}

static oct_status gate_up(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    const oct_cuda_shard_matrix *gate = &backend->matrices[operation->matrices[0]];
    const oct_cuda_shard_matrix *up = &backend->matrices[operation->matrices[1]];
    if (gate->rows == 0)
        return OCT_OK;
    const bool together = gate->plan.encoding == up->plan.encoding;
    bool prepared = false;
    oct_cuda_projection p = {
        .plan = gate->plan,
        .input = residual_input(backend, operation, piece->columns),
        .matrices = {{gate->weights, gate->rows, backend->inner}, {up->weights, up->rows, backend->inner}},
        .matrix_count = together ? 2 : 1,
        .epilogue = together ? OCT_CUDA_SILU_MULTIPLY : OCT_CUDA_STORE,
        .out_stride = backend->program->inner_width};
    oct_status status = prepare_input(backend, &p, &prepared);
    if (status == OCT_OK)
        status = oct_cuda_project(&backend->device, &p, backend->stream);
    if (status != OCT_OK || together)
        return status;
    p.plan = up->plan;
    p.matrices[0] = p.matrices[1];
    p.epilogue = OCT_CUDA_SILU_OF_OUT;
    status = prepare_input(backend, &p, &prepared);
    return status == OCT_OK ? oct_cuda_project(&backend->device, &p, backend->stream) : status;
}

static oct_status project_down(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    return project_nodes(backend, operation, piece, backend->inner, backend->program->inner_width);
}

oct_cuda_selection oct_cuda_selection_of(const oct_cuda_backend *backend, const oct_cuda_piece *piece)
{
    const oct_step_program *program = backend->program;
    const oct_operation *head = &program->operations[program->operation_count - 1];
    return (oct_cuda_selection){.logits = piece->logits,
                                .stride = program->logits_width,
                                .first = program->vocabulary_tiles.begin * OCT_TILE_ROWS,
                                .rows = (int32_t)backend->matrices[head->matrices[0]].rows,
                                .columns = piece->logit_columns,
                                .sampled = piece->sampled,
                                .biases = backend->biases,
                                .penalties = backend->penalties,
                                .scratch = backend->selection_scratch,
                                .arrivals = backend->selection_arrivals,
                                .candidates = piece->results.candidates,
                                .maxima = piece->results.maxima,
                                .hash = {.logit_column = piece->step.logit_column,
                                         .residual = backend->residual,
                                         .hidden = program->model.hidden,
                                         .hashes = piece->results.hashes}};
}

static oct_status head(oct_cuda_backend *backend, const oct_operation *operation, const oct_cuda_piece *piece)
{
    if (piece->logit_columns == 0)
        return OCT_OK;
    oct_cuda_input input = residual_input(backend, operation, piece->logit_columns);
    input.column_of = piece->step.logit_column;
    const oct_cuda_selection selection = oct_cuda_selection_of(backend, piece);
    const oct_status status = project_rows(backend, operation, &input, piece->logits, backend->program->logits_width);
    return status == OCT_OK ? oct_cuda_select(&selection, backend->stream) : status;
}

typedef oct_status (*launch)(oct_cuda_backend *, const oct_operation *, const oct_cuda_piece *);
static const launch launches[] = {
    [OCT_OP_EMBED] = embed,           [OCT_OP_QKV] = project_qkv,
    [OCT_OP_ROPE_CACHE] = rope_cache, [OCT_OP_ATTENTION] = attend,
    [OCT_OP_OUTPUT] = project_output, [OCT_OP_GATE_UP] = gate_up,
    [OCT_OP_DOWN] = project_down,     [OCT_OP_HEAD] = head,
};

oct_status oct_cuda_walk(oct_cuda_backend *backend, const oct_cuda_piece *piece)
{
    const oct_step_program *program = backend->program;
    for (int32_t i = 0; i < program->operation_count; i++) {
        const oct_operation *operation = &program->operations[i];
        oct_status status = launches[operation->kind](backend, operation, piece);
        if (status == OCT_OK)
            status = oct_cuda_mark(backend, (int)operation->kind);
        if (status != OCT_OK)
            return status;
        oct_progress_bump();
    }
    return OCT_OK;
}
