// Inside attention.cu: what a block works on, where states lie, and how the last block to arrive merges them.
#ifndef OCT_KERNELS_CUDA_ATTENTION_MERGE_H
#define OCT_KERNELS_CUDA_ATTENTION_MERGE_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/elementary.h"

enum { OCT_STATE_PADDING = 8 }; // a state is [head_dim] values, maximum, sum; whole sectors of 32 bytes

// What the kernels are given: the launch, and what follows from it, so that no thread has to divide.
typedef struct oct_attention_operands {
    oct_cuda_attention launch;
    int32_t parts; // blocks that share the queries of a run and key-value head
    int32_t unit_splits, query_states, max_stretches;
    uint32_t of_group[3]; // 2^20 / queries of the group, rounded up: of the first key-value head, of others, of the last
    float scale;          // head_dim^-0.5
    int32_t page_elements; // of the cache
} oct_attention_operands;

enum { OCT_GROUP_SHIFT = 20, OCT_MOST_GROUP = 512 };

// The query heads [begin, end) of this rank that share a key-value head.
static __host__ __device__ __forceinline__ oct_run oct_queries_of_head(const oct_cuda_heads *heads, int32_t kv_head)
{
    const int32_t begin = kv_head * heads->group - heads->first_in_group, end = begin + heads->group;
    return {begin > 0 ? begin : 0, end < heads->heads ? end : heads->heads};
}

// Splits of a unit. With one tile of queries launches are narrow.
template <int TILES> OCT_DEVICE int32_t oct_unit_splits(const oct_attention_operands &operands)
{
    return TILES == 1 ? 1 : operands.unit_splits;
}

// What a block works on: queries of a run that share a key-value head. Query q is head first_head + q % group of the
// run's column q / group, beginning with query first_query of them.
typedef struct oct_attention_block {
    const oct_attention_operands *operands;
    int32_t warp, lane;
    oct_cuda_run run;
    const int32_t *pages; // of the run's sequence
    uint16_t *keys;       // of the layer and the key-value head in page 0; values are behind them
    int32_t kv_head, first_head, group, first_query;
    uint32_t of_group;
    int32_t queries, tiles;     // tiles of 8 queries
    int32_t cached;             // positions of the sequence whose keys and values the cache has; the block makes others
    int32_t written_from;       // and writes those from here on
    int32_t splits, stretches;
    uint32_t *arrivals; // of each stretch, then of all
} oct_attention_block;

// The block in this turn of a loop. That warp and lane are the same in all of them is hidden, for what follows from them
// would be computed before the first turn and fill the registers.
OCT_DEVICE oct_attention_block in_this_turn(const oct_attention_block &b)
{
    oct_attention_block same = b;
    const uint32_t thread = hide(threadIdx.x);
    same.warp = static_cast<int32_t>(thread / OCT_WARP);
    same.lane = static_cast<int32_t>(thread % OCT_WARP);
    return same;
}

// n / group, where n is a query of a block (n < group + 32): right, because n · group is less than 2^20.
OCT_DEVICE int32_t oct_divide_by_group(const oct_attention_block &b, int32_t n)
{
    return static_cast<int32_t>(static_cast<uint32_t>(n) * b.of_group >> OCT_GROUP_SHIFT);
}

OCT_DEVICE int32_t oct_query_column(const oct_attention_block &b, int32_t q)
{
    return b.run.column + oct_divide_by_group(b, b.first_query + q);
}

OCT_DEVICE int32_t oct_query_head(const oct_attention_block &b, int32_t q)
{
    const int32_t n = b.first_query + q;
    return b.first_head + n - oct_divide_by_group(b, n) * b.group;
}

// Of a column of the run's sequence.
OCT_DEVICE int32_t oct_position_of_column(const oct_attention_block &b, int32_t column)
{
    return b.run.positions - (b.run.column + b.run.columns - column);
}

OCT_DEVICE int32_t oct_column_of_position(const oct_attention_block &b, int32_t position)
{
    return b.run.column + b.run.columns - (b.run.positions - position);
}

// Among the queries of all columns.
OCT_DEVICE int64_t oct_query_index(const oct_attention_block &b, int32_t q)
{
    return static_cast<int64_t>(oct_query_column(b, q)) * b.operands->launch.heads.heads + oct_query_head(b, q);
}

template <int DIM> OCT_DEVICE float *oct_query_out(const oct_attention_block &b, int32_t q)
{
    const oct_cuda_attention &a = b.operands->launch;
    return a.out + oct_query_column(b, q) * a.out_stride + oct_query_head(b, q) * DIM;
}

template <int DIM> OCT_DEVICE float *oct_query_state(const oct_attention_block &b, int32_t q, int32_t i)
{
    return b.operands->launch.states +
           (oct_query_index(b, q) * b.operands->query_states + i) * (DIM + OCT_STATE_PADDING);
}

// Where the states of stretches begin among a query's.
OCT_DEVICE int32_t oct_first_stretch_state(const oct_attention_block &b)
{
    return b.operands->query_states - b.operands->max_stretches;
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
    const int32_t of_stretch = left < OCT_CUDA_STRETCH_SPLITS ? left : OCT_CUDA_STRETCH_SPLITS;
    oct_warp_state<DIM> state;
    oct_merge_states<DIM>(state, oct_query_state<DIM>(b, q, stretch < 0 ? first_stretch : first),
                          stretch < 0 ? oct_ceiling(splits, OCT_CUDA_STRETCH_SPLITS) : of_stretch);
    const bool out = stretch < 0 || b.stretches == 1;
    float *to = out ? oct_query_out<DIM>(b, q) : oct_query_state<DIM>(b, q, first_stretch + stretch);
    for (int k = 0; k < DIM / OCT_WARP; k++)
        to[k * OCT_WARP + oct_lane()] = out ? oct_attention_result(state.values[k], state.sum) : state.values[k];
    if (!out && oct_lane() < 2)
        to[DIM + oct_lane()] = oct_lane() == 0 ? state.maximum : state.sum;
}

#endif
