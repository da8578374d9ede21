// What all launchers share: the device's properties, CUDA's errors as a status.
#include "kernels/cuda/kernels.h"

oct_status oct_cuda_check(cudaError_t error, const char *doing)
{
    if (error == cudaSuccess)
        return OCT_OK;
    return oct_fail(OCT_ERR_MACHINE, "%s failed: %s", doing, cudaGetErrorString(error));
}

oct_status oct_cuda_device_read(oct_cuda_device *device)
{
    int number = 0, multiprocessors = 0, shared = 0;
    cudaError_t error = cudaGetDevice(&number);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, number);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, number);
    if (error != cudaSuccess)
        return oct_cuda_check(error, "reading the properties of the GPU");
    device->multiprocessors = multiprocessors;
    device->shared_bytes = (size_t)shared;
    return OCT_OK;
}
