// What CUDA C++ sources are compiled with in place of nvcc's built-in header: g++ -x c++ -include
// cuda_emulation.h. Types and prototypes are NVIDIA's own headers'; the functions of the runtime are in the
// library cuda_emulation, which is linked in place of libcudart. README.md beside this file says how kernels
// have to be written.
#ifndef OCT_TESTS_CUDA_EMULATION_H
#define OCT_TESTS_CUDA_EMULATION_H

#ifndef OCT_CUDA_EMULATED
#define OCT_CUDA_EMULATED 1
#endif

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include "device_functions.h"
#include "launch.h"
#include "scheduler.h"
#include "warp_functions.h"

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#undef __maxnreg__
#define __maxnreg__(...)
#undef __shared__
#define __shared__ static // right only while one block is resident: kernels use SHARED()

// Shared memory of the block: SHARED(type, name) declares one object, DYN_SHARED(type, name) a pointer to the
// dynamic part. nvcc's forms of both are in kernels/cuda/device.h.
#define SHARED(T, name)                                                                                      \
    static char name##_tag;                                                                                  \
    T &name = *(T *)cuda_emulation::shared(&name##_tag, sizeof(T), alignof(T) > 16 ? alignof(T) : 16)
#define DYN_SHARED(T, name) T *name = (T *)cuda_emulation::dyn_shared()

#endif
