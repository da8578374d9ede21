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
    uint32_t (*stage_bytes)(const oct_cuda_plan *plan);
} oct_encoding_kernels;

// The shared memory of an SM holds this much less than what one block may have, beside what each block reserves.
enum { RESERVED_BYTES = 1024 };

// Narrow blocks that a multiprocessor holds, where they have so much shared memory, none: it is too much; registers have
// room for `most` of them.
static inline int blocks_that_fit(const oct_cuda_device *device, size_t bytes, int most)
{
    const int fit = static_cast<int>((device->shared_bytes + RESERVED_BYTES) / (bytes + RESERVED_BYTES));
    return fit < most ? fit : most;
}

// Warps of a narrow block. Where one block a multiprocessor has all tiles, more warps share its segments; but blocks
// that wait for others are as those of the persistent kernel.
static inline int narrow_warps(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    const bool many = p->tiling.items <= device->multiprocessors && p->tiling.pieces >= OCT_MANY_WARPS &&
                      p->epilogue != OCT_CUDA_REDUCE;
    return many ? OCT_MANY_WARPS : OCT_NARROW_WARPS;
}

// Blocks of a launch on a multiprocessor at most: two, but three where registers have room and each then has one tile.
static inline int most_blocks(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    const int of_work = oct_ceiling(p->tiling.items, device->multiprocessors);
    if (narrow_warps(device, p) == OCT_MANY_WARPS)
        return 1;
    return of_work < 2 ? of_work : of_work == 3 && p->input.columns <= 8 ? 3 : 2;
}

// Where a narrow block's shared memory is, with as many blocks and then as many stages as fit; none: it does not fit.
static inline oct_narrow_shared narrow_shared(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    const int warps = narrow_warps(device, p);
    int stages = OCT_RING_BYTES * OCT_NARROW_WARPS / warps / static_cast<int>(p->tiling.stage_bytes);
    stages = stages < 2 ? 2 : stages > OCT_MAX_STAGES ? OCT_MAX_STAGES : stages;
    oct_narrow_shared shared = {};
    for (int blocks = most_blocks(device, p); blocks > 0; blocks--)
        for (int s = stages; s > (blocks > 1 ? 1 : 0); s--) {
            shared = oct_narrow_shared_make(*p, warps, s);
            if (blocks_that_fit(device, shared.bytes, blocks) == blocks)
                return shared;
        }
    shared.stages = 0;
    return shared;
}

// Blocks that wait for others have to be there: where the driver counts fewer than what shared memory has room for,
// its count holds.
template <class Weights, int N>
cudaError_t count_resident(const oct_cuda_device *device, const oct_cuda_projection *p, const oct_narrow_shared &shared,
                           int *resident)
{
    int counted = 0;
    *resident = blocks_that_fit(device, shared.bytes, most_blocks(device, p)) * device->multiprocessors;
    if (p->epilogue != OCT_CUDA_REDUCE)
        return cudaSuccess;
    const cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &counted, oct_project_narrow<Weights, N>, shared.warps * OCT_WARP, shared.bytes);
    counted *= device->multiprocessors;
    *resident = counted < *resident ? counted : *resident;
    return error;
}

template <class Weights, int N>
cudaError_t launch_narrow(const oct_cuda_device *device, const oct_cuda_projection *p, const oct_narrow_shared &shared,
                          cudaStream_t stream)
{
    const bool waits = p->epilogue == OCT_CUDA_REDUCE;
    const int items = p->tiling.items;
    int resident;
    const cudaError_t error = count_resident<Weights, N>(device, p, shared, &resident);
    if (error != cudaSuccess)
        return error;
    return oct_launch(oct_project_narrow<Weights, N>, dim3(static_cast<unsigned>(items < resident ? items : resident)),
                      dim3(static_cast<unsigned>(shared.warps * OCT_WARP)), shared.bytes, stream,
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
    const oct_narrow_shared narrow = narrow_shared(device, p);
    if (columns > OCT_CUDA_NARROW_COLUMNS || narrow.stages == 0)
        return launch_wide<Weights>(device, p, stream);
    return columns <= 8 ? launch_narrow<Weights, 1>(device, p, narrow, stream)
                        : launch_narrow<Weights, 2>(device, p, narrow, stream);
}

template <class Weights> bool fits(const oct_cuda_device *device, const oct_cuda_projection *p)
{
    return narrow_shared(device, p).stages > 1;
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
    return {fits<Weights>, allow<Weights>, launch<Weights>, oct_plan_stage_bytes<Weights>};
}

#endif
