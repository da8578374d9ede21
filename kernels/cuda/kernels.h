// The CUDA kernels as the host sees them: launchers, one header for each subject. All pointers are device pointers
// unless a comment says "host". All launchers
//   - are LOCAL, and asynchronous in their stream; none synchronises or allocates, so all can be captured in a graph;
//   - have grids that depend on the shapes and the number of columns alone; what changes from step to step is read from
//     device memory;
//   - return OCT_ERR_MACHINE where CUDA refuses the launch, OCT_ERR_INTERNAL where operands break the rules below;
//   - have a function beside them that says how many bytes they move (weights once, inputs, outputs).
//
// The law of this backend's numbers (docs/numbers.md): inputs of matrices are rounded to bf16; weights of integer
// encodings enter the tensor cores as the exact small integers value(code) − zero; fp32 sums. A group of 16 or 32
// columns is one or two mma's from zero; total = fmaf(scale, sum of the group, total), then, where the encoding has a
// minimum, total = fmaf(minimum, sum of the group's inputs, total). A column has the same bits whatever stands beside
// it.
#ifndef OCT_KERNELS_CUDA_KERNELS_H
#define OCT_KERNELS_CUDA_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/status.h"

// What launchers need to know of the device; read once at load.
typedef struct oct_cuda_device {
    int32_t multiprocessors;
    size_t shared_bytes; // that a block may have, opted in
} oct_cuda_device;

// The properties of the current device. Errors: OCT_ERR_MACHINE.
oct_status oct_cuda_device_read(oct_cuda_device *device);

// OCT_OK, or fails with OCT_ERR_MACHINE, what was being done and CUDA's words.
oct_status oct_cuda_check(cudaError_t error, const char *doing);

#ifdef __cplusplus
}
#endif

#endif
