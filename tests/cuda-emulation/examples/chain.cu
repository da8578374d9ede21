// Chained kernels: each may begin before the one in front of it has ended, asks for its weights, and then waits.
#include "example_device.h"

enum { THREADS = 64 };

struct alignas(16) Stage {
    float w[THREADS];
};

__global__ void __launch_bounds__(THREADS) chain_add_kernel(float *sum, const float *x, const float *y, int n, Bug bug)
{
    launch_dependents();
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (bug == BUG_NO_WAIT && i >= n)
        return;
    wait_for_predecessors();
    if (i < n)
        sum[i] = x[i] + y[n - 1 - i];
}

// A block of them, by one bulk copy.
static __device__ void start_weights(float *stage, uint64_t *barrier, const float *w, int n)
{
    const int first = (int)blockIdx.x * THREADS, left = n - first;
    const uint32_t bytes = (uint32_t)(left < THREADS ? left : THREADS) * (uint32_t)sizeof(float);
    mbar_init(barrier, 1);
    mbar_fence_init();
    mbar_arrive_tx(barrier, bytes);
    cp_bulk(stage, w + first, bytes, barrier);
}

__global__ void __launch_bounds__(THREADS) chain_multiply_kernel(float *y, float *sum, const float *w, int n, Bug bug)
{
    SHARED(Stage, stage);
    SHARED(uint64_t, barrier);
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    launch_dependents();
    if (threadIdx.x == 0)
        start_weights(stage.w, &barrier, bug == BUG_EARLY_COPY ? sum : w, n);
    const float early = bug == BUG_EARLY_READ && i < n ? sum[i] : 0.0f;
    if (bug == BUG_EARLY_WRITE && i < n)
        y[i] = early;
    __syncthreads();
    if (threadIdx.x % 2)
        mbar_wait(&barrier, 0); // a wait for weights may come before that for kernels, or behind it
    wait_for_predecessors();
    mbar_wait(&barrier, 0);
    if (i < n)
        y[i] = stage.w[threadIdx.x] * (bug == BUG_EARLY_READ ? early : sum[i]);
}

cudaError_t chain(float *y, float *sum, const float *w, const float *x, int n, int steps, Bug bug, cudaStream_t stream)
{
    const int blocks = (n + THREADS - 1) / THREADS;
    cudaError_t error = cudaSuccess;
    for (int step = 0; step < steps && !error; step++) {
        error = launch_chained(chain_add_kernel, blocks, THREADS, stream, sum, x, (const float *)y, n, bug);
        if (!error)
            error = launch_chained(chain_multiply_kernel, blocks, THREADS, stream, y, sum, w, n, bug);
    }
    return error;
}
