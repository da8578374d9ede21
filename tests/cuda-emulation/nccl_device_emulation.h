// NVIDIA's own nccl_device.h, compiled for the emulation: what works between the GPUs of one NVLink domain
// (LSA: windows, barriers, multicast). What goes over a network (GIN) must not be instantiated.
#ifndef OCT_TESTS_CUDA_EMULATION_NCCL_DEVICE_EMULATION_H
#define OCT_TESTS_CUDA_EMULATION_NCCL_DEVICE_EMULATION_H

#include "cuda_emulation.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <nccl.h>

#include <cuda/atomic>

// The place of the offset-th set bit of the mask, from bit `base` on. ("CUDA Math API", integer intrinsics.)
static inline unsigned __fns(unsigned mask, unsigned base, int offset)
{
    for (unsigned i = base; i < 32; i++)
        if (mask >> i & 1 && --offset == 0)
            return i;
    return ~0u;
}

namespace cuda_emulation
{
// The two pieces of assembly in nccl_device.h that kernels here run: reads of special registers.
template <class Register> static inline void run_assembly(const char *text, Register &result)
{
    if (strstr(text, "%%laneid"))
        result = (Register)cur->lane;
    else if (strstr(text, "%%lanemask_lt"))
        result = (Register)((1u << cur->lane) - 1);
    else
        die("assembly of nccl_device.h without an emulation: %s", text);
}
} // namespace cuda_emulation

#define __CUDACC__ 1
#define asm(...)                                                                                             \
    cuda_emulation::run_assembly(#__VA_ARGS__, ret) // "asm volatile", which nothing here runs, stays
#include <nccl_device.h>
#undef asm
#undef __CUDACC__

#endif
