// Inside attention.cu and persistent.cu: what a block shares, and what it makes before it attends. In narrow launches
// these are its queries, and keys and values of the positions that columns of this step have, all from qkv; so they need
// not wait for each other. In wide launches OCT_OP_ROPE_CACHE has made them before.
#ifndef OCT_KERNELS_CUDA_ATTENTION_FRESH_H
#define OCT_KERNELS_CUDA_ATTENTION_FRESH_H

#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/rotation_body.h"

enum {
    WARPS = 8,
    THREADS = WARPS * OCT_WARP,
    SQUARE = 16,                                  // positions and dimensions
    SPLIT_SQUARES = OCT_SPLIT_POSITIONS / SQUARE, // of positions
    HALF_WARPS = WARPS / 2,
    HALF_SQUARES = SPLIT_SQUARES / 2,
    BATCH = 8 // squares of a 16-byte load each that a warp has under way, of one row of squares
};

// Tiles of the variant for many queries.
static constexpr __host__ __device__ int attention_wide_tiles(int head_dim)
{
    return head_dim <= 128 ? 4 : 2;
}

// What a block shares. Rows are padded so that the lanes of a load have different banks.
template <int DIM, int TILES> struct attention_shared {
    static constexpr int QUERIES = 8 * TILES;
    uint16_t queries[QUERIES][DIM + 8];
    uint16_t weights[QUERIES][OCT_SPLIT_POSITIONS + 8]; // bf16; before there are any: new keys, no more than QUERIES
    float values[QUERIES][DIM + 4];                     // of the second half of the positions; before: of norms
    float largest[WARPS][QUERIES], sums[WARPS][QUERIES];
    float maximum[QUERIES], sum[QUERIES];               // of the unit so far
    float old_factor[QUERIES], new_factor[QUERIES];     // a and b of the split's merge; b = −1: not attended
    int32_t position[QUERIES];                          // −1: no query
    bool last;
};

// The first new position of a split, or of what is behind it.
OCT_DEVICE int32_t first_fresh(const oct_attention_block &b, int32_t split)
{
    return b.cached > split * OCT_SPLIT_POSITIONS ? b.cached : split * OCT_SPLIT_POSITIONS;
}

// How many there are.
OCT_DEVICE int32_t count_fresh(const oct_attention_block &b, int32_t split)
{
    const int32_t end = (split + 1) * OCT_SPLIT_POSITIONS;
    const int32_t count = (b.run.positions < end ? b.run.positions : end) - first_fresh(b, split);
    return count > 0 ? count : 0;
}

// Dimension d of the value of a new position.
template <int DIM> OCT_DEVICE uint16_t fresh_value(const oct_attention_block &b, int32_t position, int32_t d)
{
    const oct_cuda_attention &a = b.operands->launch;
    const float *row = a.qkv + oct_column_of_position(b, position) * a.qkv_stride;
    return oct_rope_value(a, b.kv_head, row + (a.heads.heads + a.cache.kv_heads + b.kv_head) * DIM, d);
}

// Head i of those that a block makes for a split: a query, or behind them the key of a new position.
template <int DIM, int PAIRS>
OCT_DEVICE void load_head(const oct_attention_block &b, int32_t i, int32_t first_position, oct_rope_head<PAIRS> &x)
{
    const oct_cuda_attention &a = b.operands->launch;
    const bool is_query = i < b.queries;
    const int32_t column =
        is_query ? oct_query_column(b, i) : oct_column_of_position(b, first_position + i - b.queries);
    const int32_t head = is_query ? oct_query_head(b, i) : b.kv_head;
    const float *from = a.qkv + column * a.qkv_stride + (is_query ? head : a.heads.heads + head) * DIM;
    x.part = is_query ? 0 : 1;
    x.head_dim = DIM;
    oct_rope_load(a, head, from, oct_position_of_column(b, column), x);
}

template <int DIM, int TILES, int PAIRS>
OCT_DEVICE void finish_head(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t i,
                            oct_rope_head<PAIRS> &x)
{
    uint16_t *to = i < b.queries ? s.queries[i] : s.weights[i - b.queries];
    oct_rope_finish(b.operands->launch, x, s.values[oct_warp()], to);
}

// The heads from `begin` on; two at a time, so that what the second needs is under way while the first is made.
template <int DIM, int TILES>
OCT_DEVICE void rotate_heads(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split,
                             int32_t begin)
{
    const int32_t end = b.queries + count_fresh(b, split), first = first_fresh(b, split);
    for (int32_t i = begin + oct_warp(); i < end; i += 2 * WARPS) {
        oct_rope_head<(DIM / 2 + OCT_WARP - 1) / OCT_WARP> x, y;
        const bool is_pair = i + WARPS < end;
        load_head<DIM>(b, i, first, x);
        if (is_pair)
            load_head<DIM>(b, i + WARPS, first, y);
        finish_head(b, s, i, x);
        if (is_pair)
            finish_head(b, s, i + WARPS, y);
    }
}

template <int DIM, int TILES>
OCT_DEVICE void load_queries(const oct_attention_block &b, attention_shared<DIM, TILES> &s)
{
    const oct_cuda_attention &a = b.operands->launch;
    for (int i = static_cast<int>(threadIdx.x); i < s.QUERIES * (DIM / 8); i += THREADS) {
        const int q = i / (DIM / 8), d = i % (DIM / 8) * 8;
        if (q < b.queries)
            oct_store(&s.queries[q][d], oct_load<uint4>(a.queries + oct_query_index(b, q) * DIM + d));
    }
}

// Queries, once a block, and keys.
template <int DIM, int TILES>
OCT_DEVICE void make_heads(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split, bool is_first)
{
    const int q = static_cast<int>(threadIdx.x);
    if (is_first && q < s.QUERIES)
        s.position[q] = q < b.queries ? oct_position_of_column(b, oct_query_column(b, q)) : -1;
    if (b.operands->unit_splits == 1)
        rotate_heads(b, s, split, is_first ? 0 : b.queries);
    else if (is_first)
        load_queries(b, s);
}

#endif
