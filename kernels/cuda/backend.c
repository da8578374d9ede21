// The CUDA backend: a kind of kernels/backend.h, from its creation to its end.
#include <stdlib.h>

#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/choice.h"

// What is needed to count memory; the rest of *backend is zero.
static oct_status begin(oct_cuda_backend *backend, const oct_step_program *program, const oct_backend_options *options)
{
    backend->program = program;
    backend->options = *options;
    backend->exchange = program->ranks > 1 ? options->device_exchange : NULL;
    backend->matrices = calloc((size_t)program->matrix_count, sizeof *backend->matrices);
    backend->loaders = calloc((size_t)options->loaders, sizeof *backend->loaders);
    backend->vectors = calloc((size_t)program->vector_count, sizeof *backend->vectors);
    if (backend->matrices == NULL || backend->loaders == NULL || backend->vectors == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the backend");
    return OCT_OK;
}

static void end(oct_cuda_backend *backend)
{
    free(backend->matrices);
    free(backend->loaders);
    free(backend->vectors);
}

// The dry pass. Without the encodings sizes of weights come from those of the checkpoint, which are never smaller.
static void measure(const oct_step_program *program, const size_t *matrix_bytes, const oct_backend_options *options,
                    oct_backend_sizes *sizes)
{
    oct_cuda_backend backend = {0};
    *sizes = (oct_backend_sizes){0};
    if (begin(&backend, program, options) == OCT_OK) {
        for (int32_t i = 0; i < program->matrix_count; i++)
            backend.matrices[i].bytes = matrix_bytes[i];
        oct_cuda_memory_count(&backend);
        *sizes = (oct_backend_sizes){.weights = backend.weights_bytes,
                                     .kv_cache = backend.kv_cache_bytes,
                                     .buffers = backend.buffers_bytes + backend.staging_bytes};
        sizes->buffers += oct_cuda_exchange_bytes(program, backend.exchange, backend.piece_columns);
    }
    end(&backend);
}

static oct_status create_loaders(oct_cuda_backend *backend)
{
    oct_status status = OCT_OK;
    for (int32_t thread = 0; thread < backend->options.loaders; thread++) {
        oct_cuda_loader *loader = &backend->loaders[thread];
        if (status == OCT_OK)
            status =
                oct_cuda_check(cudaStreamCreateWithFlags(&loader->stream, cudaStreamNonBlocking), "making a stream");
        for (int i = 0; i < OCT_CUDA_PIECES && status == OCT_OK; i++)
            status =
                oct_cuda_check(cudaEventCreateWithFlags(&loader->sent[i], cudaEventDisableTiming), "making an event");
    }
    return status;
}

static void destroy_loaders(oct_cuda_backend *backend)
{
    for (int32_t thread = 0; thread < backend->options.loaders; thread++) {
        const oct_cuda_loader *loader = &backend->loaders[thread];
        for (int i = 0; i < OCT_CUDA_PIECES; i++)
            if (loader->sent[i] != NULL)
                cudaEventDestroy(loader->sent[i]);
        if (loader->stream != NULL)
            cudaStreamDestroy(loader->stream);
    }
}

// Each operation leaves at most three marks: its kernels, the exchange, the kernels behind it.
static oct_status create_marks(oct_cuda_backend *backend)
{
    oct_status status = OCT_OK;
    backend->mark_capacity = 3 * backend->program->operation_count + 1;
    backend->marks = calloc((size_t)backend->mark_capacity, sizeof *backend->marks);
    backend->marked = calloc((size_t)backend->mark_capacity, sizeof *backend->marked);
    if (backend->marks == NULL || backend->marked == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for events");
    for (int32_t i = 0; i < backend->mark_capacity && status == OCT_OK; i++)
        status = oct_cuda_check(cudaEventCreate(&backend->marks[i]), "making an event");
    return status;
}

// Every call here may wait for the device.
static void close_device(oct_cuda_backend *backend)
{
    for (int g = 0; g < OCT_CUDA_GRAPHS; g++)
        if (backend->graphs[g] != NULL)
            cudaGraphExecDestroy(backend->graphs[g]);
    for (int32_t i = 0; backend->marks != NULL && i < backend->mark_capacity; i++)
        if (backend->marks[i] != NULL)
            cudaEventDestroy(backend->marks[i]);
    for (int i = 0; i < OCT_CUDA_PIECES_AHEAD; i++)
        if (backend->piece_ends[i] != NULL)
            cudaEventDestroy(backend->piece_ends[i]);
    destroy_loaders(backend);
    if (backend->stream != NULL)
        cudaStreamDestroy(backend->stream);
    oct_cuda_memory_free(backend);
}

static void destroy(oct_backend *base)
{
    if (base == NULL)
        return;
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    if (!backend->is_stuck)
        close_device(backend); // else the end of the process does
    free(backend->marks);
    free(backend->marked);
    end(backend);
    free(backend);
}

static oct_status clear(oct_cuda_backend *backend, void *memory, size_t bytes)
{
    return bytes == 0 ? OCT_OK
                      : oct_cuda_check(cudaMemsetAsync(memory, 0, bytes, backend->stream), "clearing the GPU's memory");
}

static oct_status send(oct_cuda_backend *backend, void *to, const void *from, size_t bytes)
{
    return bytes == 0 ? OCT_OK
                      : oct_cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, backend->stream),
                                       "sending a model's vectors to the GPU");
}

// What is known before the weights are. Attention multiplies positions that nobody has written by zero: the KV cache
// must hold numbers. Counters of arrivals count from zero.
static oct_status fill(oct_cuda_backend *backend, const float *const *vectors, const float *rope)
{
    const oct_step_program *program = backend->program;
    *backend->words.gave_up = 0;
    oct_status status = clear(backend, backend->kv_cache, backend->kv_cache_bytes);
    if (status == OCT_OK)
        status = clear(backend, backend->arrivals, backend->arrivals_bytes);
    if (status == OCT_OK)
        status = clear(backend, backend->selection_arrivals,
                       (size_t)backend->options.max_logit_columns * sizeof *backend->selection_arrivals);
    if (status == OCT_OK)
        status = clear(backend, backend->words.arrived, OCT_CUDA_GRID_WORDS * sizeof *backend->words.arrived);
    for (int32_t i = 0; i < program->vector_count && status == OCT_OK; i++)
        status = send(backend, backend->vectors[i], vectors[i], (size_t)program->vectors[i].size * sizeof(float));
    if (status == OCT_OK)
        status = send(backend, backend->rope, rope,
                      (size_t)backend->options.context * (size_t)program->model.rope_dims * sizeof(float));
    return status == OCT_OK ? oct_cuda_wait(backend, "filling the GPU's memory") : status;
}

static oct_status open_device(oct_cuda_backend *backend)
{
    oct_status status = oct_cuda_check(cudaGetDevice(&backend->number), "asking for the GPU");
    if (status == OCT_OK)
        status = oct_cuda_device_read(&backend->device);
    if (status == OCT_OK)
        status = oct_cuda_projection_load(&backend->device);
    if (status == OCT_OK)
        status = oct_cuda_check(cudaStreamCreateWithFlags(&backend->stream, cudaStreamNonBlocking), "making a stream");
    for (int i = 0; i < OCT_CUDA_PIECES_AHEAD && status == OCT_OK; i++)
        status = oct_cuda_check(cudaEventCreateWithFlags(&backend->piece_ends[i], cudaEventDisableTiming),
                                "making an event");
    return status;
}

static oct_status create(oct_backend **out, const oct_step_program *program, const oct_encoding *encodings,
                         const size_t *matrix_bytes, const float *const *vectors, const float *rope,
                         const oct_exchange *exchange, const oct_backend_options *options)
{
    (void)matrix_bytes;
    oct_cuda_backend *backend = calloc(1, sizeof *backend);
    if (backend == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the backend");
    backend->base.kind = &oct_cuda_backend_kind;
    backend->host_exchange = exchange;
    oct_status status = begin(backend, program, options);
    // Whatever has failed on this rank, the others wait for it here.
    const oct_status exchanged = oct_cuda_exchange_allocate(backend);
    if (status == OCT_OK)
        status = exchanged;
    if (status == OCT_OK && program->ranks > 1 && backend->exchange == NULL)
        status = oct_fail(OCT_ERR_MACHINE,
                          "%d ranks, and nothing that carries data between their GPUs; start one rank, or "
                          "use --backend cpu",
                          program->ranks);
    if (status == OCT_OK && options->executor == OCT_EXECUTOR_PERSISTENT && program->ranks > 1 &&
        !oct_cuda_kernels_exchange(backend))
        status = oct_fail(OCT_ERR_MACHINE,
                          "--executor persistent with %d ranks needs GPUs that reach the memory of each other, and "
                          "NCCL's symmetric memory (--verbose says why there is none); use --executor graph",
                          program->ranks);
    if (status == OCT_OK)
        status = open_device(backend);
    if (status == OCT_OK)
        status = create_loaders(backend);
    if (status == OCT_OK)
        status = create_marks(backend);
    if (status == OCT_OK) {
        oct_cuda_describe(backend, encodings);
        oct_cuda_memory_count(backend);
        status = oct_cuda_memory_allocate(backend);
    }
    if (status == OCT_OK)
        status = fill(backend, vectors, rope);
    if (status != OCT_OK) {
        destroy(&backend->base);
        return status;
    }
    *out = &backend->base;
    return OCT_OK;
}

static void exchange_time(const oct_backend *base, uint64_t *ns, int32_t *rounds)
{
    const oct_cuda_backend *backend = oct_cuda_backend_of(base);
    *ns = backend->exchange_ns;
    *rounds = backend->exchange_rounds;
}

static void time_operations(oct_backend *base, oct_operation_times *times)
{
    oct_cuda_backend_of(base)->times = times;
}

const oct_backend_kind oct_cuda_backend_kind = {
    .name = "cuda",
    .instructions_name = oct_cuda_instructions_name,
    .offer = oct_cuda_offer,
    .agree = oct_cuda_agree,
    .measure = measure,
    .create = create,
    .destroy = destroy,
    .place = oct_cuda_place_piece,
    .accept = oct_cuda_accept_piece,
    .finish_load = oct_cuda_finish_load,
    .prepare = oct_cuda_prepare_steps,
    .step = oct_cuda_run_step,
    .logits = oct_cuda_logits,
    .maximum = oct_cuda_maximum,
    .make_candidates = oct_cuda_make_candidates,
    .candidates = oct_cuda_candidates,
    .step_bytes = oct_cuda_step_weights_bytes,
    .operation_bytes = oct_cuda_operation_bytes,
    .exchange_time = exchange_time,
    .time_operations = time_operations,
    .touch = oct_cuda_touch,
};
