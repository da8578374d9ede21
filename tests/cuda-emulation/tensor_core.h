// One mma.sync m16n8k16 by itself, for test_cuda_tensor_core.cpp.
#ifndef OCT_TESTS_CUDA_EMULATION_TENSOR_CORE_H
#define OCT_TESTS_CUDA_EMULATION_TENSOR_CORE_H

#include <stdint.h>

#include <cuda_runtime_api.h>

// d = c + a · b: bf16 rows of 16, bf16 columns of 16, fp32 sums.
typedef struct oct_tensor_product {
    uint16_t rows[16][16];   // a, [row][k]
    uint16_t columns[8][16]; // b, [column][k]
    float c[16][8];
    float d[16][8];
} oct_tensor_product;

// Computes d of products [count] on the device, a warp each. Asynchronous.
cudaError_t oct_tensor_multiply(oct_tensor_product *products, int count);

#endif
