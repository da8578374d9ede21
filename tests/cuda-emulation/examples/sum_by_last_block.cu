// Blocks that hand over by a counter in memory: fences order the sums with it.
#include "example_device.h"

enum { THREADS = 32 };

struct Last {
    bool is;
};

__global__ void __launch_bounds__(THREADS)
    sum_by_last_block_kernel(float *out, const float *x, int n, float *partial, uint32_t *counter, Bug bug)
{
    SHARED(Last, last);
    int share = (n + (int)gridDim.x - 1) / (int)gridDim.x, first = (int)blockIdx.x * share,
        end = min(n, first + share);
    float sum = 0;
    for (int i = first + (int)threadIdx.x; i < end; i += THREADS)
        sum += x[i];
    sum = warp_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        if (bug != BUG_NO_FENCE)
            __threadfence();
        last.is = atomicAdd(counter, 1u) == gridDim.x - 1;
        if (bug != BUG_NO_FENCE)
            __threadfence(); // the other side: what is read below was there before the counter
    }
    __syncthreads();
    if (!last.is || threadIdx.x != 0)
        return;
    float total = 0;
    for (unsigned block = 0; block < gridDim.x; block++)
        total += __ldcg(&partial[block]);
    *out = total;
    *counter = 0;
}

cudaError_t sum_by_last_block(float *out, const float *x, int n, int blocks, float *partial,
                              uint32_t *counter, Bug bug, cudaStream_t stream)
{
    return launch(sum_by_last_block_kernel, blocks, THREADS, 0, false, stream, out, x, n, partial, counter,
                  bug);
}
