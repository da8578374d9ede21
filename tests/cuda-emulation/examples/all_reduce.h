// Reductions inside kernels over NCCL's symmetric memory.
#ifndef OCT_TESTS_CUDA_EMULATION_ALL_REDUCE_H
#define OCT_TESTS_CUDA_EMULATION_ALL_REDUCE_H

#include <cstdint>

#include <cuda_runtime.h>
#include <nccl.h>

enum { ALL_REDUCE_BLOCKS = 4 };

// sum[i] = the sum over the ranks, in their order, of x[i] of each. The window holds 2 n floats of every
// rank; calls alternate `half` between 0 and 1, so that one barrier between the ranks is enough: nobody
// writes a half again before its peers have come to the barrier of the call between. device_communicator:
// ncclDevComm with a barrier for each of ALL_REDUCE_BLOCKS blocks.
cudaError_t all_reduce_in_order(float *sum, const float *x, int n, const void *device_communicator,
                                ncclWindow_t window, int half, cudaStream_t stream);

// The window's n bf16 of every rank become their sum, by multicast loads and stores; n a multiple of 8.
cudaError_t all_reduce_multicast(int n, const void *device_communicator, ncclWindow_t window,
                                 cudaStream_t stream);

#endif
