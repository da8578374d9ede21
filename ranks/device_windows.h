// What of NCCL's symmetric memory only C++ can ask for (nccl_device.h). In builds with CUDA only; device_windows.cu.
#ifndef OCT_RANKS_DEVICE_WINDOWS_H
#define OCT_RANKS_DEVICE_WINDOWS_H

#include <nccl.h>

#ifdef __cplusplus
extern "C" {
#endif

// How many ranks, this one among them, have devices that reach each other's memory with loads and stores: all, or
// those of an NVLink domain; 0 where NCCL has no symmetric memory. LOCAL.
int oct_device_windows_reach(ncclComm_t communicator);

// Queues on the stream: pointers [ranks], in memory of the device, become the addresses at which kernels of this rank
// see the window's memory of each rank; all ranks must be reached. LOCAL.
cudaError_t oct_device_windows_map(ncclWindow_t window, int ranks, void **pointers, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
