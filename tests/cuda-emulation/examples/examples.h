// Small kernels that use everything that the emulation emulates, each with mistakes that can be planted: they
// prove the emulation and its detectors, nothing of Octet runs them.
#ifndef OCT_TESTS_CUDA_EMULATION_EXAMPLES_H
#define OCT_TESTS_CUDA_EMULATION_EXAMPLES_H

#include <cstdint>

#include <cuda_runtime.h>

enum Bug {
    BUG_NONE,
    // scale_rows
    BUG_NO_BARRIER,        // shared memory is read without a barrier after it was written
    BUG_DIVERGENT_BARRIER, // some threads wait in another __syncthreads()
    BUG_SHARED_BOUNDS,     // shared memory behind its end
    BUG_UNWRITTEN_SHARED,  // shared memory that nobody has written
    BUG_WAITS_FOR_MORE,    // a barrier waits for more threads than there are
    // matrix_vector
    BUG_GLOBAL_BOUNDS,   // a row behind the last one
    BUG_LEFT_COLLECTIVE, // lanes leave before a collective of the whole warp
    BUG_MISALIGNED,      // 16 bytes at an odd float
    // matrix_vector_ring
    BUG_NO_WARP_BARRIER, // a lane frees a stage of the ring that others still read
    BUG_MORE_ARRIVALS,   // every lane arrives where one is expected
    BUG_NO_INIT,         // a barrier in memory that nobody initialises
    BUG_NOT_AWAITED,     // the kernel ends with a copy in flight
    // two_phases
    BUG_NO_GRID_BARRIER, // the second phase does not wait for the first
    BUG_NOT_COOPERATIVE, // a grid barrier in an ordinary launch
    // sum_by_last_block
    BUG_NO_FENCE, // the counter says that a sum is there, but nothing orders the two
    // matrix_product
    BUG_WAITS_FOR_FEWER, // waits for all but two groups of copies where it needs all but one
    BUG_LEFT_COPY,       // threads leave the kernel with copies in flight
    BUG_FRAGMENT_ORDER,  // two registers of a fragment exchanged
    // chain
    BUG_EARLY_READ,  // what the kernel in front writes is read before the wait for it
    BUG_EARLY_WRITE, // what the kernel in front reads is written before the wait for it
    BUG_EARLY_COPY,  // a bulk copy of what the kernel in front writes starts before the wait for it
    BUG_NO_WAIT,     // threads without work leave the kernel before the wait
    BUG_COUNT
};

// out[r][i] = x[r][i] / sqrt(mean of x[r]^2), columns a multiple of 4; one block a row.
cudaError_t scale_rows(float *out, const float *x, int rows, int columns, Bug bug, cudaStream_t stream);

// y[r] = sum of w[r][i] x[i], columns a multiple of 4; one warp a row.
cudaError_t matrix_vector(float *y, const float *w, const float *x, int rows, int columns, Bug bug,
                          cudaStream_t stream);

// The same with the weights copied in bulk through a ring in shared memory, by a warp that does nothing else.
cudaError_t matrix_vector_ring(float *y, const float *w, const float *x, int rows, int columns, Bug bug,
                               cudaStream_t stream);

// middle[i] = x[i]^2, then out[i] = middle[i] + middle[n - 1 - i], in one launch of `blocks` blocks with a
// grid barrier between: its own one, which counts up *counter from 0, or that of cooperative_groups.
cudaError_t two_phases(float *out, float *middle, const float *x, int n, int blocks, uint32_t *counter,
                       bool groups, Bug bug, cudaStream_t stream);

// *out = sum of x[0…n): every block leaves the sum of its part in partial[blocks], the last to finish adds
// them up in order. *counter is 0 before and after.
cudaError_t sum_by_last_block(float *out, const float *x, int n, int blocks, float *partial,
                              uint32_t *counter, Bug bug, cudaStream_t stream);

// c[m][n] = w[m][k] x[n][k]^T in bf16 (bit patterns) with fp32 sums, n <= 8, k a multiple of 8.
cudaError_t matrix_product(float *c, const uint16_t *w, const uint16_t *x, int m, int n, int k, Bug bug,
                           cudaStream_t stream);

// y[i] = w[i] (x[i] + y[n - 1 - i]), n a multiple of 4 and y zeros before: `steps` times, each a kernel that adds
// and a kernel that multiplies, in one chain in which weights are asked for early. sum: [n].
cudaError_t chain(float *y, float *sum, const float *w, const float *x, int n, int steps, Bug bug,
                  cudaStream_t stream);

#endif
