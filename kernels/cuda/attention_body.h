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
            const int q = n * 8 + score_query(b, j);
            if (q >= b.queries || b.warp >= HALF_WARPS)
                continue;
            float *to = out ? oct_query_out<DIM>(b, q) : oct_query_state<DIM>(b, q, state);
#pragma unroll
            for (int i = 0; i < values.SQUARES; i++)
#pragma unroll
                for (int e = j; e < 4; e += 2) {
                    const int d = (b.warp + i * HALF_WARPS) * SQUARE + score_position(b, e);
                    const float value = values.at[i][n][e];
                    if (d < DIM)
                        to[d] = out ? oct_attention_result(value, s.sum[q]) : value;
                }
        }
    const int q = b.warp * OCT_WARP + b.lane;
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
    if (oct_unit_splits<TILES>(*b.operands) == 1) {
        const int32_t left = b.splits - stretch * OCT_CUDA_STRETCH_SPLITS;
        if (!oct_last_to_arrive(b.arrivals + stretch, left < OCT_CUDA_STRETCH_SPLITS ? left : OCT_CUDA_STRETCH_SPLITS,
                                &s.last))
            return;
        for (int32_t q = b.warp; q < b.queries; q += WARPS)
            oct_merge_query<DIM>(b, q, s.position[q], stretch);
    }
    if (b.stretches == 1 ||
        !oct_last_to_arrive(b.arrivals + b.operands->max_stretches, b.stretches, &s.last))
        return;
    for (int32_t q = b.warp; q < b.queries; q += WARPS)
        oct_merge_query<DIM>(b, q, s.position[q], -1);
}

// The splits of a unit from `split` on, of which the first one's pages are there.
template <int DIM, int TILES>
OCT_DEVICE void attend_unit(const oct_attention_block &of, attention_shared<DIM, TILES> &s, int32_t split,
                            attention_pages pages, bool is_first)
{
    const oct_attention_block b = in_this_turn(of);
    const int32_t unit_splits = oct_unit_splits<TILES>(*b.operands);
    const int32_t end = split + unit_splits < b.splits ? split + unit_splits : b.splits;
    const bool alone = b.splits <= unit_splits;
    attention_values<DIM, TILES> values = {};
    if (threadIdx.x < static_cast<unsigned>(s.QUERIES)) {
        s.maximum[threadIdx.x] = -INFINITY;
        s.sum[threadIdx.x] = 0.0f;
    }
    for (int32_t i = split; i < end; i++) {
        if (i > split)
            pages = load_pages(b.pages, i);
        attend_split(b, s, i, pages, is_first && i == split, values);
    }
    const int32_t state = unit_splits == 1 ? split : split / OCT_CUDA_STRETCH_SPLITS;
    store_unit(b, s, alone, state, values);
    if (!alone)
        merge_units(b, s, split);
}

// The block's queries of the run, in shared memory's groups of s.QUERIES: place.y says which key-value head, and which
// group where one head's queries of a column are more than fit.
template <int DIM, int TILES>
OCT_DEVICE oct_attention_block make_block(const oct_attention_operands &operands, const oct_place &place,
                                          const oct_cuda_run &run, const int32_t *pages)
{
    const oct_cuda_attention &a = operands.launch;
    oct_attention_block b = {};
    b.operands = &operands;
    b.warp = oct_warp();
    b.lane = oct_lane();
    b.run = run;
    b.pages = pages;
    b.kv_head = TILES == 1 || operands.parts == 1 ? place.y : place.y / operands.parts;
    b.keys = a.cache.memory +
             static_cast<int64_t>(a.layer * a.cache.kv_heads + b.kv_head) * (2 * OCT_PAGE_POSITIONS * DIM);
    const int32_t part = TILES == 1 ? 0 : place.y - b.kv_head * operands.parts;
    const oct_run heads = oct_queries_of_head(&a.heads, b.kv_head);
    b.first_head = heads.begin;
    b.group = heads.end - heads.begin;
    b.of_group = operands.of_group[b.kv_head == 0 ? 0 : b.kv_head < a.cache.kv_heads - 1 ? 1 : 2];
    b.first_query = part * 8 * TILES;
    const int32_t left = run.columns * b.group - b.first_query;
    b.queries = left < 8 * TILES ? left : 8 * TILES;
    b.tiles = oct_ceiling(b.queries, 8);
    b.cached = oct_unit_splits<TILES>(operands) == 1 ? run.positions - run.fresh : run.positions;
    b.written_from = part == 0 ? run.positions - run.columns : run.positions;
    b.splits = oct_ceiling(run.positions, OCT_SPLIT_POSITIONS);
    b.stretches = oct_ceiling(b.splits, OCT_CUDA_STRETCH_SPLITS);
    b.arrivals =
        a.arrivals + static_cast<int64_t>(place.x * place.blocks_y + place.y) * (operands.max_stretches + 1);
    return b;
}

template <int DIM> OCT_DEVICE void clear_queries(const oct_attention_block &b)
{
#pragma unroll 1
    for (int32_t q = b.warp; q < b.queries; q += WARPS)
        for (int32_t d = b.lane; d < DIM; d += OCT_WARP)
            oct_query_out<DIM>(b, q)[d] = 0.0f;
}

// Block (run, key-value head, unit and every blocks_z'th behind it). The first run, whose pages are the first ones, is
// never empty: what its first block needs is asked for before anything is known of it.
template <int DIM, int TILES>
OCT_DEVICE void oct_attention_body(const oct_attention_operands &operands, const oct_place &place,
                                   attention_shared<DIM, TILES> &s)
{
    const oct_cuda_step &step = operands.launch.step;
    const int32_t unit_splits = oct_unit_splits<TILES>(operands), first = place.z * unit_splits;
    const int32_t *pages = step.pages + (place.x == 0 ? 0 : step.runs[place.x].pages);
    attention_pages of_split = load_pages(pages, first);
    const oct_cuda_run run = step.runs[place.x];
    if ((place.x > 0 && run.columns == 0) || (place.z > 0 && first * OCT_SPLIT_POSITIONS >= run.positions))
        return;
    const oct_attention_block b = make_block<DIM, TILES>(operands, place, run, pages);
    if (TILES > 1 && b.queries <= 0)
        return;
    for (int32_t split = first; split < b.splits; split += place.blocks_z * unit_splits) {
        if (split > first) {
            of_split = load_pages(pages, split);
            __syncthreads(); // the last unit's state and keys are done with
        }
        attend_unit(b, s, split, of_split, split == first);
    }
    if (run.positions == 0)
        clear_queries<DIM>(b);
}

#endif
