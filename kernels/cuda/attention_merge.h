// Inside attention.cu: what a block works on, where states lie, and how the last block to arrive merges them.
#ifndef OCT_KERNELS_CUDA_ATTENTION_MERGE_H
#define OCT_KERNELS_CUDA_ATTENTION_MERGE_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementary.h"

// Launches of up to so many columns have units of one split, those of more columns units of a stretch.
#define OCT_SPLIT_COLUMNS_MAX 16

enum { OCT_STATE_PADDING = 8 }; // a state is [head_dim] values, maximum, sum; whole sectors of 32 bytes

static __host__ __device__ __forceinline__ int32_t oct_ceiling(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

static __host__ __device__ __forceinline__ int32_t oct_max_splits(const oct_cuda_attention *a)
{
    return oct_ceiling(a->context, OCT_SPLIT_POSITIONS);
}

static __host__ __device__ __forceinline__ int32_t oct_max_stretches(const oct_cuda_attention *a)
{
    return oct_ceiling(oct_max_splits(a), OCT_CUDA_STRETCH_SPLITS);
}

// Splits of a unit.
static __host__ __device__ __forceinline__ int32_t oct_unit_splits(const oct_cuda_attention *a)
{
    return a->step.columns > OCT_SPLIT_COLUMNS_MAX ? OCT_CUDA_STRETCH_SPLITS : 1;
}

// States of a query: of its splits, where those are units, then of its stretches.
static __host__ __device__ __forceinline__ int32_t oct_query_states(const oct_cuda_attention *a)
{
    return (oct_unit_splits(a) == 1 ? oct_max_splits(a) : 0) + oct_max_stretches(a);
}

// What a block works on: queries of a run that share a key-value head. Query q is head first_head + q % group of the
// run's column q / group, beginning with query first_query of them.
typedef struct oct_attention_block {
    const oct_cuda_attention *attention;
    oct_cuda_run run;
    const int32_t *pages; // of the run's sequence
    int32_t kv_head, first_head, group, first_query;
    int32_t queries, tiles; // tiles of 8 queries
    int32_t splits, stretches;
    float attention_scale;
    uint32_t *arrivals; // of each stretch, then of all
} oct_attention_block;

OCT_DEVICE int32_t oct_query_column(const oct_attention_block &b, int32_t q)
{
    return b.run.column + (b.first_query + q) / b.group;
}

OCT_DEVICE int32_t oct_query_head(const oct_attention_block &b, int32_t q)
{
    return b.first_head + (b.first_query + q) % b.group;
}

// Among the queries of all columns.
OCT_DEVICE int64_t oct_query_index(const oct_attention_block &b, int32_t q)
{
    return static_cast<int64_t>(oct_query_column(b, q)) * b.attention->heads.heads + oct_query_head(b, q);
}

OCT_DEVICE float *oct_query_out(const oct_attention_block &b, int32_t q)
{
    const oct_cuda_attention &a = *b.attention;
    return a.out + oct_query_column(b, q) * a.out_stride +
           static_cast<int64_t>(oct_query_head(b, q)) * a.cache.head_dim;
}

template <int DIM> OCT_DEVICE float *oct_query_state(const oct_attention_block &b, int32_t q, int32_t i)
{
    const oct_cuda_attention &a = *b.attention;
    return a.states + (oct_query_index(b, q) * oct_query_states(&a) + i) * (DIM + OCT_STATE_PADDING);
}

// Where the states of stretches begin among a query's.
OCT_DEVICE int32_t oct_first_stretch_state(const oct_attention_block &b)
{
    return oct_query_states(b.attention) - oct_max_stretches(b.attention);
}

OCT_DEVICE float oct_attention_result(float value, float sum)
{
    return oct_divide(value + 0.0f, sum);
}

// A state in the registers of a warp: lane l has the values of dimensions l, l + 32, …
template <int DIM> struct oct_warp_state {
    float maximum, sum, values[DIM / OCT_WARP];
};

// Merges up to 32 states, one behind the other. Lane i finds the factors of state i; the sums go in order.
template <int DIM> OCT_DEVICE void oct_merge_some(oct_warp_state<DIM> &to, const float *states, int32_t count)
{
    constexpr int STATE = DIM + OCT_STATE_PADDING;
    const bool mine = oct_lane() < count;
    const float maximum = mine ? __ldcg(states + oct_lane() * STATE + DIM) : -INFINITY;
    const float sum = mine ? __ldcg(states + oct_lane() * STATE + DIM + 1) : 0.0f;
    float larger = fmaxf(to.maximum, maximum); // of all states up to this one
    for (int offset = 1; offset < OCT_WARP; offset *= 2) {
        const float before = __shfl_up_sync(OCT_WARP_MASK, larger, offset);
        larger = oct_lane() >= offset ? fmaxf(larger, before) : larger;
    }
    const float previous = __shfl_up_sync(OCT_WARP_MASK, larger, 1);
    const float a = oct_exp((oct_lane() == 0 ? to.maximum : previous) - larger), b = oct_exp(maximum - larger);
#pragma unroll 4
    for (int i = 0; i < count; i++) {
        const float old_factor = __shfl_sync(OCT_WARP_MASK, a, i), new_factor = __shfl_sync(OCT_WARP_MASK, b, i);
        to.sum = fmaf(__shfl_sync(OCT_WARP_MASK, sum, i), new_factor, to.sum * old_factor);
#pragma unroll
        for (int k = 0; k < DIM / OCT_WARP; k++) {
            const float value = __ldcg(states + i * STATE + k * OCT_WARP + oct_lane());
            to.values[k] = fmaf(value, new_factor, to.values[k] * old_factor);
        }
    }
    to.maximum = __shfl_sync(OCT_WARP_MASK, larger, OCT_WARP - 1);
}

template <int DIM> OCT_DEVICE void oct_merge_states(oct_warp_state<DIM> &to, const float *states, int32_t count)
{
    to.maximum = -INFINITY;
    to.sum = 0.0f;
    for (int k = 0; k < DIM / OCT_WARP; k++)
        to.values[k] = 0.0f;
    for (int32_t i = 0; i < count; i += OCT_WARP)
        oct_merge_some<DIM>(to, states + static_cast<int64_t>(i) * (DIM + OCT_STATE_PADDING),
                            count - i < OCT_WARP ? count - i : OCT_WARP);
}

// Merges the states of a warp's query: the splits of a stretch (stretch >= 0) or the stretches (stretch −1), of which
// the query may have none. The result goes to the stretch's state, or out where it is the last.
template <int DIM>
OCT_DEVICE void oct_merge_query(const oct_attention_block &b, int32_t q, int32_t position, int32_t stretch)
{
    const int32_t splits = position / OCT_SPLIT_POSITIONS + 1;
    const int32_t first = stretch < 0 ? 0 : stretch * OCT_CUDA_STRETCH_SPLITS;
    const int32_t left = splits - first, first_stretch = oct_first_stretch_state(b);
    if (left <= 0)
        return;
    oct_warp_state<DIM> state;
    if (stretch < 0)
        oct_merge_states<DIM>(state, oct_query_state<DIM>(b, q, first_stretch),
                              oct_ceiling(splits, OCT_CUDA_STRETCH_SPLITS));
    else
        oct_merge_states<DIM>(state, oct_query_state<DIM>(b, q, first),
                              left < OCT_CUDA_STRETCH_SPLITS ? left : OCT_CUDA_STRETCH_SPLITS);
    const bool out = stretch < 0 || b.stretches == 1;
    float *to = out ? oct_query_out(b, q) : oct_query_state<DIM>(b, q, first_stretch + stretch);
    for (int k = 0; k < DIM / OCT_WARP; k++)
        to[k * OCT_WARP + oct_lane()] = out ? oct_attention_result(state.values[k], state.sum) : state.values[k];
    if (!out && oct_lane() < 2)
        to[DIM + oct_lane()] = oct_lane() == 0 ? state.maximum : state.sum;
}

#endif
