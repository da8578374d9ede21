// One warp a row: loads of 16 bytes and a collective of the whole warp.
#include "example_device.h"

enum { THREADS = 128, ROWS_OF_BLOCK = THREADS / 32 };

__global__ void __launch_bounds__(THREADS)
    matrix_vector_kernel(float *y, const float *w, const float *x, int rows, int columns, Bug bug)
{
    int lane = (int)threadIdx.x % 32, row = (int)blockIdx.x * ROWS_OF_BLOCK + (int)threadIdx.x / 32;
    if (row >= rows && bug != BUG_GLOBAL_BOUNDS)
        return;
    if (bug == BUG_LEFT_COLLECTIVE && lane * 4 >= columns)
        return;
    const float *row_at = w + (size_t)row * (size_t)columns + (bug == BUG_MISALIGNED ? 1 : 0);
    float sum = 0;
    for (int i = lane * 4; i < columns; i += 32 * 4)
        sum += dot4(ld_nc_v4(row_at + i), x + i);
    sum = warp_sum(sum);
    if (lane == 0)
        y[row] = sum;
}

cudaError_t matrix_vector(float *y, const float *w, const float *x, int rows, int columns, Bug bug,
                          cudaStream_t stream)
{
    int blocks = (rows + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    return launch(matrix_vector_kernel, blocks, THREADS, 0, false, stream, y, w, x, rows, columns, bug);
}
