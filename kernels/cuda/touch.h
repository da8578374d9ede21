// Reading memory on the device and nothing else: how fast steps could read it at best.
#ifndef OCT_KERNELS_CUDA_TOUCH_H
#define OCT_KERNELS_CUDA_TOUCH_H

#include "kernels/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// Reads `bytes` (whole 16 bytes) from memory aligned to 16, all multiprocessors together. sink: a word on the device
// that is written only where all of it is the bits of one NaN, so that the reads stay. Moves `bytes`. Errors: see
// kernels.h.
oct_status oct_cuda_touch_memory(const oct_cuda_device *device, const void *memory, size_t bytes, uint32_t *sink,
                                 cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
