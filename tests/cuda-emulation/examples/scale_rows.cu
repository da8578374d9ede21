// Shared memory between the warps of a block, and the barrier that it needs.
#include "example_device.h"

enum { THREADS = 128, WARPS = THREADS / 32 };

struct RowSums {
    float of_warp[WARPS];
};

__global__ void __launch_bounds__(THREADS) scale_rows_kernel(float *out, const float *x, int columns, Bug bug)
{
    SHARED(RowSums, sums);
    float *of_warp = sums.of_warp + (bug == BUG_SHARED_BOUNDS ? WARPS : 0);
    const float *row = x + (size_t)blockIdx.x * (size_t)columns;
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    float squares = 0;
    for (int i = thread; i < columns; i += THREADS)
        squares = fmaf(row[i], row[i], squares);
    squares = warp_sum(squares);
    if (lane == 0 && !(bug == BUG_UNWRITTEN_SHARED && warp == 1))
        of_warp[warp] = squares;
    if (bug == BUG_DIVERGENT_BARRIER && lane == 0)
        __syncthreads();
    else if (bug == BUG_WAITS_FOR_MORE)
        __barrier_sync_count(1, THREADS + 32);
    else if (bug != BUG_NO_BARRIER)
        __syncthreads();
    float sum = 0;
    for (int i = 0; i < WARPS; i++)
        sum += of_warp[i];
    float scale = rsqrtf(sum / (float)columns);
    for (int i = thread; i < columns; i += THREADS)
        out[(size_t)blockIdx.x * (size_t)columns + (size_t)i] = row[i] * scale;
}

cudaError_t scale_rows(float *out, const float *x, int rows, int columns, Bug bug, cudaStream_t stream)
{
    return launch(scale_rows_kernel, rows, THREADS, 0, false, stream, out, x, columns, bug);
}
