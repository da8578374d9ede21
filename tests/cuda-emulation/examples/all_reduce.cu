// See all_reduce.h. Cooperative launches: a block that waits for its like on other ranks has to be there.
#include "all_reduce.h"

#include "example_device.h"
#include "nccl_device_emulation.h"

enum { THREADS = 64, ALL_THREADS = THREADS * ALL_REDUCE_BLOCKS };

__global__ void __launch_bounds__(THREADS)
    all_reduce_in_order_kernel(float *sum, const float *x, int n, ncclDevComm communicator,
                               ncclWindow_t window, int half)
{
    ncclLsaBarrierSession<ncclCoopCta> barrier(ncclCoopCta(), communicator, ncclTeamTagLsa(), blockIdx.x);
    size_t base = (size_t)half * (size_t)n * sizeof(float);
    int first = (int)(blockIdx.x * THREADS + threadIdx.x);
    float *mine = (float *)ncclGetLocalPointer(window, base);
    for (int i = first; i < n; i += ALL_THREADS)
        mine[i] = x[i];
    barrier.sync(ncclCoopCta(), cuda::memory_order_acq_rel);
    for (int i = first; i < n; i += ALL_THREADS) { // what this block's like on every rank has written
        float total = 0;
        for (int rank = 0; rank < communicator.lsaSize; rank++)
            total += *(volatile float *)ncclGetLsaPointer(window, base + (size_t)i * sizeof(float), rank);
        sum[i] = total;
    }
}

cudaError_t all_reduce_in_order(float *sum, const float *x, int n, const void *device_communicator,
                                ncclWindow_t window, int half, cudaStream_t stream)
{
    return launch(all_reduce_in_order_kernel, ALL_REDUCE_BLOCKS, THREADS, 0, true, stream, sum, x, n,
                  *(const ncclDevComm *)device_communicator, window, half);
}

// NCCL's own multicast barrier exists for nvcc alone: the other one is used.
enum { MULTICAST_BARRIER = 0 };

__global__ void __launch_bounds__(THREADS)
    all_reduce_multicast_kernel(int n, ncclDevComm communicator, ncclWindow_t window)
{
    ncclLsaBarrierSession<ncclCoopCta> barrier(ncclCoopCta(), communicator, ncclTeamTagLsa(), blockIdx.x,
                                               MULTICAST_BARRIER);
    barrier.sync(ncclCoopCta(), cuda::memory_order_acq_rel); // every rank's values are there
    char *all = (char *)ncclGetLsaMultimemPointer(window, 0, communicator);
    int vectors = n / 8, share = (vectors + communicator.lsaSize - 1) / communicator.lsaSize;
    int begin = communicator.lsaRank * share, end = min(vectors, begin + share);
    for (int i = begin + (int)(blockIdx.x * THREADS + threadIdx.x); i < end; i += ALL_THREADS)
        mm_st_v4(all + (size_t)i * 16, mm_ld_reduce_bf16x8(all + (size_t)i * 16));
    barrier.sync(ncclCoopCta(), cuda::memory_order_acq_rel); // every rank's share is written everywhere
}

cudaError_t all_reduce_multicast(int n, const void *device_communicator, ncclWindow_t window,
                                 cudaStream_t stream)
{
    return launch(all_reduce_multicast_kernel, ALL_REDUCE_BLOCKS, THREADS, 0, true, stream, n,
                  *(const ncclDevComm *)device_communicator, window);
}
