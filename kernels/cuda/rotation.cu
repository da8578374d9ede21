// OCT_OP_ROPE_CACHE on the device: its kernel and its launch.
#include "kernels/cuda/record.h"
#include "kernels/cuda/rotation_body.h"

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_rope_cache_kernel(const __grid_constant__ oct_cuda_attention a)
{
    SHARED(oct_heads_of_block, heads);
    oct_chain();
    oct_rope_cache_body(a, oct_place_of_launch(), heads);
}

static int64_t heads_of(const oct_cuda_attention *a)
{
    return static_cast<int64_t>(a->step.columns) * (a->heads.heads + 2 * a->cache.kv_heads);
}

oct_status oct_cuda_rope_cache(const oct_cuda_attention *a, cudaStream_t stream)
{
    const int32_t head_dim = a->cache.head_dim;
    if (head_dim % 32 != 0 || head_dim > OCT_CUDA_MAX_HEAD_DIM || a->rope_dims % 2 != 0 || a->rope_dims > head_dim)
        return oct_fail(OCT_ERR_INTERNAL, "heads of %d elements, %d rotated, are not what the kernels are made for",
                        head_dim, a->rope_dims);
    const dim3 grid(static_cast<unsigned>((heads_of(a) + OCT_ROPE_WARPS - 1) / OCT_ROPE_WARPS));
    return oct_cuda_check(
        oct_issue(OCT_BODY_ROPE_CACHE, oct_rope_cache_kernel, grid, 0, sizeof(oct_heads_of_block), stream, *a),
        "starting the rotation");
}

uint64_t oct_cuda_rope_cache_bytes(const oct_cuda_attention *a)
{
    return static_cast<uint64_t>(heads_of(a) * a->cache.head_dim) * (sizeof(float) + sizeof(uint16_t));
}
