// Inside rotation.cu and persistent.cu: the body of OCT_OP_ROPE_CACHE: bias, head norm and rotation, and what goes to
// the KV cache. A warp has one head of one column; heads are few and short, the launch is what this costs.
#ifndef OCT_KERNELS_CUDA_ROTATION_BODY_H
#define OCT_KERNELS_CUDA_ROTATION_BODY_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementary.h"

enum { OCT_ROPE_WARPS = OCT_BLOCK_THREADS / OCT_WARP, OCT_ROPE_BLOCK = 64 /* elements of a sum of squares */ };

typedef float oct_head[OCT_CUDA_MAX_HEAD_DIM];
typedef oct_head oct_heads_of_block[OCT_ROPE_WARPS];

// The sum of squares of n <= 256 elements: blocks of 64, the halving tree (docs/numbers.md). A half of the warp has a
// block: lane j its elements j, j + 16, j + 32, j + 48. Every lane gets the sum.
OCT_DEVICE float oct_rope_sum_of_squares(const float *x, int32_t n)
{
    float total = 0.0f;
    for (int32_t begin = 0; begin < n; begin += 2 * OCT_ROPE_BLOCK) {
        const int32_t block = begin + oct_lane() / 16 * OCT_ROPE_BLOCK;
        float sum = 0.0f;
        for (int32_t i = oct_lane() % 16; i < OCT_ROPE_BLOCK && block + i < n; i += 16)
            sum = fmaf(x[block + i], x[block + i], sum);
        for (int offset = 8; offset > 0; offset /= 2)
            sum = sum + __shfl_xor_sync(OCT_WARP_MASK, sum, offset);
        if (begin + OCT_ROPE_BLOCK < n)
            sum = sum + __shfl_xor_sync(OCT_WARP_MASK, sum, 16);
        total = begin == 0 ? sum : total + sum;
    }
    return __shfl_sync(OCT_WARP_MASK, total, 0);
}

// x = (x · r) · weight.
OCT_DEVICE void oct_rope_normalise(float *x, const float *weight, int32_t n, float epsilon)
{
    const float sum = oct_rope_sum_of_squares(x, n);
    const float r = oct_divide(1.0f, oct_square_root(oct_divide(sum, static_cast<float>(n)) + epsilon));
    __syncwarp(); // shuffles do not order memory: all lanes have read x
    for (int32_t i = oct_lane(); i < n; i += OCT_WARP)
        x[i] = (x[i] * r) * weight[i];
    __syncwarp();
}

OCT_DEVICE void oct_rope_rotate(float *x, const float *table, int32_t dims, oct_rope_convention convention)
{
    for (int32_t i = oct_lane(); i < dims / 2; i += OCT_WARP) {
        float *a = convention == OCT_ROPE_PAIRS ? x + 2 * i : x + i;
        float *b = convention == OCT_ROPE_PAIRS ? a + 1 : a + dims / 2;
        const float cosine = table[2 * i], sine = table[2 * i + 1];
        const float turned = fmaf(*a, cosine, -(*b * sine));
        *b = fmaf(*b, cosine, *a * sine);
        *a = turned;
    }
    __syncwarp();
}

// To bf16, and what is not finite to the largest finite number.
OCT_DEVICE uint16_t oct_rope_to_finite_bf16(float value)
{
    const uint32_t rounded = oct_to_bf16(value);
    return static_cast<uint16_t>((rounded & 0x7f80u) == 0x7f80u ? (rounded & 0x8000u) | 0x7f7fu : rounded);
}

// A key (a value) of a position to its page.
OCT_DEVICE void oct_rope_store_key(const oct_cuda_attention *a, uint16_t *page, int32_t position, const float *x)
{
    for (int32_t d = oct_lane() * 2; d < a->cache.head_dim; d += 2 * OCT_WARP) {
        const uint32_t pair = oct_to_bf16_pair(x[d], x[d + 1]);
        oct_store(page + oct_cuda_key_place(a->cache.head_dim, position, d), pair);
    }
}

OCT_DEVICE void oct_rope_store_value(const oct_cuda_attention *a, uint16_t *page, int32_t position, const float *x)
{
    for (int32_t d = oct_lane(); d < a->cache.head_dim; d += OCT_WARP)
        page[oct_cuda_value_place(position, d)] = oct_rope_to_finite_bf16(x[d]);
}

OCT_DEVICE void oct_rope_store_query(const oct_cuda_attention *a, int32_t column, int32_t head, const float *x)
{
    uint16_t *to = a->queries + (static_cast<size_t>(column) * a->heads.heads + head) * a->cache.head_dim;
    for (int32_t d = oct_lane() * 2; d < a->cache.head_dim; d += 2 * OCT_WARP)
        oct_store(to + d, oct_to_bf16_pair(x[d], x[d + 1]));
}

// Head `head` of part 0 (q), 1 (k) or 2 (v), without what its part lacks, to x.
OCT_DEVICE void oct_rope_finish_head(const oct_cuda_attention *a, int32_t part, int32_t head, const float *from,
                            int32_t position, float *x)
{
    const int32_t head_dim = a->cache.head_dim;
    const float *bias = a->bias[part];
    for (int32_t d = oct_lane(); d < head_dim; d += OCT_WARP)
        x[d] = bias == NULL ? from[d] : from[d] + bias[head * head_dim + d];
    __syncwarp();
    if (part == 2)
        return;
    if (a->norm[part] != NULL)
        oct_rope_normalise(x, a->norm[part], head_dim, a->norm_epsilon);
    oct_rope_rotate(x, a->rope + static_cast<size_t>(position) * a->rope_dims, a->rope_dims, a->rope_convention);
}

// A head of a column a warp.
OCT_DEVICE void oct_rope_cache_body(const oct_cuda_attention &a, const oct_place &place, oct_heads_of_block &heads)
{
    float *x = heads[oct_warp()];
    const int32_t q = a.heads.heads, kv = a.cache.kv_heads, all = q + 2 * kv;
    const int32_t task = place.x * OCT_ROPE_WARPS + oct_warp(), column = task / all, h = task % all;
    const int32_t position = column < a.step.columns ? a.step.positions[column] : -1;
    if (position < 0)
        return;
    const int32_t part = h < q ? 0 : h < q + kv ? 1 : 2, head = part == 0 ? h : (h - q) % kv;
    const float *from = a.qkv + column * a.qkv_stride + static_cast<int64_t>(h) * a.cache.head_dim;
    oct_rope_finish_head(&a, part, head, from, position, x);
    if (part == 0) {
        oct_rope_store_query(&a, column, head, x);
        return;
    }
    const int32_t page = a.step.pages[a.step.page_lists[column] + position / OCT_PAGE_POSITIONS];
    if (part == 1)
        oct_rope_store_key(&a, oct_cuda_cache_keys(&a.cache, page, a.layer, head), position % OCT_PAGE_POSITIONS, x);
    else
        oct_rope_store_value(&a, oct_cuda_cache_values(&a.cache, page, a.layer, head), position % OCT_PAGE_POSITIONS,
                             x);
}

#endif
