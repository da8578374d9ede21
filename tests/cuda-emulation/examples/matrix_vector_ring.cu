// A ring in dynamic shared memory: one warp fills its stages by bulk copies, the others multiply. Two
// barriers in memory guard each stage: `full`, where the bytes arrive, and `empty`, where the warps that have
// read it arrive.
#include "example_device.h"

enum { WARPS = 4, THREADS = (WARPS + 1) * 32, STAGES = 3, CHUNK = 128, BLOCKS = 2 };

struct Ring {
    float weights[STAGES][WARPS][CHUNK]; // one row a warp
    uint64_t full[STAGES], empty[STAGES];
};

// How often the ring has been gone round is the parity of a stage's phase.
struct Place {
    int stage = 0;
    uint32_t parity = 0;

    __device__ void next()
    {
        if (++stage < STAGES)
            return;
        stage = 0;
        parity ^= 1;
    }
};

static __device__ void fill(Ring *ring, const float *w, int rows, int columns)
{
    Place place;
    for (int first = (int)blockIdx.x * WARPS; first < rows; first += BLOCKS * WARPS)
        for (int column = 0; column < columns; column += CHUNK, place.next()) {
            int wide = min(CHUNK, columns - column), high = min(WARPS, rows - first);
            uint32_t bytes = (uint32_t)wide * 4;
            mbar_wait(&ring->empty[place.stage], place.parity ^ 1);
            mbar_arrive_tx(&ring->full[place.stage], bytes * (uint32_t)high);
            for (int row = 0; row < high; row++)
                cp_bulk(ring->weights[place.stage][row], w + (size_t)(first + row) * (size_t)columns + column,
                        bytes, &ring->full[place.stage]);
        }
}

static __device__ void multiply(Ring *ring, float *y, const float *x, int rows, int columns, Bug bug)
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    Place place;
    for (int row = (int)blockIdx.x * WARPS + warp; row - warp < rows; row += BLOCKS * WARPS) {
        float sum = 0;
        for (int column = 0; column < columns; column += CHUNK, place.next()) {
            int wide = min(CHUNK, columns - column);
            mbar_wait(&ring->full[place.stage], place.parity);
            if (row < rows && lane * 4 < wide)
                sum +=
                    dot4(*(const uint4 *)&ring->weights[place.stage][warp][lane * 4], x + column + lane * 4);
            if (bug != BUG_NO_WARP_BARRIER)
                __syncwarp();
            if (lane == 0 || bug == BUG_MORE_ARRIVALS)
                mbar_arrive(&ring->empty[place.stage]);
        }
        sum = warp_sum(sum);
        if (row < rows && lane == 0)
            y[row] = sum;
    }
}

__global__ void __launch_bounds__(THREADS)
    matrix_vector_ring_kernel(float *y, const float *w, const float *x, int rows, int columns, Bug bug)
{
    DYN_SHARED(Ring, ring);
    if (threadIdx.x == 0 && bug != BUG_NO_INIT)
        for (int stage = 0; stage < STAGES; stage++) {
            mbar_init(&ring->full[stage], 1);
            mbar_init(&ring->empty[stage], WARPS);
        }
    mbar_fence_init();
    __syncthreads();
    if (bug == BUG_NOT_AWAITED) {
        if (threadIdx.x == 0)
            cp_bulk(ring->weights[0][0], w, 16, &ring->full[0]);
        return;
    }
    if (threadIdx.x < WARPS * 32)
        multiply(ring, y, x, rows, columns, bug);
    else if (threadIdx.x == WARPS * 32)
        fill(ring, w, rows, columns);
}

cudaError_t matrix_vector_ring(float *y, const float *w, const float *x, int rows, int columns, Bug bug,
                               cudaStream_t stream)
{
    return launch(matrix_vector_ring_kernel, BLOCKS, THREADS, sizeof(Ring), false, stream, y, w, x, rows,
                  columns, bug);
}
