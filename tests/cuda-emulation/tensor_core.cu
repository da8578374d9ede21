// The kernel of test_cuda_tensor_core.cpp: the fragments of instructions.h, filled from matrices in memory.
#include "tensor_core.h"

#include "kernels/cuda/device.h"

enum { WARPS = 4 };

OCT_DEVICE uint32_t oct_pair_of(const uint16_t *values, int k)
{
    return values[k] | static_cast<uint32_t>(values[k + 1]) << 16;
}

__global__ void __launch_bounds__(WARPS * OCT_WARP) oct_tensor_product_kernel(oct_tensor_product *products, int count)
{
    const int index = static_cast<int>(blockIdx.x) * WARPS + oct_warp(), g = oct_lane() / 4, t = oct_lane() % 4;
    if (index >= count)
        return;
    oct_tensor_product &p = products[index];
    uint32_t a[4], b[2];
    float d[4];
    for (int i = 0; i < 4; i++) {
        a[i] = oct_pair_of(p.rows[g + i % 2 * 8], 2 * t + i / 2 * 8);
        d[i] = p.c[g + i / 2 * 8][2 * t + i % 2];
    }
    for (int i = 0; i < 2; i++)
        b[i] = oct_pair_of(p.columns[g], 2 * t + i * 8);
    mma_bf16(d, a, b);
    for (int i = 0; i < 4; i++)
        p.d[g + i / 2 * 8][2 * t + i % 2] = d[i];
}

cudaError_t oct_tensor_multiply(oct_tensor_product *products, int count)
{
    return oct_launch(oct_tensor_product_kernel, dim3(static_cast<unsigned>((count + WARPS - 1) / WARPS)),
                      dim3(WARPS * OCT_WARP), 0, nullptr, OCT_LAUNCH_PLAIN, products, count);
}
