// What the examples include for kernels/cuda/device.h; nvcc, which makes their PTX, gets that file too.
#ifndef OCT_TESTS_CUDA_EMULATION_EXAMPLE_DEVICE_H
#define OCT_TESTS_CUDA_EMULATION_EXAMPLE_DEVICE_H

#ifdef OCT_CUDA_EMULATED
#include "emulated_instructions.h"
#else
#include "kernels/cuda/device.h"
#endif
#include "examples.h"

template <class... Parameters, class... Arguments>
static inline cudaError_t launch_with(cudaLaunchAttribute attribute, void (*kernel)(Parameters...), int blocks,
                                      int threads, size_t dynamic_bytes, cudaStream_t stream, Arguments... argument)
{
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = dim3((unsigned)blocks);
    configuration.blockDim = dim3((unsigned)threads);
    configuration.dynamicSmemBytes = dynamic_bytes;
    configuration.stream = stream;
    configuration.attrs = &attribute;
    configuration.numAttrs = 1;
    return cudaLaunchKernelEx(&configuration, kernel, argument...);
}

template <class... Parameters, class... Arguments>
static inline cudaError_t launch(void (*kernel)(Parameters...), int blocks, int threads, size_t dynamic_bytes,
                                 bool cooperative, cudaStream_t stream, Arguments... argument)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = cooperative;
    return launch_with(attribute, kernel, blocks, threads, dynamic_bytes, stream, argument...);
}

// May begin before the kernel in front of it has ended.
template <class... Parameters, class... Arguments>
static inline cudaError_t launch_chained(void (*kernel)(Parameters...), int blocks, int threads, cudaStream_t stream,
                                         Arguments... argument)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    return launch_with(attribute, kernel, blocks, threads, 0, stream, argument...);
}

static __device__ __forceinline__ float dot4(uint4 w, const float *x)
{
    float sum = __uint_as_float(w.x) * x[0];
    sum = fmaf(__uint_as_float(w.y), x[1], sum);
    sum = fmaf(__uint_as_float(w.z), x[2], sum);
    return fmaf(__uint_as_float(w.w), x[3], sum);
}

#endif
