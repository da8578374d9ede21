// The tensor core: two stages of asynchronous copies, ldmatrix, mma.sync. 32 rows a block, 16 a warp, k in
// steps of 64. Chunks of 16 bytes are swizzled, so that a device would read them without conflicts.
#include "example_device.h"

enum { WARPS = 2, THREADS = WARPS * 32, ROWS = WARPS * 16, STEP = 64, CHUNKS = STEP / 8, COLUMNS = 8 };

struct Stages {
    uint4 w[2][ROWS][CHUNKS], x[2][COLUMNS][CHUNKS];
};

// Copies a step of `rows` rows of `from`, zeros behind the last row and column.
static __device__ void copy_step(uint4 (*to)[CHUNKS], int rows, const uint16_t *from, int rows_there,
                                 int first, int k)
{
    for (int i = (int)threadIdx.x; i < rows * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS, column = first + chunk * 8;
        bool there = row < rows_there && column < k;
        cp_async16(&to[row][chunk ^ (row % 8)], there ? from + (size_t)row * (size_t)k + column : from,
                   there ? 16 : 0);
    }
}

static __device__ void multiply_step(float sum[4], const uint4 (*w)[CHUNKS], const uint4 (*x)[CHUNKS],
                                     Bug bug)
{
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 16 + lane % 16, column = lane / 4;
    for (int part = 0; part < STEP / 16; part++) {
        uint32_t a[4], b[2];
        ldmatrix_x4(a, &w[row][(part * 2 + lane / 16) ^ (row % 8)]);
        for (int i = 0; i < 2; i++)
            b[i] = ((const uint32_t *)&x[column][(part * 2 + i) ^ column])[lane % 4];
        if (bug == BUG_FRAGMENT_ORDER) {
            uint32_t other = a[1];
            a[1] = a[2];
            a[2] = other;
        }
        mma_bf16(sum, a, b);
    }
}

__global__ void __launch_bounds__(THREADS)
    matrix_product_kernel(float *c, const uint16_t *w, const uint16_t *x, int m, int n, int k, Bug bug)
{
    SHARED(Stages, stages);
    int first_row = (int)blockIdx.x * ROWS, lane = (int)threadIdx.x % 32;
    auto start = [&](int stage, int first) {
        copy_step(stages.w[stage], ROWS, w + (size_t)first_row * (size_t)k, m - first_row, first, k);
        copy_step(stages.x[stage], COLUMNS, x, n, first, k);
        cp_async_commit();
    };
    float sum[4] = {};
    start(0, 0);
    for (int first = 0, stage = 0; first < k; first += STEP, stage ^= 1) {
        bool more = first + STEP < k;
        if (more)
            start(stage ^ 1, first + STEP);
        if (more && bug == BUG_WAITS_FOR_FEWER)
            cp_async_wait<2>();
        else if (more)
            cp_async_wait<1>();
        else if (bug != BUG_LEFT_COPY)
            cp_async_wait<0>();
        __syncthreads();
        multiply_step(sum, stages.w[stage], stages.x[stage], bug);
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) {
        int row = first_row + (int)threadIdx.x / 32 * 16 + lane / 4 + 8 * (i / 2),
            column = lane % 4 * 2 + i % 2;
        if (row < m && column < n)
            c[(size_t)row * (size_t)n + (size_t)column] = sum[i];
    }
}

cudaError_t matrix_product(float *c, const uint16_t *w, const uint16_t *x, int m, int n, int k, Bug bug,
                           cudaStream_t stream)
{
    return launch(matrix_product_kernel, (m + ROWS - 1) / ROWS, THREADS, 0, false, stream, c, w, x, m, n, k,
                  bug);
}
