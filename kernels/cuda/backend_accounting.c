// What a step of the CUDA backend reads, by operation, and reading just that.
#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/touch.h"

// An embedding of its own is read a row a token; one that is tied to the head, with the head.
static bool is_embedding_only(const oct_cuda_backend *backend, int32_t i)
{
    const oct_step_program *program = backend->program;
    const oct_operation *head = &program->operations[program->operation_count - 1];
    return i == program->operations[0].matrices[0] && i != head->matrices[0];
}

// Of a row of the embedding.
static uint64_t row_bytes(const oct_cuda_backend *backend)
{
    const oct_cuda_shard_matrix *embedding = &backend->matrices[backend->program->operations[0].matrices[0]];
    return oct_strip_bytes(embedding->plan.encoding, 0, backend->program->model.hidden) / OCT_TILE_ROWS;
}

static uint64_t position_bytes(const oct_cuda_backend *backend)
{
    const oct_cuda_cache cache = oct_cuda_cache_of(backend);
    return oct_cuda_cache_bytes(&cache, 1) / OCT_PAGE_POSITIONS;
}

uint64_t oct_cuda_step_weights_bytes(const oct_backend *base, int32_t columns, int64_t positions)
{
    const oct_cuda_backend *backend = oct_cuda_backend_of(base);
    uint64_t bytes = 0;
    for (int32_t i = 0; i < backend->program->matrix_count; i++)
        bytes += is_embedding_only(backend, i) ? (uint64_t)columns * row_bytes(backend) : backend->matrices[i].bytes;
    return bytes + (uint64_t)columns * (uint64_t)positions * position_bytes(backend);
}

void oct_cuda_operation_bytes(const oct_backend *base, uint64_t *bytes)
{
    const oct_cuda_backend *backend = oct_cuda_backend_of(base);
    const oct_step_program *program = backend->program;
    for (int32_t i = 0; i < program->operation_count; i++) {
        const oct_operation *operation = &program->operations[i];
        for (int m = 0; m < OCT_OPERATION_MATRICES && operation->matrices[m] >= 0; m++)
            bytes[operation->kind] +=
                operation->kind == OCT_OP_EMBED ? row_bytes(backend) : backend->matrices[operation->matrices[m]].bytes;
    }
}

static size_t smallest(size_t a, size_t b)
{
    return a < b ? a : b;
}

// There is one way only to read.
oct_status oct_cuda_touch(oct_backend *base, size_t weight_bytes, int64_t positions, int32_t way)
{
    (void)way;
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    const size_t skipped = is_embedding_only(backend, 0) ? backend->matrices[0].bytes : 0;
    const size_t step = (size_t)oct_cuda_step_weights_bytes(base, 1, 0), there = backend->weights_bytes - skipped;
    const size_t cache = smallest((size_t)positions * position_bytes(backend), backend->kv_cache_bytes);
    oct_status status =
        oct_cuda_touch_memory(&backend->device, backend->weights + skipped,
                              smallest(there, smallest(weight_bytes, step)), backend->touched, backend->stream);
    if (status == OCT_OK)
        status = oct_cuda_touch_memory(&backend->device, backend->kv_cache, cache, backend->touched, backend->stream);
    return status == OCT_OK ? oct_cuda_wait(backend, "reading the GPU's memory") : status;
}
