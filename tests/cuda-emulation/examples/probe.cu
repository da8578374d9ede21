#include <cuda_runtime.h>
#include "emulated_instructions.h"
#include <cstdio>
struct Part { float v[32]; };
static __global__ void sum(float *out) { SHARED(Part, part); part.v[threadIdx.x] = (float)threadIdx.x; __syncthreads(); float v = warp_sum(part.v[31 - threadIdx.x]); if (!threadIdx.x) *out = v; }
int main() { float *y, h = 0; cudaMalloc(&y, 4); cudaLaunchConfig_t c = {}; c.gridDim = dim3(1); c.blockDim = dim3(32); cudaLaunchKernelEx(&c, sum, y); cudaMemcpy(&h, y, 4, cudaMemcpyDeviceToHost); printf("%g\n", h); return h != 496; }
