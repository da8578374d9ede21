// Inside reduction.cu and persistent.cu: the bodies of the end of a reduction and of the hash of the residual.
#ifndef OCT_KERNELS_CUDA_REDUCTION_BODY_H
#define OCT_KERNELS_CUDA_REDUCTION_BODY_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/reduction.h"

enum { OCT_FINISH_AHEAD = 8 /* nodes that a thread has under way */ };

typedef float4 oct_waiting[OCT_CUDA_TREE_DEPTH][OCT_BLOCK_THREADS];

OCT_DEVICE float4 oct_add_four(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Block (1024 elements, column): a thread has four elements, and a stack of its own in shared memory.
OCT_DEVICE void oct_finish_body(const oct_cuda_finish &f, const oct_place &place, oct_waiting &stack)
{
    const int32_t element = (place.x * OCT_BLOCK_THREADS + static_cast<int32_t>(threadIdx.x)) * 4;
    if (element >= f.hidden)
        return;
    const int64_t at = static_cast<int64_t>(place.y) * f.hidden + element;
    const float4 before = oct_load<float4>(f.residual + at);
    int top = 0;
    for (int32_t begin = 0; begin < f.nodes; begin += OCT_FINISH_AHEAD) {
        float4 nodes[OCT_FINISH_AHEAD];
#pragma unroll
        for (int i = 0; i < OCT_FINISH_AHEAD; i++)
            if (begin + i < f.nodes)
                nodes[i] = oct_load<float4>(f.node[begin + i] + at);
#pragma unroll
        for (int i = 0; i < OCT_FINISH_AHEAD; i++)
            if (begin + i < f.nodes) {
                float4 sum = nodes[i];
                for (int merge = 0; merge < f.merges[begin + i]; merge++)
                    sum = oct_add_four(stack[--top][threadIdx.x], sum);
                stack[top++][threadIdx.x] = sum;
            }
    }
    oct_store(f.residual + at, oct_add_four(before, stack[0][threadIdx.x]));
}

// The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
static __host__ __device__ __forceinline__ uint64_t oct_scatter(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

typedef uint64_t oct_warp_hashes[OCT_BLOCK_THREADS / OCT_WARP];

typedef struct oct_hash_operands {
    const int32_t *logit_column;
    const float *residual;
    int32_t hidden;
    uint64_t *hashes;
} oct_hash_operands;

// A logit column a block: the sum of a number for each element that depends on its place and its bits, in any order, so
// by all threads.
OCT_DEVICE void oct_hash_body(const oct_hash_operands &h, const oct_place &place, oct_warp_hashes &of_warp)
{
    const int32_t column = h.logit_column[place.x];
    uint64_t hash = 0;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); column >= 0 && i < h.hidden; i += OCT_BLOCK_THREADS) {
        const float value = h.residual[static_cast<int64_t>(column) * h.hidden + i];
        hash += oct_scatter(static_cast<uint64_t>(i) << 32 | __float_as_uint(value));
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
    h.hashes[place.x] = hash;
}

#endif
