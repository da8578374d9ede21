// Inside rotation.cu, attention.cu and persistent.cu: bias, head norm and rotation of a head, by a warp; and the body of
// OCT_OP_ROPE_CACHE.
#ifndef OCT_KERNELS_CUDA_ROTATION_BODY_H
#define OCT_KERNELS_CUDA_ROTATION_BODY_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementary.h"

enum { OCT_ROPE_WARPS = OCT_BLOCK_THREADS / OCT_WARP, OCT_ROPE_BLOCK = 64 /* elements of a sum of squares */ };

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

// A query or key head on its way through a warp, for heads of up to 64 · PAIRS elements: lane l has the pairs l, l + 32,
// … of elements that are rotated together; what is not rotated goes by neighbours.
template <int PAIRS> struct oct_rope_head {
    int32_t part, head_dim; // part 0: a query, 1: a key
    float first[PAIRS], second[PAIRS];
    float2 turn[PAIRS]; // cosine and sine
};

// The elements of a pair. Rotated dimensions are an even number.
OCT_DEVICE int32_t oct_rope_first(const oct_cuda_attention &a, int32_t pair)
{
    return a.rope_convention == OCT_ROPE_HALVES && pair < a.rope_dims / 2 ? pair : 2 * pair;
}

OCT_DEVICE int32_t oct_rope_second(const oct_cuda_attention &a, int32_t pair)
{
    return a.rope_convention == OCT_ROPE_HALVES && pair < a.rope_dims / 2 ? pair + a.rope_dims / 2 : 2 * pair + 1;
}

// Head `head` of x.part, with its bias, and what it is rotated by. All loads are asked for before one is used.
template <int PAIRS>
OCT_DEVICE void oct_rope_load(const oct_cuda_attention &a, int32_t head, const float *from, int32_t position,
                              oct_rope_head<PAIRS> &x)
{
    const float *bias = x.part == 0 ? a.bias[0] : a.bias[1];
    const float *table = a.rope + static_cast<int64_t>(position) * a.rope_dims;
    float biases[PAIRS][2] = {};
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const int32_t pair = oct_lane() + i * OCT_WARP;
        x.first[i] = x.second[i] = 0.0f;
        x.turn[i] = {1.0f, 0.0f};
        if (pair >= x.head_dim / 2)
            continue;
        const int32_t first = oct_rope_first(a, pair), second = oct_rope_second(a, pair);
        x.first[i] = from[first];
        x.second[i] = from[second];
        if (bias != NULL) {
            biases[i][0] = bias[head * x.head_dim + first];
            biases[i][1] = bias[head * x.head_dim + second];
        }
        if (pair < a.rope_dims / 2)
            x.turn[i] = oct_load<float2>(table + 2 * pair);
    }
    if (bias == NULL)
        return;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        x.first[i] = x.first[i] + biases[i][0];
        x.second[i] = x.second[i] + biases[i][1];
    }
}

// x = (x · r) · weight. squares: memory of the warp's own.
template <int PAIRS>
OCT_DEVICE void oct_rope_normalise(const oct_cuda_attention &a, const float *weight, float *squares,
                                   oct_rope_head<PAIRS> &x)
{
    const int32_t n = x.head_dim;
    __syncwarp(); // what the warp has left there is read
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
        if (oct_lane() + i * OCT_WARP < n / 2) {
            squares[oct_rope_first(a, oct_lane() + i * OCT_WARP)] = x.first[i];
            squares[oct_rope_second(a, oct_lane() + i * OCT_WARP)] = x.second[i];
        }
    __syncwarp();
    const float sum = oct_rope_sum_of_squares(squares, n);
    const float r = oct_divide(1.0f, oct_square_root(oct_divide(sum, static_cast<float>(n)) + a.norm_epsilon));
#pragma unroll
    for (int i = 0; i < PAIRS; i++)
        if (oct_lane() + i * OCT_WARP < n / 2) {
            x.first[i] = (x.first[i] * r) * weight[oct_rope_first(a, oct_lane() + i * OCT_WARP)];
            x.second[i] = (x.second[i] * r) * weight[oct_rope_second(a, oct_lane() + i * OCT_WARP)];
        }
}

// Norm and rotation of a head that is loaded, and its rounding to bf16: to `to`, [head_dim].
template <int PAIRS>
OCT_DEVICE void oct_rope_finish(const oct_cuda_attention &a, oct_rope_head<PAIRS> &x, float *squares, uint16_t *to)
{
    const float *norm = x.part == 0 ? a.norm[0] : a.norm[1];
    if (norm != NULL)
        oct_rope_normalise(a, norm, squares, x);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const int32_t pair = oct_lane() + i * OCT_WARP;
        if (pair >= x.head_dim / 2)
            continue;
        const bool rotated = pair < a.rope_dims / 2;
        const float first = fmaf(x.first[i], x.turn[i].x, -(x.second[i] * x.turn[i].y));
        const float second = fmaf(x.second[i], x.turn[i].x, x.first[i] * x.turn[i].y);
        to[oct_rope_first(a, pair)] = static_cast<uint16_t>(oct_to_bf16(rotated ? first : x.first[i]));
        to[oct_rope_second(a, pair)] = static_cast<uint16_t>(oct_to_bf16(rotated ? second : x.second[i]));
    }
}

// A value of head `head`: bias and its rounding to bf16; what is not finite becomes the largest finite number.
OCT_DEVICE uint16_t oct_rope_value(const oct_cuda_attention &a, int32_t head, const float *from, int32_t d)
{
    const float *bias = a.bias[2];
    const uint32_t rounded = oct_to_bf16(bias == NULL ? from[d] : from[d] + bias[head * a.cache.head_dim + d]);
    return static_cast<uint16_t>((rounded & 0x7f80u) == 0x7f80u ? (rounded & 0x8000u) | 0x7f7fu : rounded);
}

// What a warp has for a head.
typedef struct oct_rope_scratch {
    float squares[OCT_CUDA_MAX_HEAD_DIM];
    alignas(4) uint16_t finished[OCT_CUDA_MAX_HEAD_DIM];
} oct_rope_scratch;

// A key that is finished to its place in a page.
OCT_DEVICE void oct_rope_store_key(const uint16_t *key, int32_t head_dim, uint16_t *keys, int32_t place)
{
    for (int32_t d = oct_lane() * 2; d < head_dim; d += 2 * OCT_WARP)
        oct_store(keys + oct_cuda_key_place(head_dim, place, d), oct_load<uint32_t>(key + d));
}

// A head of a column a warp.
OCT_DEVICE void oct_rope_cache_body(const oct_cuda_attention &a, const oct_place &place, oct_rope_scratch &scratch)
{
    const int32_t q = a.heads.heads, kv = a.cache.kv_heads, head_dim = a.cache.head_dim, all = q + 2 * kv;
    const int32_t task = place.x * OCT_ROPE_WARPS + oct_warp(), column = task / all, h = task - column * all;
    const int32_t position = column < a.step.columns ? a.step.positions[column] : -1;
    if (position < 0)
        return;
    const int32_t part = h < q ? 0 : h < q + kv ? 1 : 2, head = part == 0 ? h : part == 1 ? h - q : h - q - kv;
    const float *from = a.qkv + column * a.qkv_stride + static_cast<int64_t>(h) * head_dim;
    const int32_t page = part == 0 ? 0 : a.step.pages[a.step.page_lists[column] + position / OCT_PAGE_POSITIONS];
    if (part == 2) {
        uint16_t *values = oct_cuda_cache_values(&a.cache, page, a.layer, head);
        for (int32_t d = oct_lane(); d < head_dim; d += OCT_WARP)
            values[oct_cuda_value_place(position % OCT_PAGE_POSITIONS, d)] = oct_rope_value(a, head, from, d);
        return;
    }
    oct_rope_head<OCT_CUDA_MAX_HEAD_DIM / 64> x;
    x.part = part;
    x.head_dim = head_dim;
    oct_rope_load(a, head, from, position, x);
    oct_rope_finish(a, x, scratch.squares, scratch.finished);
    __syncwarp();
    if (part == 1)
        return oct_rope_store_key(scratch.finished, head_dim, oct_cuda_cache_keys(&a.cache, page, a.layer, head),
                                  position % OCT_PAGE_POSITIONS);
    uint16_t *to = a.queries + (static_cast<int64_t>(column) * q + head) * head_dim;
    for (int32_t d = oct_lane() * 2; d < head_dim; d += 2 * OCT_WARP)
        oct_store(to + d, oct_load<uint32_t>(scratch.finished + d));
}

#endif
