// How the kernels of one encoding are chosen and launched: templates that are compiled for an encoding at a time
// (projection_*.cu), so that they are compiled side by side.
#ifndef OCT_KERNELS_CUDA_PROJECTION_LAUNCH_H
#define OCT_KERNELS_CUDA_PROJECTION_LAUNCH_H

#include "kernels/cuda/projection_kernels.h"

// The functions of an encoding.
typedef struct oct_encoding_kernels {
    bool (*fits)(const oct_cuda_device *device, const oct_cuda_projection *projection);
    cudaError_t (*allow)(size_t shared_bytes);
    cudaError_t (*launch)(const oct_cuda_device *device, const oct_cuda_projection *projection, cudaStream_t stream);
    size_t stage_bytes;
} oct_encoding_kernels;

// The shared memory of an SM holds this much less than what one block may have, beside what each block reserves.
enum { RESERVED_BYTES = 1024 };

static inline int blocks_that_fit(const oct_cuda_device *device, size_t bytes)
{
    return device->shared_bytes + RESERVED_BYTES >= 2 * (bytes + RESERVED_BYTES) ? 2 : 1;
}

// The largest number of stages for which a narrow block fits, or 0.
template <class Weights, int N> int narrow_stages(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    int stages = OCT_RING_BYTES / oct_stage_bytes<Weights>();
    stages = stages < 2 ? 2 : stages > OCT_MAX_STAGES ? OCT_MAX_STAGES : stages;
    while (stages > 0 && oct_narrow_shared_make<Weights>(*p, stages).bytes > device->shared_bytes)
        stages--;
    return stages;
}

// Blocks that wait for others have to be there: where the driver counts fewer than what shared memory has room for,
// its count holds.
template <class Weights, int N>
cudaError_t count_resident(const oct_cuda_device *device, bool waits, size_t shared, int *resident)
{
    int counted = 0;
    *resident = blocks_that_fit(device, shared) * device->multiprocessors;
    if (!waits)
        return cudaSuccess;
    const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &counted, oct_project_narrow<Weights, N>, OCT_NARROW_WARPS * OCT_WARP, shared);
    counted *= device->multiprocessors;
    *resident = counted < *resident ? counted : *resident;
    return error;
}

template <class Weights, int N>
cudaError_t launch_narrow(const oct_cuda_device *device, const oct_cuda_projection *p, int stages, cudaStream_t stream)
{
    const oct_narrow_shared shared = oct_narrow_shared_make<Weights>(*p, stages);
    const bool waits = p->epilogue == OCT_CUDA_REDUCE;
    const int items = p->tiling.items;
    int resident;
    const cudaError_t error = count_resident<Weights, N>(device, waits, shared.bytes, &resident);
    if (error != cudaSuccess)
        return error;
    return oct_launch(oct_project_narrow<Weights, N>, dim3(static_cast<unsigned>(items < resident ? items : resident)),
                      dim3(OCT_NARROW_WARPS * OCT_WARP), shared.bytes, stream,
                      waits ? OCT_LAUNCH_COOPERATIVE : OCT_LAUNCH_CHAINED, *p, shared);
}

// Two stages a warp, and as many warps as fit, at most OCT_WIDE_WARPS; 0: not even one.
template <class Weights> int wide_warps(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    int warps = OCT_WIDE_WARPS;
    while (warps > 0 && warps * oct_wide_warp_bytes<Weights>(*p) > device->shared_bytes)
        warps /= 2;
    return warps;
}

template <class Weights>
cudaError_t launch_wide(const oct_cuda_device *device, const oct_cuda_projection *p, cudaStream_t stream)
{
    const int warps = wide_warps<Weights>(device, p), columns = OCT_WIDE_TILES * 8;
    if (warps == 0)
        return cudaErrorInvalidConfiguration;
    const dim3 grid(static_cast<unsigned>((p->input.columns + columns - 1) / columns),
                    static_cast<unsigned>((p->tiling.items + warps - 1) / warps));
    const cudaError_t error =
        oct_launch(oct_project_wide<Weights>, grid, dim3(static_cast<unsigned>(warps * OCT_WARP)),
                   warps * oct_wide_warp_bytes<Weights>(*p), stream, OCT_LAUNCH_CHAINED, *p);
    return error == cudaSuccess && p->epilogue == OCT_CUDA_REDUCE
               ? oct_cuda_start_reduction(device, &p->reduction, stream)
               : error;
}

template <class Weights>
cudaError_t launch(const oct_cuda_device *device, const oct_cuda_projection *p, cudaStream_t stream)
{
    const int32_t columns = p->input.columns;
    const int narrow = columns <= 8    ? narrow_stages<Weights, 1>(device, p)
                       : columns <= 16 ? narrow_stages<Weights, 2>(device, p)
                                       : 0;
    if (narrow > 0 && columns <= 8)
        return launch_narrow<Weights, 1>(device, p, narrow, stream);
    if (narrow > 0)
        return launch_narrow<Weights, 2>(device, p, narrow, stream);
    return launch_wide<Weights>(device, p, stream);
}

template <class Weights> bool fits(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    return p->input.columns <= 8 ? narrow_stages<Weights, 1>(device, p) > 1 : narrow_stages<Weights, 2>(device, p) > 1;
}

template <class Weights> cudaError_t allow(size_t bytes)
{
    cudaError_t error = oct_allow_shared(oct_project_narrow<Weights, 1>, bytes);
    if (error == cudaSuccess)
        error = oct_allow_shared(oct_project_narrow<Weights, 2>, bytes);
    return error == cudaSuccess ? oct_allow_shared(oct_project_wide<Weights>, bytes) : error;
}

template <class Weights> oct_encoding_kernels oct_encoding_kernels_make(void)
{
    return {fits<Weights>, allow<Weights>, launch<Weights>, oct_stage_bytes<Weights>()};
}

#endif
