// Steps of the CUDA backend. What changes from step to step travels to the device in one copy, the results come back in
// another, and the host waits once, at the end. Narrow steps that want logits are prepared for 1, 2, 4, 8 and 16
// columns, as graphs or as what the persistent kernel walks: a step takes the next larger one and leaves the columns
// behind its own empty. All others, and all where an exchange waits by itself, are launched kernel by kernel, in pieces
// of as many columns as the kernels take. The bits of a column are the same either way, because no kernel's depend on
// what stands beside it.
#include <assert.h>
#include <string.h>

#include "kernels/cuda/backend_state.h"
#include "runtime/progress.h"
#include "runtime/spin.h"

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

// How often the stream is asked before the other ranks are looked after.
enum { QUERIES_A_CHECK = 64, BEYOND_PATIENCE_NS = 1000000000 };

// Waits for an event of the stream, or (NULL) for all of it.
static oct_status wait_for(oct_cuda_backend *backend, cudaEvent_t event, const char *doing)
{
    const oct_device_exchange *exchange = backend->exchange;
    for (uint32_t queries = 1;; queries++) {
        const cudaError_t error = event != NULL ? cudaEventQuery(event) : cudaStreamQuery(backend->stream);
        if (error != cudaErrorNotReady)
            return oct_cuda_check(error, doing);
        if (exchange != NULL && queries % QUERIES_A_CHECK == 0) {
            const oct_status status = exchange->check(exchange->context);
            if (status != OCT_OK)
                return status;
        }
        oct_spin_pause();
    }
}

void oct_cuda_begin_wait(const oct_cuda_backend *backend)
{
    if (backend->exchange != NULL)
        oct_progress_wait_begin(oct_cuda_kernels_exchange(backend) ? OCT_WAITS_FOR_DEVICE : -1);
}

oct_status oct_cuda_wait(oct_cuda_backend *backend, const char *doing)
{
    oct_status status = wait_for(backend, NULL, doing);
    if (status == OCT_OK && oct_cuda_kernels_exchange(backend) && *backend->peers.abort != OCT_DEVICE_WAITS)
        status = backend->exchange->check(backend->exchange->context);
    if (backend->exchange != NULL)
        oct_progress_wait_end();
    backend->is_stuck = status != OCT_OK;
    return status;
}

// The piece of `columns` and `logit_columns` whose descriptor is on the device, and whose results begin at result
// `first` of a step with `results`.
static oct_cuda_piece make_piece(const oct_cuda_backend *backend, int32_t columns, int32_t logit_columns, int32_t first,
                                 int32_t results)
{
    oct_cuda_piece piece = {.columns = columns, .logit_columns = logit_columns};
    uint8_t *sampled = backend->descriptor + OCT_CUDA_NUMBER_BYTES;
    piece.sampled = (const oct_cuda_sampled_column *)(const void *)sampled;
    piece.step = oct_cuda_step_place(sampled + oct_cuda_sampled_bytes(logit_columns), columns, logit_columns);
    piece.logits = backend->logits + first * backend->program->logits_width;
    piece.results = oct_cuda_results_place(backend->results, results);
    piece.results.hashes += first;
    piece.results.candidates += first;
    piece.results.maxima += first;
    return piece;
}

// Sends the descriptor of `step`, whose results begin at `first`, for a piece that may be wider.
static oct_status send_descriptor(oct_cuda_backend *backend, uint8_t *host, const oct_step *step, int32_t first,
                                  const oct_cuda_piece *piece)
{
    oct_cuda_sampled_column *sampled = (oct_cuda_sampled_column *)(void *)(host + OCT_CUDA_NUMBER_BYTES);
    const size_t sampled_bytes = oct_cuda_sampled_bytes(piece->logit_columns);
    *(uint32_t *)(void *)host = ++backend->piece_number;
    memset(sampled, 0, sampled_bytes);
    memcpy(sampled, backend->sampled + first, (size_t)step->logit_columns * sizeof *sampled);
    const size_t front = OCT_CUDA_NUMBER_BYTES + sampled_bytes;
    const oct_cuda_step to = oct_cuda_step_place(host + front, piece->columns, piece->logit_columns);
    const oct_cuda_heads heads = oct_cuda_heads_of(backend->program);
    const oct_cuda_cache cache = oct_cuda_cache_of(backend);
    const oct_cuda_run_limits limits = oct_cuda_run_limits_of(&heads, &cache, piece->columns);
    const size_t bytes = front + oct_cuda_step_write(&to, step, &limits);
    return oct_cuda_check(cudaMemcpyAsync(backend->descriptor, host, bytes, cudaMemcpyHostToDevice, backend->stream),
                          "sending a step");
}

// Describes the sampled columns of the whole step; biases and penalties are sent where there are any.
static oct_status describe_columns(oct_cuda_backend *backend, const oct_step *step)
{
    const oct_step_program *program = backend->program;
    const oct_operation *head = &program->operations[program->operation_count - 1];
    const int32_t first = program->vocabulary_tiles.begin * OCT_TILE_ROWS;
    const int32_t rows = (int32_t)backend->matrices[head->matrices[0]].rows;
    oct_cuda_adjustments *adjustments = &backend->adjustments;
    adjustments->bias_count = adjustments->penalty_count = 0;
    oct_status status = OCT_OK;
    for (int32_t i = 0; i < step->logit_columns && status == OCT_OK; i++) {
        static const oct_column_sampling nothing;
        const oct_column_sampling *column = step->samplings != NULL ? &step->samplings[i] : &nothing;
        status = oct_cuda_describe_column(column, first, rows, adjustments, &backend->sampled[i]);
    }
    if (status == OCT_OK && adjustments->bias_count > 0)
        status = oct_cuda_check(cudaMemcpyAsync(backend->biases, adjustments->biases,
                                                (size_t)adjustments->bias_count * sizeof *backend->biases,
                                                cudaMemcpyHostToDevice, backend->stream),
                                "sending logit biases");
    if (status == OCT_OK && adjustments->penalty_count > 0)
        status = oct_cuda_check(cudaMemcpyAsync(backend->penalties, adjustments->penalties,
                                                (size_t)adjustments->penalty_count * sizeof *backend->penalties,
                                                cudaMemcpyHostToDevice, backend->stream),
                                "sending penalties");
    return status;
}

// Columns and logit columns of graph g.
static int32_t graph_columns(int g)
{
    return 1 << g;
}

static int32_t graph_logit_columns(const oct_cuda_backend *backend, int g)
{
    return smaller(graph_columns(g), backend->options.max_logit_columns);
}

static bool has_graph(const oct_cuda_backend *backend, int g)
{
    return graph_columns(g) <= backend->piece_columns && !(backend->exchange != NULL && backend->exchange->waits);
}

// The graph for a step, or −1: it is launched kernel by kernel.
static int graph_for(const oct_cuda_backend *backend, const oct_step *step)
{
    if (backend->times != NULL || step->logit_columns == 0)
        return -1;
    for (int g = 0; g < OCT_CUDA_GRAPHS && has_graph(backend, g); g++)
        if (step->columns <= graph_columns(g))
            return g;
    return -1;
}

static oct_cuda_piece piece_of_graph(const oct_cuda_backend *backend, int g)
{
    const int32_t logit_columns = graph_logit_columns(backend, g);
    return make_piece(backend, graph_columns(g), logit_columns, 0, logit_columns);
}

static oct_status capture(oct_cuda_backend *backend, int g)
{
    const oct_cuda_piece piece = piece_of_graph(backend, g);
    cudaGraph_t graph = NULL;
    oct_status status =
        oct_cuda_check(cudaStreamBeginCapture(backend->stream, cudaStreamCaptureModeThreadLocal), "capturing a step");
    if (status != OCT_OK)
        return status;
    status = oct_cuda_walk(backend, &piece);
    const cudaError_t error = cudaStreamEndCapture(backend->stream, &graph);
    if (status == OCT_OK)
        status = oct_cuda_check(error, "capturing a step");
    if (status == OCT_OK)
        status = oct_cuda_check(cudaGraphInstantiate(&backend->graphs[g], graph, 0), "making a graph of a step");
    if (graph != NULL)
        cudaGraphDestroy(graph);
    return status == OCT_OK
               ? oct_cuda_check(cudaGraphUpload(backend->graphs[g], backend->stream), "sending a graph to the GPU")
               : status;
}

// At a barrier blocks wait a little longer than one of them may wait for another rank, which can say more.
static uint64_t barrier_limit_ns(const oct_cuda_backend *backend)
{
    const uint64_t patience_ns = backend->options.patience_ns;
    return patience_ns > 0 ? patience_ns + BEYOND_PATIENCE_NS : 0;
}

// The same walk, recorded for the persistent kernel.
static oct_status record(oct_cuda_backend *backend, int g)
{
    const oct_cuda_piece piece = piece_of_graph(backend, g);
    oct_cuda_program *program = &backend->programs[g];
    *program = (oct_cuda_program){
        .capacity = backend->record_capacity,
        .columns = piece.columns,
        .limit_ns = barrier_limit_ns(backend),
        .on_device = backend->records + (size_t)g * (size_t)backend->record_capacity * oct_cuda_program_record_bytes(),
        .words = backend->words};
    oct_status status = oct_cuda_program_begin(program, backend->stream);
    if (status == OCT_OK)
        status = oct_cuda_walk(backend, &piece);
    return oct_cuda_program_end(program, &backend->device, backend->stream, status);
}

// Steps of more columns than a draft's few are not what this executor is for: they stay graphs where they do not fit.
static oct_status record_or_capture(oct_cuda_backend *backend, int g)
{
    const oct_status status = record(backend, g);
    if (status != OCT_ERR_MACHINE || graph_columns(g) <= 8)
        return status;
    oct_note("steps of more than 8 columns stay graphs: %s", oct_failure_text());
    oct_failure_clear();
    return capture(backend, g);
}

oct_status oct_cuda_prepare_steps(oct_backend *base)
{
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    const bool persists = backend->options.executor == OCT_EXECUTOR_PERSISTENT;
    oct_status status = oct_cuda_try_reductions(backend);
    backend->words.abort = backend->exchange != NULL ? backend->exchange->abort : NULL;
    for (int g = 0; g < OCT_CUDA_GRAPHS && has_graph(backend, g) && status == OCT_OK; g++)
        status = persists ? record_or_capture(backend, g) : capture(backend, g);
    if (status == OCT_OK && persists)
        oct_note("a step of one column is one kernel: %d blocks walk %d operations, with %.0f KiB of shared memory "
                 "each",
                 backend->programs[0].blocks, backend->programs[0].count,
                 (double)backend->programs[0].shared_bytes / 1024);
    return status == OCT_OK ? oct_cuda_wait(backend, "preparing steps") : status;
}

static oct_status run_graph(oct_cuda_backend *backend, const oct_step *step, int g)
{
    const oct_cuda_piece piece = piece_of_graph(backend, g);
    backend->result_columns = piece.logit_columns;
    const oct_status status = send_descriptor(backend, backend->host_descriptors, step, 0, &piece);
    if (status != OCT_OK)
        return status;
    if (backend->programs[g].count > 0)
        return oct_cuda_program_launch(&backend->programs[g], backend->stream);
    return oct_cuda_check(cudaGraphLaunch(backend->graphs[g], backend->stream), "starting a step");
}

// Adds the times between the marks of a piece that is through.
static oct_status read_marks(oct_cuda_backend *backend)
{
    for (int32_t i = 1; i < backend->mark_count; i++) {
        float ms = 0;
        const oct_status status = oct_cuda_check(cudaEventElapsedTime(&ms, backend->marks[i - 1], backend->marks[i]),
                                                 "reading the time of an operation");
        if (status != OCT_OK)
            return status;
        const uint64_t ns = (uint64_t)((double)ms * 1e6);
        if (backend->marked[i] < OCT_OP_COUNT) {
            backend->times->ns[backend->marked[i]] += ns;
            continue;
        }
        backend->times->exchange_ns += ns;
        backend->exchange_ns += ns;
        backend->exchange_rounds++;
    }
    return OCT_OK;
}

// A piece whose operations are timed is waited for, so that its events can be used again.
static oct_status walk_timed(oct_cuda_backend *backend, const oct_cuda_piece *piece)
{
    backend->mark_count = 1;
    oct_status status = oct_cuda_check(cudaEventRecord(backend->marks[0], backend->stream), "recording an event");
    if (status == OCT_OK)
        status = oct_cuda_walk(backend, piece);
    if (status == OCT_OK)
        status = oct_cuda_wait(backend, "a step on the GPU");
    return status == OCT_OK ? read_marks(backend) : status;
}

// The part of a step that begins at column `begin` and logit column `first`.
static oct_step part_of(const oct_step *step, int32_t begin, int32_t columns, int32_t first, int32_t *logit_column)
{
    oct_step part = {.columns = columns,
                     .tokens = step->tokens + begin,
                     .positions = step->positions + begin,
                     .pages = step->pages + begin,
                     .logit_column = logit_column};
    while (first + part.logit_columns < step->logit_columns &&
           step->logit_column[first + part.logit_columns] < begin + columns) {
        logit_column[part.logit_columns] = step->logit_column[first + part.logit_columns] - begin;
        part.logit_columns++;
    }
    return part;
}

// Behind piece i: waits for the piece that is so far ahead that the next one takes its event. Every piece that is
// through is progress: a long prompt on a slow GPU is no rank that waits in vain.
static oct_status pace(oct_cuda_backend *backend, int32_t i)
{
    static const char doing[] = "a step on the GPU";
    oct_status status =
        oct_cuda_check(cudaEventRecord(backend->piece_ends[i % OCT_CUDA_PIECES_AHEAD], backend->stream), doing);
    if (status == OCT_OK && i + 1 >= OCT_CUDA_PIECES_AHEAD)
        status = wait_for(backend, backend->piece_ends[(i + 1) % OCT_CUDA_PIECES_AHEAD], doing);
    backend->is_stuck = status != OCT_OK;
    oct_progress_bump();
    return status;
}

static oct_status run_pieces(oct_cuda_backend *backend, const oct_step *step)
{
    uint8_t *descriptor = backend->host_descriptors;
    int32_t first = 0;
    backend->result_columns = step->logit_columns;
    for (int32_t begin = 0; begin < step->columns; begin += backend->piece_columns) {
        int32_t logit_column[OCT_CUDA_MAX_COLUMNS];
        const oct_step part =
            part_of(step, begin, smaller(step->columns - begin, backend->piece_columns), first, logit_column);
        const oct_cuda_piece piece = make_piece(backend, part.columns, part.logit_columns, first, step->logit_columns);
        oct_status status = send_descriptor(backend, descriptor, &part, first, &piece);
        if (status == OCT_OK)
            status = backend->times != NULL ? walk_timed(backend, &piece) : oct_cuda_walk(backend, &piece);
        if (status == OCT_OK)
            status = pace(backend, begin / backend->piece_columns);
        if (status != OCT_OK)
            return status;
        first += part.logit_columns;
        descriptor += backend->descriptor_bytes;
    }
    return OCT_OK;
}

static oct_status fetch_results(oct_cuda_backend *backend)
{
    backend->of_step = oct_cuda_results_place(backend->host_results, backend->result_columns);
    if (backend->of_step.bytes > 0) {
        const oct_status status =
            oct_cuda_check(cudaMemcpyAsync(backend->host_results, backend->results, backend->of_step.bytes,
                                           cudaMemcpyDeviceToHost, backend->stream),
                           "fetching the results of a step");
        if (status != OCT_OK)
            return status;
    }
    const oct_status status = oct_cuda_wait(backend, "a step on the GPU");
    return status == OCT_OK ? oct_cuda_program_check(&backend->words) : status;
}

oct_status oct_cuda_run_step(oct_backend *base, const oct_step *step, uint64_t *residual_hash)
{
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    assert(step->columns <= backend->options.max_columns && step->logit_columns <= backend->options.max_logit_columns);
    backend->step = step;
    backend->exchange_ns = 0;
    backend->exchange_rounds = 0;
    oct_status status = describe_columns(backend, step);
    const int g = graph_for(backend, step);
    oct_cuda_begin_wait(backend); // a launch may wait for the GPU, and that for other ranks
    if (status == OCT_OK)
        status = g >= 0 ? run_graph(backend, step, g) : run_pieces(backend, step);
    if (status == OCT_OK)
        status = fetch_results(backend);
    if (status == OCT_OK)
        *residual_hash = oct_cuda_join_hashes(backend->of_step.hashes, step->logit_columns);
    return status;
}

oct_status oct_cuda_logits(oct_backend *base, int32_t i, float *logits)
{
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    const oct_step_program *program = backend->program;
    const oct_operation *head = &program->operations[program->operation_count - 1];
    const size_t bytes = (size_t)backend->matrices[head->matrices[0]].rows * sizeof *logits;
    if (bytes == 0)
        return OCT_OK;
    const oct_status status = oct_cuda_check(cudaMemcpyAsync(logits, backend->logits + i * program->logits_width, bytes,
                                                             cudaMemcpyDeviceToHost, backend->stream),
                                             "fetching logits");
    return status == OCT_OK ? oct_cuda_wait(backend, "fetching logits") : status;
}

float oct_cuda_maximum(const oct_backend *base, int32_t i)
{
    return oct_cuda_backend_of(base)->of_step.maxima[i];
}

// The descriptions of the sampled columns are sent anew: of a step in pieces the device has only the last piece's.
oct_status oct_cuda_make_candidates(oct_backend *base, const float *maxima)
{
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    const int32_t columns = backend->step->logit_columns;
    const size_t sampled_bytes = oct_cuda_sampled_bytes(backend->options.max_logit_columns);
    memcpy(backend->host_maxima, maxima, (size_t)columns * sizeof *maxima);
    oct_status status = oct_cuda_check(cudaMemcpyAsync(backend->second_pass, backend->sampled,
                                                       sampled_bytes + (size_t)columns * sizeof *maxima,
                                                       cudaMemcpyHostToDevice, backend->stream),
                                       "sending maxima");
    const oct_cuda_piece all = {.logit_columns = columns,
                                .sampled = (const oct_cuda_sampled_column *)(const void *)backend->second_pass,
                                .logits = backend->logits,
                                .results = oct_cuda_results_place(backend->results, backend->result_columns)};
    const oct_cuda_selection selection = oct_cuda_selection_of(backend, &all);
    if (status == OCT_OK)
        status = oct_cuda_add_masses(&selection, (const float *)(const void *)(backend->second_pass + sampled_bytes),
                                     backend->stream);
    return status == OCT_OK ? fetch_results(backend) : status;
}

void oct_cuda_candidates(const oct_backend *base, int32_t i, oct_candidates *candidates)
{
    const oct_cuda_backend *backend = oct_cuda_backend_of(base);
    const int32_t list_size = oct_sampling_list_size(backend->step->samplings[i].sampling);
    memcpy(candidates, &backend->of_step.candidates[i], oct_candidates_bytes(list_size));
}
