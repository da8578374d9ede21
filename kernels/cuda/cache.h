// How keys and values lie in the KV cache of a device: [pages][layers][kv_heads] of a block of 2 · 64 · head_dim bf16
// values, the keys of 64 positions and then their values, each cut into squares of 16 × 16 in the order in which a
// lane's 16-byte load is its part of the operand of 16 rows of mma.sync m16n8k16 (instructions.h):
//   keys    [4][head_dim / 16] squares, rows are positions and columns are dimensions: scores are keys · queries
//   values  [head_dim / 16][4] squares, rows are dimensions and columns are positions: sums are values · weights
// A square is [32 lanes][4 registers][2].
#ifndef OCT_KERNELS_CUDA_CACHE_H
#define OCT_KERNELS_CUDA_CACHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/page_table.h"

#ifdef __cplusplus
}
#endif

#ifdef __CUDACC__
#define OCT_CACHE static __host__ __device__ __forceinline__
#else
#define OCT_CACHE static inline
#endif

enum { OCT_CUDA_SQUARE = 256, OCT_CUDA_PAGE_SQUARES = OCT_PAGE_POSITIONS / 16 };

// The KV cache of a rank; part of launches.
typedef struct oct_cuda_cache {
    uint16_t *memory; // aligned to 16
    int32_t layers;
    int32_t kv_heads; // of this rank
    int32_t head_dim; // a multiple of 32, at most 256
} oct_cuda_cache;

OCT_CACHE size_t oct_cuda_cache_bytes(const oct_cuda_cache *cache, int32_t pages)
{
    return (size_t)pages * (size_t)cache->layers * (size_t)cache->kv_heads * 2 * OCT_PAGE_POSITIONS *
           (size_t)cache->head_dim * sizeof(uint16_t);
}

// The keys of a page; its values are behind them.
OCT_CACHE uint16_t *oct_cuda_cache_keys(const oct_cuda_cache *cache, int32_t page, int32_t layer, int32_t kv_head)
{
    const size_t index = ((size_t)page * (size_t)cache->layers + (size_t)layer) * (size_t)cache->kv_heads;
    return cache->memory + (index + (size_t)kv_head) * 2 * OCT_PAGE_POSITIONS * (size_t)cache->head_dim;
}

OCT_CACHE uint16_t *oct_cuda_cache_values(const oct_cuda_cache *cache, int32_t page, int32_t layer, int32_t kv_head)
{
    return oct_cuda_cache_keys(cache, page, layer, kv_head) + OCT_PAGE_POSITIONS * cache->head_dim;
}

// Where an element stands in a square.
OCT_CACHE int32_t oct_cuda_square_place(int32_t row, int32_t column)
{
    const int32_t lane = row % 8 * 4 + column % 8 / 2, value = row / 8 + column / 8 * 2;
    return lane * 8 + value * 2 + column % 2;
}

// Where dimension d of position p (0 … 63) stands among the keys of a page, and among the values.
OCT_CACHE int32_t oct_cuda_key_place(int32_t head_dim, int32_t p, int32_t d)
{
    return (p / 16 * (head_dim / 16) + d / 16) * OCT_CUDA_SQUARE + oct_cuda_square_place(p % 16, d % 16);
}

OCT_CACHE int32_t oct_cuda_value_place(int32_t p, int32_t d)
{
    return (d / 16 * OCT_CUDA_PAGE_SQUARES + p / 16) * OCT_CUDA_SQUARE + oct_cuda_square_place(d % 16, p % 16);
}

#endif
