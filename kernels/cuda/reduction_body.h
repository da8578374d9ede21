// Inside reduction.cu: the body of the end of a reduction.
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

#endif
