// Reading memory on the device and nothing else.
#include "kernels/cuda/touch.h"

#include "kernels/cuda/device.h"

enum { THREADS = 256, AHEAD = 4 /* loads that a thread has under way */, BLOCKS_A_PROCESSOR = 4 };

__global__ void __launch_bounds__(THREADS) oct_touch_kernel(const uint4 *memory, size_t count, uint32_t *sink)
{
    const size_t stride = static_cast<size_t>(gridDim.x) * THREADS;
    size_t at = blockIdx.x * static_cast<size_t>(THREADS) + threadIdx.x;
    uint32_t all = 0xffffffffu;
    for (; at + (AHEAD - 1) * stride < count; at += AHEAD * stride) {
        uint4 words[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            words[i] = memory[at + i * stride];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            all &= words[i].x & words[i].y & words[i].z & words[i].w;
    }
    for (; at < count; at += stride)
        all &= memory[at].x & memory[at].y & memory[at].z & memory[at].w;
    if (all == 0xffffffffu && count > 0)
        *sink = all;
}

oct_status oct_cuda_touch_memory(const oct_cuda_device *device, const void *memory, size_t bytes, uint32_t *sink,
                                 cudaStream_t stream)
{
    const unsigned blocks = static_cast<unsigned>(device->multiprocessors * BLOCKS_A_PROCESSOR);
    return oct_cuda_check(oct_launch(oct_touch_kernel, dim3(blocks), dim3(THREADS), 0, stream, OCT_LAUNCH_PLAIN,
                                     static_cast<const uint4 *>(memory), bytes / sizeof(uint4), sink),
                          "starting to read memory");
}
