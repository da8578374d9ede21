// The only place of the CUDA kernels with exp, log, division and square root. exp, log and log1p are those of
// runtime/elementary.h, bit for bit: fixed sequences of fmaf. Division and square root are the correctly rounded ones
// of IEEE 754, which -prec-div=true and -prec-sqrt=true (nvcc's defaults) are, without flushing denormals. Cosines and
// sines come as a table from rank 0 (rotary embedding) and are not computed on a device.
#ifndef OCT_KERNELS_CUDA_ELEMENTARY_H
#define OCT_KERNELS_CUDA_ELEMENTARY_H

#include "kernels/cuda/device.h"

#define OCT_ELEMENTARY static __host__ __device__ __forceinline__
#include "runtime/elementary.h"

OCT_DEVICE float oct_divide(float a, float b)
{
#ifdef OCT_CUDA_EMULATED
    return a / b;
#else
    return __fdiv_rn(a, b);
#endif
}

OCT_DEVICE float oct_square_root(float a)
{
#ifdef OCT_CUDA_EMULATED
    return sqrtf(a);
#else
    return __fsqrt_rn(a);
#endif
}

// gate / (1 + exp(−gate)) · up, as the CPU kernels compute it.
OCT_DEVICE float oct_silu_multiply(float gate, float up)
{
    return oct_divide(gate, 1.0f + oct_exp(-gate)) * up;
}

#endif
