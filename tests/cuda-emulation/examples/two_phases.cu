// A cooperative launch: all blocks are there, and wait for each other between two phases.
#include <cooperative_groups.h>

#include "example_device.h"

enum { THREADS = 64 };

static __device__ void wait_for_all_blocks(uint32_t *counter)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(counter, 1u);
        while (ld_acquire_gpu(counter) < gridDim.x) {
        }
    }
    __syncthreads();
}

__global__ void __launch_bounds__(THREADS) two_phases_kernel(float *out, float *middle, const float *x, int n,
                                                             uint32_t *counter, bool groups, Bug bug)
{
    int first = (int)(blockIdx.x * THREADS + threadIdx.x), all = (int)(gridDim.x * THREADS);
    for (int i = first; i < n; i += all)
        middle[i] = x[i] * x[i];
    if (bug != BUG_NO_GRID_BARRIER && groups)
        cooperative_groups::this_grid().sync();
    else if (bug != BUG_NO_GRID_BARRIER)
        wait_for_all_blocks(counter);
    for (int i = first; i < n; i += all)
        out[i] = middle[i] + middle[n - 1 - i];
}

cudaError_t two_phases(float *out, float *middle, const float *x, int n, int blocks, uint32_t *counter,
                       bool groups, Bug bug, cudaStream_t stream)
{
    return launch(two_phases_kernel, blocks, THREADS, 0, bug != BUG_NOT_COOPERATIVE, stream, out, middle, x,
                  n, counter, groups, bug);
}
