// Weights on their way to the device: a thread reads a piece of the file into pinned memory, where it is checked; then
// it is copied to the device as it is and permuted there (layout.h), while the thread reads the next one.
#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/layout.h"

oct_status oct_cuda_place_piece(oct_backend *base, int32_t thread, int32_t i, uint64_t offset, size_t bytes, void **to)
{
    (void)i;
    (void)offset;
    (void)bytes;
    const oct_cuda_backend *backend = oct_cuda_backend_of(base);
    oct_cuda_loader *loader = &backend->loaders[thread];
    oct_status status = oct_cuda_check(cudaSetDevice(backend->number), "taking a GPU");
    loader->turn = (loader->turn + 1) % OCT_CUDA_PIECES;
    if (status == OCT_OK)
        status = oct_cuda_check(cudaEventSynchronize(loader->sent[loader->turn]), "copying weights to the GPU");
    *to = loader->piece[loader->turn];
    return status;
}

// Strips of one K range: where they lie in the checkpoint's run of the matrix, and on the device.
typedef struct strip_run {
    int64_t first, last; // columns
    uint64_t begin, end; // bytes of the checkpoint
    size_t strip_bytes;
    uint8_t *to;
} strip_run;

// The strips in which byte `offset` of the run of matrix i stands.
static strip_run run_at(const oct_cuda_backend *backend, int32_t i, uint64_t offset)
{
    const oct_cuda_shard_matrix *matrix = &backend->matrices[i];
    const oct_program_matrix *shard = &backend->program->matrices[i];
    const uint64_t tiles = (uint64_t)oct_tile_count(matrix->rows);
    strip_run run = {.last = shard->spec.columns, .to = matrix->weights};
    if (shard->spec.split == OCT_SPLIT_ROWS) {
        run.strip_bytes = oct_strip_bytes(matrix->encoding, 0, run.last);
        run.end = tiles * run.strip_bytes;
        return run;
    }
    for (int32_t s = 0; s < matrix->plan.segment_count && offset >= run.end; s++) {
        const oct_cuda_segment *segment = &matrix->plan.segments[s];
        run.first = segment->first;
        run.last = segment->last;
        run.strip_bytes = oct_strip_bytes(matrix->encoding, run.first, run.last);
        run.begin = run.end;
        run.end += tiles * run.strip_bytes;
        run.to = matrix->weights + segment->offset;
    }
    return run;
}

// Permutes the whole strips that stand in raw + at; returns their bytes in *done.
static oct_status permute(const oct_cuda_backend *backend, oct_cuda_loader *loader, int32_t i, uint64_t offset,
                          size_t at, size_t bytes, size_t *done)
{
    const oct_encoding encoding = backend->matrices[i].encoding;
    const strip_run run = run_at(backend, i, offset);
    const size_t there = oct_strip_bytes(oct_cuda_encoding(encoding), run.first, run.last);
    const uint64_t left = run.end - offset, first = (offset - run.begin) / run.strip_bytes;
    const size_t strips = (bytes < left ? bytes : (size_t)left) / run.strip_bytes;
    *done = strips * run.strip_bytes;
    return oct_cuda_layout_strips(encoding, run.first, run.last, (int64_t)strips, loader->raw + at,
                                  run.to + first * there, loader->stream);
}

// A granule that comes in parts may end a part within a strip: its beginning is kept until the next part is there.
static oct_status keep_rest(oct_cuda_loader *loader, size_t at, size_t bytes)
{
    loader->held = bytes;
    if (bytes == 0 || at == 0)
        return OCT_OK;
    return oct_cuda_check(
        cudaMemcpyAsync(loader->raw, loader->raw + at, bytes, cudaMemcpyDeviceToDevice, loader->stream),
        "keeping a part of a strip");
}

oct_status oct_cuda_accept_piece(oct_backend *base, int32_t thread, int32_t i, uint64_t offset, size_t bytes)
{
    const oct_cuda_backend *backend = oct_cuda_backend_of(base);
    oct_cuda_loader *loader = &backend->loaders[thread];
    oct_status status = oct_cuda_check(cudaMemcpyAsync(loader->raw + loader->held, loader->piece[loader->turn], bytes,
                                                       cudaMemcpyHostToDevice, loader->stream),
                                       "copying weights to the GPU");
    if (status == OCT_OK)
        status = oct_cuda_check(cudaEventRecord(loader->sent[loader->turn], loader->stream), "recording an event");
    const uint64_t begin = offset - loader->held;
    const size_t there = loader->held + bytes;
    size_t at = 0;
    for (size_t done = 1; status == OCT_OK && at < there && done > 0; at += done)
        status = permute(backend, loader, i, begin + at, at, there - at, &done);
    return status != OCT_OK ? status : keep_rest(loader, at, there - at);
}

oct_status oct_cuda_finish_load(oct_backend *base)
{
    oct_cuda_backend *backend = oct_cuda_backend_of(base);
    for (int32_t thread = 0; thread < backend->options.loaders; thread++) {
        const oct_status status =
            oct_cuda_check(cudaStreamSynchronize(backend->loaders[thread].stream), "copying weights to the GPU");
        if (status != OCT_OK)
            return status;
    }
    oct_cuda_staging_free(backend);
    return OCT_OK;
}
