// OCT_OP_ROPE_CACHE on the device: its kernel and its launch.
#include "kernels/cuda/rotation_body.h"

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_rope_cache_kernel(const __grid_constant__ oct_cuda_attention a)
{
    typedef oct_rope_scratch scratch_of_block[OCT_ROPE_WARPS];
    SHARED(scratch_of_block, scratch);
    oct_chain();
    oct_rope_cache_body(a, oct_place_of_launch(), scratch[oct_warp()]);
}

static int64_t heads_of(const oct_cuda_attention *a)
{
    return static_cast<int64_t>(a->step.columns) * (a->heads.heads + 2 * a->cache.kv_heads);
}

oct_status oct_cuda_rope_cache(const oct_cuda_attention *a, cudaStream_t stream)
{
    if (oct_cuda_attention_rotates(a->step.columns))
        return OCT_OK;
    const oct_status status = oct_cuda_attention_check(a);
    if (status != OCT_OK)
        return status;
    const dim3 grid(static_cast<unsigned>((heads_of(a) + OCT_ROPE_WARPS - 1) / OCT_ROPE_WARPS));
    return oct_cuda_check(
        oct_launch(oct_rope_cache_kernel, grid, dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_CHAINED, *a),
        "starting the rotation");
}

uint64_t oct_cuda_rope_cache_bytes(const oct_cuda_attention *a)
{
    return static_cast<uint64_t>(heads_of(a) * a->cache.head_dim) * (sizeof(float) + sizeof(uint16_t));
}
