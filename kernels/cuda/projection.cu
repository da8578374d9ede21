// Projections: checks, and the choice of the encoding. The kernels are in projection_kernels.h; the files
// projection_*.cu compile them for some of the encodings each.
#include "kernels/cuda/projection_launch.h"
#include "kernels/cuda/record.h"

#define OCT_DECLARE(encoding, name, ...)                                                                               \
    extern template oct_encoding_kernels oct_encoding_kernels_make<oct_weights_##name>(void);
OCT_INTEGER_ENCODINGS(OCT_DECLARE)
OCT_DECLARE(OCT_BF16, bf16, )

static oct_encoding_kernels kernels_of(oct_encoding encoding)
{
    switch (encoding) {
#define OCT_CASE(number, name, ...)                                                                                    \
    case number:                                                                                                       \
        return oct_encoding_kernels_make<oct_weights_##name>();
        OCT_INTEGER_ENCODINGS(OCT_CASE)
        OCT_CASE(OCT_BF16, bf16, )
    default: // plans have none of the others
        return {nullptr, nullptr, nullptr, nullptr};
    }
}

// Inputs that are larger than this are read from the caches instead: two blocks shall fit on an SM.
enum { OWN_INPUT_BYTES = 32768 };

bool oct_cuda_input_fits(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    oct_cuda_projection own = *p;
    own.input.prepared = nullptr;
    own = oct_cuda_worked_out(own, oct_cuda_stage_bytes(&p->plan));
    return p->input.columns <= OCT_CUDA_NARROW_COLUMNS &&
           oct_cuda_prepared_bytes(p->input.width, p->input.columns) <= OWN_INPUT_BYTES &&
           kernels_of(p->plan.encoding).fits(device, &own);
}

oct_status oct_cuda_projection_load(const oct_cuda_device *device)
{
    cudaError_t error = cudaSuccess;
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT && error == cudaSuccess; encoding++) {
        const oct_encoding_kernels kernels = kernels_of(static_cast<oct_encoding>(encoding));
        if (kernels.allow != nullptr)
            error = kernels.allow(device->shared_bytes);
    }
    return oct_cuda_check(error, "allowing the projections their shared memory");
}

static oct_status check(const oct_cuda_projection *p)
{
    const bool pair = p->epilogue == OCT_CUDA_SILU_MULTIPLY, one = p->epilogue >= OCT_CUDA_SILU_OF_OUT;
    if (p->matrix_count < 1 || p->matrix_count > OCT_CUDA_MATRICES || (pair && p->matrix_count != 2) ||
        (one && p->matrix_count != 1) || (pair && p->matrices[0].rows != p->matrices[1].rows))
        return oct_fail(OCT_ERR_INTERNAL,
                        "a projection of %d matrices with epilogue %d, expected as many as it takes, of one shape",
                        static_cast<int>(p->matrix_count), static_cast<int>(p->epilogue));
    if (p->plan.nodes != 1 && p->epilogue != OCT_CUDA_NODES && p->epilogue != OCT_CUDA_REDUCE)
        return oct_fail(OCT_ERR_INTERNAL, "a projection with %d nodes and epilogue %d, expected one node",
                        static_cast<int>(p->plan.nodes), static_cast<int>(p->epilogue));
    if (p->input.columns < 1 || p->input.columns > OCT_CUDA_MAX_COLUMNS)
        return oct_fail(OCT_ERR_INTERNAL, "a projection of %d columns, expected 1 to %d",
                        static_cast<int>(p->input.columns), OCT_CUDA_MAX_COLUMNS);
    return OCT_OK;
}

size_t oct_cuda_stage_bytes(const oct_cuda_plan *plan)
{
    return kernels_of(plan->encoding).stage_bytes(plan);
}

// The persistent kernel has the narrow bodies, and rings of its own.
static cudaError_t record(const oct_cuda_projection *p)
{
    if (p->input.columns > OCT_CUDA_NARROW_COLUMNS)
        return cudaErrorInvalidValue;
    const dim3 items(static_cast<unsigned>(p->tiling.items));
    return oct_record(OCT_BODY_PROJECT, items, p->tiling.scratch_bytes, p, sizeof *p);
}

oct_status oct_cuda_project(const oct_cuda_device *device, const oct_cuda_projection *p, cudaStream_t stream)
{
    if (p->plan.segment_count == 0) // a rank without a granule publishes nothing
        return p->epilogue == OCT_CUDA_REDUCE ? oct_cuda_reduce(device, &p->reduction, stream) : OCT_OK;
    const oct_status status = check(p);
    if (status != OCT_OK)
        return status;
    if (p->input.prepared == nullptr && !oct_cuda_input_fits(device, p))
        return oct_fail(OCT_ERR_INTERNAL, "an input of %d columns of %d is not prepared, and too large for each block",
                        static_cast<int>(p->input.columns), static_cast<int>(p->input.width));
    const oct_cuda_projection worked_out = oct_cuda_worked_out(*p, oct_cuda_stage_bytes(&p->plan));
    return oct_cuda_check(oct_recording(stream) ? record(&worked_out)
                                                : kernels_of(p->plan.encoding).launch(device, &worked_out, stream),
                          "launching a projection");
}

uint64_t oct_cuda_project_bytes(const oct_cuda_projection *p)
{
    const uint64_t columns = static_cast<uint64_t>(p->input.columns), width = static_cast<uint64_t>(p->input.width);
    const uint64_t wide = OCT_WIDE_TILES * 8,
                   passes = columns <= OCT_CUDA_NARROW_COLUMNS ? 1 : (columns + wide - 1) / wide;
    uint64_t bytes = p->input.prepared == nullptr ? columns * width * sizeof(float)
                                                  : oct_cuda_prepared_bytes(p->input.width, p->input.columns);
    for (int m = 0; m < p->matrix_count; m++) {
        const uint64_t rows = static_cast<uint64_t>(p->matrices[m].rows), tiles = (rows + 15) / 16;
        uint64_t tile = 0;
        for (int s = 0; s < p->plan.segment_count; s++)
            tile += oct_strip_bytes(p->plan.encoding, p->plan.segments[s].first, p->plan.segments[s].last);
        bytes += passes * tiles * tile;
        if (p->epilogue != OCT_CUDA_SILU_MULTIPLY || m == 0)
            bytes += columns * rows * sizeof(float) * static_cast<uint64_t>(p->plan.nodes) *
                     (p->epilogue == OCT_CUDA_ADD || p->epilogue == OCT_CUDA_SILU_OF_OUT ? 2 : 1);
    }
    if (p->epilogue == OCT_CUDA_REDUCE && columns <= OCT_CUDA_NARROW_COLUMNS)
        bytes += oct_cuda_reduce_bytes(&p->reduction);
    return bytes;
}
