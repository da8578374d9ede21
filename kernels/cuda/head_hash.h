// Inside head.cu: the hash of the residual by which ranks are compared, made beside the selection of candidates.
#ifndef OCT_KERNELS_CUDA_HEAD_HASH_H
#define OCT_KERNELS_CUDA_HEAD_HASH_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/head.h"

// The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
static __host__ __device__ __forceinline__ uint64_t oct_scatter(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

typedef uint64_t oct_warp_hashes[OCT_BLOCK_THREADS / OCT_WARP];

OCT_DEVICE uint64_t oct_scatter_element(int32_t i, float value)
{
    return oct_scatter(static_cast<uint64_t>(i) << 32 | __float_as_uint(value));
}

// Logit column i, by a block: the sum of a number for each element that depends on its place and its bits, in any
// order, so by all threads.
OCT_DEVICE void oct_hash_column(const oct_cuda_residual_hash &h, int32_t i, oct_warp_hashes &of_warp)
{
    const int32_t column = h.logit_column[i], hidden = column >= 0 ? h.hidden : 0;
    const float *residual = h.residual + static_cast<int64_t>(column) * hidden;
    uint64_t hash = 0;
#pragma unroll 2
    for (int32_t e = static_cast<int32_t>(threadIdx.x) * 4; e < hidden; e += 4 * OCT_BLOCK_THREADS) {
        const float4 four = oct_load<float4>(residual + e);
        hash += oct_scatter_element(e, four.x) + oct_scatter_element(e + 1, four.y) +
                oct_scatter_element(e + 2, four.z) + oct_scatter_element(e + 3, four.w);
    }
    for (int offset = OCT_WARP / 2; offset > 0; offset /= 2)
        hash += __shfl_xor_sync(OCT_WARP_MASK, hash, offset);
    if (oct_lane() == 0)
        of_warp[oct_warp()] = hash;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int w = 1; w < OCT_BLOCK_THREADS / OCT_WARP; w++)
        hash += of_warp[w];
    h.hashes[i] = hash;
}

#endif
