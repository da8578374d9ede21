// Inside attention.cu and persistent.cu: the body of OCT_OP_ATTENTION. A block has one run of columns and one key-value
// head, at most 8 · TILES queries of them, and walks units of splits: single splits where there are few columns (as
// many blocks as possible share a long context), whole stretches of 16 where there are many (a state is written for
// 4096 positions only). The block that finishes the last unit merges the states.
#ifndef OCT_KERNELS_CUDA_ATTENTION_BODY_H
#define OCT_KERNELS_CUDA_ATTENTION_BODY_H

#include "kernels/cuda/attention_split.h"

// The values of a unit, and its maxima and sums: out where there is nothing to be merged, else to the state `i`.
template <int DIM, int TILES>
OCT_DEVICE void store_unit(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, bool out, int32_t state,
                           const attention_values<DIM, TILES> &values)
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int q = n * 8 + score_query(j);
            if (q >= b.queries || oct_warp() >= HALF_WARPS)
                continue;
            float *to = out ? oct_query_out(b, q) : oct_query_state<DIM>(b, q, state);
#pragma unroll
            for (int i = 0; i < values.SQUARES; i++)
#pragma unroll
                for (int e = j; e < 4; e += 2) {
                    const int d = (oct_warp() + i * HALF_WARPS) * SQUARE + score_position(e);
                    const float value = values.at[i][n][e];
                    if (d < DIM)
                        to[d] = out ? oct_attention_result(value, s.sum[q]) : value;
                }
        }
    const int q = static_cast<int>(threadIdx.x);
    if (!out && q < b.queries) {
        oct_query_state<DIM>(b, q, state)[DIM] = s.maximum[q];
        oct_query_state<DIM>(b, q, state)[DIM + 1] = s.sum[q];
    }
}

// Where this was the last unit of its stretch: merges its splits; the last one of all: merges the stretches.
template <int DIM, int TILES>
OCT_DEVICE void merge_units(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split)
{
    const int32_t stretch = split / OCT_CUDA_STRETCH_SPLITS;
    if (oct_unit_splits(b.attention) == 1) {
        const int32_t left = b.splits - stretch * OCT_CUDA_STRETCH_SPLITS;
        if (!oct_last_to_arrive(b.arrivals + stretch, left < OCT_CUDA_STRETCH_SPLITS ? left : OCT_CUDA_STRETCH_SPLITS,
                                &s.last))
            return;
        for (int32_t q = oct_warp(); q < b.queries; q += WARPS)
            oct_merge_query<DIM>(b, q, s.position[q], stretch);
    }
    if (b.stretches == 1 ||
        !oct_last_to_arrive(b.arrivals + oct_max_stretches(b.attention), b.stretches, &s.last))
        return;
    for (int32_t q = oct_warp(); q < b.queries; q += WARPS)
        oct_merge_query<DIM>(b, q, s.position[q], -1);
}

// The splits of a unit from `split` on.
template <int DIM, int TILES>
OCT_DEVICE void attend_unit(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split)
{
    const int32_t unit_splits = oct_unit_splits(b.attention);
    const int32_t end = split + unit_splits < b.splits ? split + unit_splits : b.splits;
    const bool alone = b.splits <= unit_splits;
    attention_values<DIM, TILES> values = {};
    if (threadIdx.x < static_cast<unsigned>(s.QUERIES)) {
        s.maximum[threadIdx.x] = -INFINITY;
        s.sum[threadIdx.x] = 0.0f;
    }
    for (int32_t i = split; i < end; i++)
        attend_split(b, s, i, values);
    const int32_t state = unit_splits == 1 ? split : split / OCT_CUDA_STRETCH_SPLITS;
    store_unit(b, s, alone, state, values);
    if (!alone)
        merge_units(b, s, split);
    __syncthreads(); // the next unit begins with an empty state and the same queries
}

// The block's queries of the run, in shared memory's groups of s.QUERIES: place.y says which key-value head, and which
// group where one head's queries of a column are more than fit.
template <int QUERIES>
OCT_DEVICE oct_attention_block make_block(const oct_cuda_attention &a, const oct_place &place, const oct_cuda_run &run)
{
    oct_attention_block b = {};
    const int32_t parts = place.blocks_y / a.cache.kv_heads;
    b.attention = &a;
    b.run = run;
    b.pages = a.step.pages + run.pages;
    b.kv_head = place.y / parts;
    const int32_t begin = b.kv_head * a.heads.group - a.heads.first_in_group, end = begin + a.heads.group;
    b.first_head = begin > 0 ? begin : 0;
    b.group = (end < a.heads.heads ? end : a.heads.heads) - b.first_head;
    b.first_query = place.y % parts * QUERIES;
    const int32_t left = run.columns * b.group - b.first_query;
    b.queries = left < QUERIES ? left : QUERIES;
    b.tiles = oct_ceiling(b.queries, 8);
    b.splits = oct_ceiling(run.positions, OCT_SPLIT_POSITIONS);
    b.stretches = oct_ceiling(b.splits, OCT_CUDA_STRETCH_SPLITS);
    b.attention_scale = oct_divide(1.0f, oct_square_root(static_cast<float>(a.cache.head_dim)));
    b.arrivals = a.arrivals + static_cast<size_t>(place.x * place.blocks_y + place.y) *
                                  static_cast<size_t>(oct_max_stretches(&a) + 1);
    return b;
}

OCT_DEVICE void clear_queries(const oct_attention_block &b)
{
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < b.queries * b.attention->cache.head_dim; i += THREADS)
        oct_query_out(b, i / b.attention->cache.head_dim)[i % b.attention->cache.head_dim] = 0.0f;
}

// Block (run, key-value head, unit and every blocks_z'th behind it).
template <int DIM, int TILES>
OCT_DEVICE void oct_attention_body(const oct_cuda_attention &a, const oct_place &place, attention_shared<DIM, TILES> &s)
{
    const oct_cuda_run run = a.step.runs[place.x];
    const int32_t unit_splits = oct_unit_splits(&a);
    const int32_t first = place.z * unit_splits;
    if (run.columns == 0 || (first > 0 && first * OCT_SPLIT_POSITIONS >= run.positions))
        return;
    const oct_attention_block b = make_block<8 * TILES>(a, place, run);
    if (b.queries <= 0)
        return;
    if (run.positions == 0)
        clear_queries(b);
    load_queries(b, s);
    for (int32_t split = first; split < b.splits; split += place.blocks_z * unit_splits)
        attend_unit(b, s, split);
}

#endif
