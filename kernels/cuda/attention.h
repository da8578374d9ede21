// Rotation, the KV cache and attention on the device: OCT_OP_ROPE_CACHE and OCT_OP_ATTENTION.
//
// The law (docs/numbers.md has that of the CPU; where nothing is said it is the same):
//   - Bias, head norm and rotation in fp32; then queries, keys and values are rounded to bf16. A value that is not
//     finite is kept as the largest finite one: a position that a column does not attend to adds its zero weight times
//     a number.
//   - Scores: mma.sync m16n8k16 in ascending dimensions from zero, then · head_dim^-0.5.
//   - A split is 256 absolute positions. m: the largest score; weights exp(score − m) rounded to bf16; their sum, of
//     the rounded ones: positions 16 i + g, + 8 of the squares i = w and w + 8 by a thread, g = 0 … 7 by a butterfly
//     (1, 2, 4 apart), w = 0 … 7 in ascending order. Weighted values: mma.sync in ascending positions from zero, 0 …
//     127 and 128 … 255 apart, then (first + second) + 0.
//   - States (m, sum, values) are merged as on the CPU, beginning with the empty state (−infinity, 0, 0): m' = max(m,
//     m_i), a = exp(m − m'), b = exp(m_i − m'), sum = fmaf(sum_i, b, sum · a), values = fmaf(values_i, b, values · a).
//     The 16 splits of a stretch of 4096 positions in order, then the stretches in order; last (values + 0) / sum.
// So neither columns beside a column, nor which block works on what, nor the number of columns changes a bit.
#ifndef OCT_KERNELS_CUDA_ATTENTION_H
#define OCT_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cache.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OCT_CUDA_MAX_HEAD_DIM 256
#define OCT_CUDA_STRETCH_SPLITS 16
#define OCT_CUDA_NARROW_COLUMNS 16 // launches of up to so many columns are narrow

// The heads of a rank: `heads` query heads, of which the first is the first_in_group'th of the `group` query heads that
// share its key-value head.
typedef struct oct_cuda_heads {
    int32_t heads, group, first_in_group;
} oct_cuda_heads;

oct_cuda_heads oct_cuda_heads_of(const oct_step_program *program);

// One layer of the rank. Both launches read it.
typedef struct oct_cuda_attention {
    oct_cuda_step step; // on the device
    oct_cuda_cache cache;
    oct_cuda_heads heads;
    int32_t layer;
    int32_t context;    // positions of a sequence, at most
    float *qkv;         // [columns][qkv_stride]: q [heads], k [kv_heads], v [kv_heads] of head_dim each
    int64_t qkv_stride;
    const float *bias[3];  // of q, k and v of this rank's heads, [heads or kv_heads][head_dim], or NULL
    const float *norm[2];  // of q and k, [head_dim], or NULL
    float norm_epsilon;
    const float *rope;     // [context][rope_dims / 2][2] cosines and sines
    int32_t rope_dims;
    oct_rope_convention rope_convention;
    uint16_t *queries;     // [columns][heads][head_dim] bf16, aligned to 16: from the first launch to the second, where
                           // there are two
    float *out;            // [columns][out_stride], heads · head_dim of each
    int64_t out_stride;
    float *states;         // oct_cuda_attention_states_bytes()
    uint32_t *arrivals;    // oct_cuda_attention_arrivals() numbers, zero before the first launch and after each
} oct_cuda_attention;

// Runs that oct_cuda_step_write() makes for launches of so many columns. Long ones read keys and values once for many
// columns; where these are few, short ones in few columns take less time, since more blocks share the work. LOCAL.
oct_cuda_run_limits oct_cuda_run_limits_of(const oct_cuda_heads *heads, const oct_cuda_cache *cache, int32_t columns);

// Memory of launches of up to so many columns: bytes of the states, and how many arrivals. LOCAL.
size_t oct_cuda_attention_states_bytes(const oct_cuda_attention *attention, int32_t columns);
size_t oct_cuda_attention_arrivals(const oct_cuda_attention *attention, int32_t columns);

// Whether oct_cuda_attend() does itself what OCT_OP_ROPE_CACHE stands for. In narrow launches it does: a block makes the
// queries and the new keys and values that it needs, several blocks the same ones, and one of them writes keys and
// values to the cache. The bits are the same. LOCAL, pure.
static inline bool oct_cuda_attention_rotates(int32_t columns)
{
    return columns <= OCT_CUDA_NARROW_COLUMNS;
}

// OCT_OK, or OCT_ERR_INTERNAL for heads that the kernels are not made for. LOCAL.
oct_status oct_cuda_attention_check(const oct_cuda_attention *attention);

// OCT_OP_ROPE_CACHE: bias, head norm and rotation of the columns of the step; queries → queries, keys and values →
// cache. Launches nothing where the attention does it. Moves columns · (heads + 2 · kv_heads) · head_dim · 6 bytes.
// Errors: see kernels.h.
oct_status oct_cuda_rope_cache(const oct_cuda_attention *attention, cudaStream_t stream);
uint64_t oct_cuda_rope_cache_bytes(const oct_cuda_attention *attention);

// OCT_OP_ATTENTION: queries, cache → out; narrow: qkv, cache → out, cache. Each key and value is read once for all
// queries of a run that share its head (16 or 32 at a time). Moves oct_cuda_attention_bytes() for runs of so many
// positions in all. Errors: see kernels.h.
oct_status oct_cuda_attend(const oct_cuda_device *device, const oct_cuda_attention *attention, cudaStream_t stream);
uint64_t oct_cuda_attention_bytes(const oct_cuda_attention *attention, int64_t positions);

#ifdef __cplusplus
}
#endif

#endif
