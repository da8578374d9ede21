// NCCL's device interface, as far as the host needs it: 2.28 tells the addresses of peers to kernels alone.
#include "ranks/device_windows.h"

#ifdef OCT_CUDA_EMULATED
#include "nccl_device_emulation.h"
#else
#include <nccl_device.h>
#endif

int oct_device_windows_reach(ncclComm_t communicator)
{
    return ncclTeamLsa(communicator).nRanks;
}

__global__ void oct_window_pointers_kernel(ncclWindow_t window, int ranks, void **pointers)
{
    for (int rank = 0; rank < ranks; rank++)
        pointers[rank] = ncclGetLsaPointer(window, 0, rank);
}

cudaError_t oct_device_windows_map(ncclWindow_t window, int ranks, void **pointers, cudaStream_t stream)
{
    cudaLaunchConfig_t launch = {};
    launch.gridDim = dim3(1);
    launch.blockDim = dim3(1);
    launch.stream = stream;
    return cudaLaunchKernelEx(&launch, oct_window_pointers_kernel, window, ranks, pointers);
}
