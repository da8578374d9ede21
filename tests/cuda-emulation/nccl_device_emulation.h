// NVIDIA's own nccl_device.h compiled for the emulator (LSA part; GIN and LL-A2A must stay uninstantiated).
#pragma once
#include "cuda_emulation.h"
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <nccl.h>
#include <cuda/atomic>
static inline unsigned __fns(unsigned m, unsigned base, int off) { for (unsigned i = base; i < 32; i++) if (m >> i & 1 && --off == 0) return i; return ~0u; }
namespace cuda_emulation { template <class T> static inline void asm_reg(const char* s, T& r) {
    if (strstr(s, "%%laneid")) r = (T)cur->lane; else if (strstr(s, "%%lanemask_lt")) r = (T)((1u << cur->lane) - 1); else die("inline PTX %s", s); } }
#define __CUDACC__ 1
#define asm(...) cuda_emulation::asm_reg(#__VA_ARGS__, ret)     /* lane() and lanemask_lt(); "asm volatile" stays assembly */
#include <nccl_device.h>
#undef asm
#undef __CUDACC__
