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
    BATCH = 4 // squares of a 16-byte load each that a warp has under way, of one row of squares
};

// Tiles of the variant for many queries.
static constexpr __host__ __device__ int attention_wide_tiles(int head_dim)
{
    return head_dim <= 128 ? 4 : 2;
}

// What a block shares. Rows are padded so that the lanes of a load have different banks.
template <int DIM, int TILES> struct attention_shared {
    static constexpr int QUERIES = 8 * TILES, FRESH = TILES == 1 ? 8 : OCT_CUDA_NARROW_COLUMNS; // of a sequence, at most
    uint16_t queries[QUERIES][DIM + 8];
    uint16_t weights[QUERIES][OCT_SPLIT_POSITIONS + 8]; // bf16; before there are any: new keys
    uint16_t fresh[FRESH][DIM + 8];                     // new values
    union {                                             // by turns
        float normed[WARPS][DIM];                       // heads on their way
        float largest[WARPS][QUERIES];                  // scores
        float values[QUERIES][DIM + 4];                 // of the second half of the positions
    };
    float sums[WARPS][QUERIES];                         // of weights
    float split_maximum[QUERIES];
    float maximum[QUERIES], sum[QUERIES];               // of the unit so far
    float old_factor[QUERIES], new_factor[QUERIES];     // a and b of the split's merge; b = −1: not attended
    int32_t position[QUERIES];                          // −1: no query
    bool last;
};

OCT_DEVICE uint16_t *keys_of_page(const oct_attention_block &b, int32_t page)
{
    return b.keys + static_cast<int64_t>(page) * b.operands->page_elements;
}

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

// Head i of those that a block makes for a split: a query, or behind them the key and the value of a new position.
template <int DIM> struct attention_head {
    oct_rope_head<(DIM / 2 + OCT_WARP - 1) / OCT_WARP> x;
    int32_t position, page; // of a key; page −1: another block writes it
    const float *value;
};

template <int DIM>
OCT_DEVICE void load_head(const oct_attention_block &b, int32_t i, int32_t first_position, attention_head<DIM> &to)
{
    const oct_cuda_attention &a = b.operands->launch;
    const bool is_query = i < b.queries;
    const int32_t column =
        is_query ? oct_query_column(b, i) : oct_column_of_position(b, first_position + i - b.queries);
    const int32_t head = is_query ? oct_query_head(b, i) : b.kv_head;
    const float *from = a.qkv + column * a.qkv_stride + (is_query ? head : a.heads.heads + head) * DIM;
    to.x.part = is_query ? 0 : 1;
    to.x.head_dim = DIM;
    to.position = oct_position_of_column(b, column);
    to.page = !is_query && to.position >= b.written_from ? b.pages[to.position / OCT_PAGE_POSITIONS] : -1;
    to.value = from + a.cache.kv_heads * DIM;
    oct_rope_load(a, head, from, to.position, to.x);
}

// A new key and value: to shared memory, from there to the cache where this block writes them.
template <int DIM, int TILES>
OCT_DEVICE void finish_key(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t i,
                           attention_head<DIM> &head)
{
    const oct_cuda_attention &a = b.operands->launch;
    const int32_t place = head.position % OCT_PAGE_POSITIONS;
    uint16_t *keys = keys_of_page(b, head.page);
    oct_rope_finish(a, head.x, s.normed[b.warp], s.weights[i]);
    for (int d = b.lane; d < DIM; d += OCT_WARP) {
        const uint16_t value = oct_rope_value(a, b.kv_head, head.value, d);
        s.fresh[i][d] = value;
        if (head.page >= 0)
            keys[OCT_PAGE_POSITIONS * DIM + oct_cuda_value_place(place, d)] = value;
    }
    __syncwarp();
    if (head.page >= 0)
        oct_rope_store_key(s.weights[i], DIM, keys, place);
}

template <int DIM, int TILES>
OCT_DEVICE void finish_head(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t i,
                            attention_head<DIM> &head)
{
    if (i < b.queries)
        oct_rope_finish(b.operands->launch, head.x, s.normed[b.warp], s.queries[i]);
    else
        finish_key(b, s, i - b.queries, head);
}

// The heads from `begin` on; two at a time where registers suffice, so that what the second needs is under way while the
// first is made.
template <int DIM, int TILES>
OCT_DEVICE void rotate_heads(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split,
                             int32_t begin)
{
    const int32_t end = b.queries + count_fresh(b, split), first = first_fresh(b, split);
    constexpr int AT_ONCE = DIM <= 192 ? 2 : 1;
    for (int32_t i = begin + b.warp; i < end; i += AT_ONCE * WARPS) {
        const bool are_two = AT_ONCE == 2 && i + WARPS < end;
        attention_head<DIM> head, other = {};
        load_head(b, i, first, head);
        if (are_two)
            load_head(b, i + WARPS, first, other);
        finish_head(b, s, i, head);
        if (are_two)
            finish_head(b, s, i + WARPS, other);
    }
}

template <int DIM, int TILES>
OCT_DEVICE void load_queries(const oct_attention_block &b, attention_shared<DIM, TILES> &s)
{
    const oct_cuda_attention &a = b.operands->launch;
    for (int i = b.warp * OCT_WARP + b.lane; i < s.QUERIES * (DIM / 8); i += THREADS) {
        const int q = i / (DIM / 8), d = i % (DIM / 8) * 8;
        if (q < b.queries)
            oct_store(&s.queries[q][d], oct_load<uint4>(a.queries + oct_query_index(b, q) * DIM + d));
    }
}

// Queries, once a block, and keys.
template <int DIM, int TILES>
OCT_DEVICE void make_heads(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split, bool is_first)
{
    const int q = b.warp * OCT_WARP + b.lane;
    if (is_first && q < s.QUERIES)
        s.position[q] = q < b.queries ? oct_position_of_column(b, oct_query_column(b, q)) : -1;
    if (oct_unit_splits<TILES>(*b.operands) == 1)
        rotate_heads(b, s, split, is_first ? 0 : b.queries);
    else if (is_first)
        load_queries(b, s);
}

#endif
