// Errors of CUDA as statuses, and waiting for a stream: what the exchanges between devices share. In builds with CUDA
// only.
#ifndef OCT_RANKS_DEVICE_STREAM_H
#define OCT_RANKS_DEVICE_STREAM_H

#include <cuda_runtime_api.h>

#include "runtime/progress.h"
#include "runtime/status.h"

// OCT_OK, or OCT_ERR_MACHINE with what was being done. LOCAL.
static inline oct_status oct_device_check(cudaError_t error, const char *doing)
{
    return error == cudaSuccess
               ? OCT_OK
               : oct_fail(OCT_ERR_MACHINE, "the device failed while %s: %s", doing, cudaGetErrorString(error));
}

// Waits until the stream has ended, without blocking in CUDA: look(context) is oct_device_exchange.check(), which looks
// after the other ranks and ends the wait by its errors. LOCAL.
static inline oct_status oct_device_await(cudaStream_t stream, oct_status (*look)(void *), void *context,
                                          const char *doing)
{
    oct_status status = OCT_OK;
    cudaError_t error = cudaErrorNotReady;
    while (status == OCT_OK && error == cudaErrorNotReady) {
        error = cudaStreamQuery(stream);
        if (error == cudaErrorNotReady)
            status = look(context);
    }
    oct_progress_wait_end();
    return status != OCT_OK ? status : oct_device_check(error, doing);
}

#endif
