// The memory of the CUDA backend: four blocks on the device (weights, KV cache, buffers, and staging while weights are
// loaded) and two pinned ones of the host. What lies in a block is laid out by one function, which only counts when it
// is given no memory: the dry pass.
#include <stdlib.h>

#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/layout.h"

enum { ALIGNMENT = 256 };

typedef struct arena {
    uint8_t *base; // NULL: only count
    size_t used;
} arena;

static void *take(arena *a, size_t bytes)
{
    void *at = a->base == NULL ? NULL : a->base + a->used;
    a->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

size_t oct_cuda_matrix_bytes(const oct_program_matrix *matrix, oct_encoding encoding)
{
    const oct_encoding there = oct_cuda_encoding(encoding);
    const size_t tiles = (size_t)oct_tile_count(matrix->rows);
    if (matrix->spec.split == OCT_SPLIT_ROWS)
        return tiles * oct_strip_bytes(there, 0, matrix->spec.columns);
    size_t bytes = 0;
    for (int32_t g = matrix->granules.begin; g < matrix->granules.end; g++) {
        const oct_column_run columns = oct_program_granule_columns(matrix, g);
        bytes += tiles * oct_strip_bytes(there, columns.begin, columns.end);
    }
    return bytes;
}

static void describe_matrix(oct_cuda_shard_matrix *matrix, const oct_program_matrix *shard, oct_encoding encoding)
{
    const oct_tensor_spec *spec = &shard->spec;
    matrix->encoding = encoding;
    matrix->rows = shard->rows;
    matrix->bytes = oct_cuda_matrix_bytes(shard, encoding);
    if (spec->split == OCT_SPLIT_ROWS)
        oct_cuda_plan_rows(&matrix->plan, encoding, spec->columns);
    else
        oct_cuda_plan_granules(&matrix->plan, encoding, spec->rows, spec->columns, &spec->partition, shard->granules);
}

void oct_cuda_describe(oct_cuda_backend *backend, const oct_encoding *encodings)
{
    const oct_step_program *program = backend->program;
    for (int32_t i = 0; i < program->matrix_count; i++)
        describe_matrix(&backend->matrices[i], &program->matrices[i], encodings[i]);
}

oct_cuda_results oct_cuda_results_place(void *memory, int32_t logit_columns)
{
    const size_t columns = (size_t)logit_columns;
    oct_cuda_results results = {.hashes = memory};
    results.candidates = (oct_candidates *)(void *)(results.hashes + columns);
    results.maxima = (float *)(void *)(results.candidates + columns);
    results.bytes = columns * (sizeof *results.hashes + sizeof *results.candidates + sizeof *results.maxima);
    return results;
}

size_t oct_cuda_sampled_bytes(int32_t logit_columns)
{
    return ((size_t)logit_columns * sizeof(oct_cuda_sampled_column) + 15) / 16 * 16;
}

oct_cuda_cache oct_cuda_cache_of(const oct_cuda_backend *backend)
{
    const oct_step_program *program = backend->program;
    return (oct_cuda_cache){.memory = (uint16_t *)(void *)backend->kv_cache,
                            .layers = program->model.layers,
                            .kv_heads = program->kv_heads.end - program->kv_heads.begin,
                            .head_dim = program->model.head_dim};
}

// The most bytes that prepared inputs take, of all projections.
static size_t prepared_bytes(const oct_cuda_backend *backend)
{
    const oct_step_program *program = backend->program;
    const size_t width =
        larger((size_t)program->model.hidden, larger((size_t)program->attention_width, (size_t)program->inner_width));
    return oct_cuda_prepared_bytes((int32_t)width, backend->piece_columns);
}

static void lay_out_attention(oct_cuda_backend *backend, arena *a, size_t columns)
{
    const oct_step_program *program = backend->program;
    const oct_cuda_attention shape = {
        .cache = oct_cuda_cache_of(backend), .heads = oct_cuda_heads_of(program), .context = backend->options.context};
    backend->queries = take(a, columns * (size_t)program->attention_width * sizeof *backend->queries);
    backend->states = take(a, oct_cuda_attention_states_bytes(&shape, (int32_t)columns));
    backend->arrivals_bytes = oct_cuda_attention_arrivals(&shape, (int32_t)columns) * sizeof *backend->arrivals;
    backend->arrivals = take(a, backend->arrivals_bytes);
}

// What adjusts logits, in the worst case: every sampled column by another sequence with all tokens behind it.
static void size_adjustments(oct_cuda_backend *backend)
{
    const oct_step_program *program = backend->program;
    const int64_t rows = program->logits_width, columns = backend->options.max_sampled_columns;
    const int64_t positions = (int64_t)backend->options.context + 1, distinct = rows < positions ? rows : positions;
    const int64_t biases = rows < OCT_MAX_LOGIT_BIASES ? rows : OCT_MAX_LOGIT_BIASES;
    backend->adjustments.bias_capacity = columns * biases;
    backend->adjustments.penalty_capacity = columns * distinct;
}

static size_t second_pass_bytes(const oct_cuda_backend *backend)
{
    const int32_t logit_columns = backend->options.max_logit_columns;
    return oct_cuda_sampled_bytes(logit_columns) + (size_t)logit_columns * sizeof(float);
}

static void lay_out_buffers(oct_cuda_backend *backend, arena *a)
{
    const oct_step_program *program = backend->program;
    const oct_backend_options *options = &backend->options;
    const size_t columns = (size_t)backend->piece_columns, logit_columns = (size_t)options->max_logit_columns;
    for (int32_t i = 0; i < program->vector_count; i++)
        backend->vectors[i] = take(a, (size_t)program->vectors[i].size * sizeof(float));
    backend->rope = take(a, (size_t)options->context * (size_t)program->model.rope_dims * sizeof(float));
    backend->residual = take(a, columns * (size_t)program->model.hidden * sizeof(float));
    if (program->ranks > 1)
        backend->squares = take(a, columns * oct_cuda_squares_count(program->model.hidden) * sizeof(float));
    backend->qkv = take(a, columns * (size_t)program->qkv_width * sizeof(float));
    backend->attention = take(a, columns * (size_t)program->attention_width * sizeof(float));
    backend->inner = take(a, columns * (size_t)program->inner_width * sizeof(float));
    backend->logits = take(a, logit_columns * (size_t)program->logits_width * sizeof(float));
    backend->prepared = take(a, prepared_bytes(backend));
    if (program->attention_width > 0)
        lay_out_attention(backend, a, columns);
    backend->selection_scratch =
        take(a, oct_cuda_selection_scratch_bytes((int32_t)program->logits_width, options->max_logit_columns));
    backend->selection_arrivals = take(a, logit_columns * sizeof *backend->selection_arrivals);
    backend->descriptor = take(a, backend->descriptor_bytes);
    backend->peers.step = (const uint32_t *)(void *)backend->descriptor;
    backend->biases = take(a, (size_t)backend->adjustments.bias_capacity * sizeof *backend->biases);
    backend->penalties = take(a, (size_t)backend->adjustments.penalty_capacity * sizeof *backend->penalties);
    backend->touched = take(a, sizeof *backend->touched);
    backend->records = take(a, (size_t)backend->record_capacity * OCT_CUDA_GRAPHS * oct_cuda_program_record_bytes());
    backend->words.arrived = take(a, OCT_CUDA_GRID_WORDS * sizeof *backend->words.arrived);
    backend->second_pass = take(a, second_pass_bytes(backend));
    backend->results = take(a, oct_cuda_results_place(NULL, options->max_logit_columns).bytes);
}

static void lay_out_pinned(oct_cuda_backend *backend, arena *a)
{
    const int32_t logit_columns = backend->options.max_logit_columns;
    oct_cuda_adjustments *adjustments = &backend->adjustments;
    backend->host_descriptors = take(a, (size_t)backend->pieces * backend->descriptor_bytes);
    adjustments->biases = take(a, (size_t)adjustments->bias_capacity * sizeof *adjustments->biases);
    adjustments->penalties = take(a, (size_t)adjustments->penalty_capacity * sizeof *adjustments->penalties);
    backend->sampled = take(a, second_pass_bytes(backend));
    backend->host_maxima = (float *)(void *)((uint8_t *)backend->sampled + oct_cuda_sampled_bytes(logit_columns));
    backend->host_results = take(a, oct_cuda_results_place(NULL, logit_columns).bytes);
    backend->words.gave_up = take(a, sizeof *backend->words.gave_up);
}

// Bytes of the longest strip of the checkpoint that is loaded.
static size_t longest_strip(const oct_cuda_backend *backend)
{
    size_t bytes = 0;
    for (int32_t i = 0; i < backend->program->matrix_count; i++) {
        const oct_cuda_shard_matrix *matrix = &backend->matrices[i];
        const oct_program_matrix *shard = &backend->program->matrices[i];
        if (shard->spec.split == OCT_SPLIT_ROWS)
            bytes = larger(bytes, oct_strip_bytes(matrix->encoding, 0, shard->spec.columns));
        for (int32_t s = 0; shard->spec.split == OCT_SPLIT_COLUMNS && s < matrix->plan.segment_count; s++)
            bytes = larger(bytes, oct_strip_bytes(matrix->encoding, matrix->plan.segments[s].first,
                                                  matrix->plan.segments[s].last));
    }
    return bytes;
}

static void lay_out_staging(oct_cuda_backend *backend, arena *device, arena *pinned)
{
    const size_t strip = longest_strip(backend), piece = backend->options.piece_bytes;
    for (int32_t thread = 0; thread < backend->options.loaders; thread++) {
        oct_cuda_loader *loader = &backend->loaders[thread];
        loader->raw = take(device, piece + strip);
        for (int i = 0; i < OCT_CUDA_PIECES; i++)
            loader->piece[i] = take(pinned, piece);
    }
}

int32_t oct_cuda_piece_columns(const oct_backend_options *options)
{
    return smaller(options->max_columns, OCT_CUDA_MAX_COLUMNS);
}

void oct_cuda_memory_count(oct_cuda_backend *backend)
{
    const oct_backend_options *options = &backend->options;
    const int32_t columns = oct_cuda_piece_columns(options);
    backend->piece_columns = columns;
    backend->pieces = (options->max_columns + columns - 1) / columns;
    const int32_t logit_columns = smaller(options->max_logit_columns, columns);
    const size_t bytes = OCT_CUDA_NUMBER_BYTES + oct_cuda_sampled_bytes(logit_columns) +
                         oct_cuda_step_bytes(columns, logit_columns, options->context);
    backend->descriptor_bytes = (bytes + 15) / 16 * 16;
    backend->record_capacity =
        options->executor == OCT_EXECUTOR_PERSISTENT ? oct_cuda_program_capacity(backend->program) : 0;
    size_adjustments(backend);
    arena buffers = {0}, pinned = {0}, staging = {0}, pinned_staging = {0};
    lay_out_buffers(backend, &buffers);
    lay_out_pinned(backend, &pinned);
    lay_out_staging(backend, &staging, &pinned_staging);
    const oct_cuda_cache cache = oct_cuda_cache_of(backend);
    backend->kv_cache_bytes = oct_cuda_cache_bytes(&cache, options->pages);
    backend->buffers_bytes = buffers.used;
    backend->pinned_bytes = pinned.used;
    backend->staging_bytes = staging.used;
    backend->pinned_staging_bytes = pinned_staging.used;
    arena weights = {0};
    for (int32_t i = 0; i < backend->program->matrix_count; i++)
        take(&weights, backend->matrices[i].bytes);
    backend->weights_bytes = weights.used;
}

static oct_status on_device(uint8_t **memory, size_t bytes, const char *what)
{
    const cudaError_t error = cudaMalloc((void **)memory, bytes > 0 ? bytes : 1);
    if (error == cudaSuccess)
        return OCT_OK;
    return oct_fail(OCT_ERR_MACHINE,
                    "no %.1f MB on the GPU for %s: %s; use more ranks, a smaller --context or a smaller "
                    "encoding",
                    (double)bytes * 1e-6, what, cudaGetErrorString(error));
}

static oct_status pinned(uint8_t **memory, size_t bytes)
{
    return oct_cuda_check(cudaMallocHost((void **)memory, bytes > 0 ? bytes : 1), "allocating pinned memory");
}

// Kernels number the penalties of a step with 32 bits.
static oct_status check_adjustments(const oct_cuda_adjustments *adjustments)
{
    if (adjustments->penalty_capacity <= INT32_MAX && adjustments->bias_capacity <= INT32_MAX)
        return OCT_OK;
    return oct_fail(OCT_ERR_MACHINE,
                    "a step may have %lld tokens with penalties, and the GPU's kernels count up to %d; use a smaller "
                    "--batch, fewer --draft-tokens or a smaller --context",
                    (long long)adjustments->penalty_capacity, INT32_MAX);
}

oct_status oct_cuda_memory_allocate(oct_cuda_backend *backend)
{
    oct_status status = check_adjustments(&backend->adjustments);
    if (status == OCT_OK)
        status = on_device(&backend->weights, backend->weights_bytes, "the weights");
    if (status == OCT_OK)
        status = on_device(&backend->kv_cache, backend->kv_cache_bytes, "the KV cache");
    if (status == OCT_OK)
        status = on_device(&backend->buffers, backend->buffers_bytes, "buffers");
    if (status == OCT_OK)
        status = on_device(&backend->staging, backend->staging_bytes, "weights while they are loaded");
    if (status == OCT_OK)
        status = pinned(&backend->pinned, backend->pinned_bytes);
    if (status == OCT_OK)
        status = pinned(&backend->pinned_staging, backend->pinned_staging_bytes);
    if (status != OCT_OK)
        return status;
    arena weights = {.base = backend->weights}, buffers = {.base = backend->buffers};
    arena host = {.base = backend->pinned};
    arena staging = {.base = backend->staging}, host_staging = {.base = backend->pinned_staging};
    for (int32_t i = 0; i < backend->program->matrix_count; i++)
        backend->matrices[i].weights = take(&weights, backend->matrices[i].bytes);
    lay_out_buffers(backend, &buffers);
    lay_out_pinned(backend, &host);
    lay_out_staging(backend, &staging, &host_staging);
    return OCT_OK;
}

void oct_cuda_staging_free(oct_cuda_backend *backend)
{
    cudaFree(backend->staging);
    cudaFreeHost(backend->pinned_staging);
    backend->staging = backend->pinned_staging = NULL;
}

void oct_cuda_memory_free(oct_cuda_backend *backend)
{
    oct_cuda_staging_free(backend);
    cudaFree(backend->weights);
    cudaFree(backend->kv_cache);
    cudaFree(backend->buffers);
    cudaFreeHost(backend->pinned);
}
