// Inside attention.cu and persistent.cu: one split for a block's queries. 256 threads; warp w has the positions [16 w, +
// 16) and [128 + 16 w, + 16) of the scores, then the squares of dimensions w % 4, + 4, … and the half w / 4 of the
// positions of the values. Keys and values go from memory straight into registers: a lane's 16-byte load is its part of
// the mma's operand. Where the block makes keys and values itself (attention_fresh.h), lanes put them in their place,
// and from there into the cache. Nobody reads there what another block may be writing.
#ifndef OCT_KERNELS_CUDA_ATTENTION_SPLIT_H
#define OCT_KERNELS_CUDA_ATTENTION_SPLIT_H

#include "kernels/cuda/attention_fresh.h"

// The weighted values of the unit so far: [square of dimensions][tile of queries], as the mma leaves them. In the warps
// of the first half.
template <int DIM, int TILES> struct attention_values {
    static constexpr int SQUARES = (DIM / SQUARE + HALF_WARPS - 1) / HALF_WARPS;
    float at[SQUARES][TILES][4];
};

// Registers of the operand of 8 columns: two pairs of a row of shared memory from `at` on.
OCT_DEVICE void load_column(const oct_attention_block &b, uint32_t column[2], const uint16_t *at)
{
    column[0] = oct_load<uint32_t>(at + b.lane % 4 * 2);
    column[1] = oct_load<uint32_t>(at + b.lane % 4 * 2 + 8);
}

// Page ids of the warp's squares in a split: of its two squares of keys, and of its half of the values. Some may be of
// positions that are not there.
struct attention_pages {
    int32_t keys[2], values[2];
};

OCT_DEVICE attention_pages load_pages(const int32_t *pages, int32_t split)
{
    // Volatile, so that they are asked for here and not where they are needed.
    const volatile int32_t *of_split = pages + split * OCT_SPLIT_PAGES;
    const int32_t half = oct_warp() / HALF_WARPS;
    return {{of_split[half], of_split[half + 2]}, {of_split[half * 2], of_split[half * 2 + 1]}};
}

// Keys of the warp's two squares of positions, some squares of dimensions at a time; registers of the operand of 16
// rows.
template <int DIM> struct attention_keys {
    static constexpr int SQUARES = DIM / SQUARE, LENGTH = SQUARES < BATCH ? SQUARES : BATCH;
    uint4 at[2][LENGTH];
};

// Loads the squares of dimensions from `begin` on; of `squares` squares of positions. Rows that the cache does not have
// are 0.
template <int DIM>
OCT_DEVICE void load_keys(const oct_attention_block &b, const attention_pages &pages, int32_t split, int32_t squares,
                          int begin, attention_keys<DIM> &keys)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int square = b.warp + i * WARPS;
        if (square >= squares)
            break;
        const uint16_t *at = keys_of_page(b, pages.keys[i]) +
                             (square % OCT_CUDA_PAGE_SQUARES * keys.SQUARES + begin) * OCT_CUDA_SQUARE + b.lane * 8;
        const int32_t cached = b.cached - split * OCT_SPLIT_POSITIONS - square * SQUARE, row = b.lane / 4;
        if (cached >= SQUARE) {
#pragma unroll
            for (int k = 0; k < keys.LENGTH; k++)
                if (begin + k < keys.SQUARES)
                    keys.at[i][k] = oct_load<uint4>(at + k * OCT_CUDA_SQUARE);
            continue;
        }
#pragma unroll
        for (int k = 0; k < keys.LENGTH; k++)
            if (begin + k < keys.SQUARES) {
                const uint16_t *of = at + k * OCT_CUDA_SQUARE;
                keys.at[i][k].x = row < cached ? oct_load<uint32_t>(of) : 0;
                keys.at[i][k].z = row < cached ? oct_load<uint32_t>(of + 4) : 0;
                keys.at[i][k].y = row + 8 < cached ? oct_load<uint32_t>(of + 2) : 0;
                keys.at[i][k].w = row + 8 < cached ? oct_load<uint32_t>(of + 6) : 0;
            }
    }
}

// Puts the keys that the block has made into their rows.
template <int DIM, int TILES>
OCT_DEVICE void place_keys(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, int32_t split,
                           int32_t squares, int begin, attention_keys<DIM> &keys)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int32_t square = b.warp + i * WARPS, end = split * OCT_SPLIT_POSITIONS + (square + 1) * SQUARE;
        if (square >= squares || b.cached >= end)
            continue;
        const int32_t row = end - SQUARE + b.lane / 4, first = first_fresh(b, split);
#pragma unroll
        for (int k = 0; k < keys.LENGTH; k++)
            if (begin + k < keys.SQUARES) {
                uint32_t column[2];
                if (row >= b.cached && row < b.run.positions) {
                    load_column(b, column, &s.weights[row - first][(begin + k) * SQUARE]);
                    keys.at[i][k].x = column[0], keys.at[i][k].z = column[1];
                }
                if (row + 8 >= b.cached && row + 8 < b.run.positions) {
                    load_column(b, column, &s.weights[row + 8 - first][(begin + k) * SQUARE]);
                    keys.at[i][k].y = column[0], keys.at[i][k].w = column[1];
                }
            }
    }
}

// Adds the products of a batch of keys with the queries to the scores.
template <int DIM, int TILES>
OCT_DEVICE void multiply_keys(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, int32_t squares,
                              int begin, const attention_keys<DIM> &keys, float (&scores)[2][TILES][4])
{
#pragma unroll
    for (int k = 0; k < keys.LENGTH; k++)
#pragma unroll
        for (int n = 0; n < TILES; n++)
            if ((n == 0 || n < b.tiles) && begin + k < keys.SQUARES) {
                uint32_t column[2];
                load_column(b, column, &s.queries[n * 8 + b.lane / 4][(begin + k) * SQUARE]);
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (b.warp + i * WARPS < squares) {
                        const uint4 key = keys.at[i][k];
                        const uint32_t rows[4] = {key.x, key.y, key.z, key.w};
                        mma_bf16(scores[i][n], rows, column);
                    }
            }
}

// Scores of the warp's squares of positions, not yet scaled; the first keys are there.
template <int DIM, int TILES>
OCT_DEVICE void score(const oct_attention_block &b, const attention_shared<DIM, TILES> &s,
                      const attention_pages &pages, int32_t split, int32_t squares, attention_keys<DIM> &keys,
                      float (&scores)[2][TILES][4])
{
#pragma unroll
    for (int begin = 0; begin < keys.SQUARES; begin += keys.LENGTH) {
        if (begin > 0)
            load_keys(b, pages, split, squares, begin, keys);
        place_keys(b, s, split, squares, begin, keys);
        if (b.warp < squares)
            multiply_keys(b, s, squares, begin, keys, scores);
    }
}

// The position of a thread's score e = 0 … 3 in its square, and its query in its tile.
OCT_DEVICE int score_position(const oct_attention_block &b, int e)
{
    return b.lane / 4 + e / 2 * 8;
}

OCT_DEVICE int score_query(const oct_attention_block &b, int e)
{
    return b.lane % 4 * 2 + e % 2;
}

// Scales the scores, makes those of positions that are not attended −infinity, and finds the warp's largest ones.
template <int DIM, int TILES>
OCT_DEVICE void mask_scores(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split,
                            int32_t squares, float (&scores)[2][TILES][4])
{
    const float scale = b.operands->scale;
#pragma unroll
    for (int n = 0; n < TILES; n++)
        if (n == 0 || n < b.tiles) {
            float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int e = 0; e < 4 && b.warp + i * WARPS < squares; e++) {
                    const int position =
                        split * OCT_SPLIT_POSITIONS + (b.warp + i * WARPS) * SQUARE + score_position(b, e);
                    const bool attended = position <= s.position[n * 8 + score_query(b, e)];
                    scores[i][n][e] = attended ? scores[i][n][e] * scale : -INFINITY;
                    largest[e % 2] = fmaxf(largest[e % 2], scores[i][n][e]);
                }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                for (int offset = 4; offset < OCT_WARP; offset *= 2)
                    largest[j] = fmaxf(largest[j], __shfl_xor_sync(OCT_WARP_MASK, largest[j], offset));
                if (b.lane < 4)
                    s.largest[b.warp][n * 8 + score_query(b, j)] = largest[j];
            }
        }
}

template <int DIM, int TILES> OCT_DEVICE float largest_score(const attention_shared<DIM, TILES> &s, int query)
{
    float largest = s.largest[0][query];
    for (int w = 1; w < WARPS; w++)
        largest = fmaxf(largest, s.largest[w][query]);
    return largest;
}

// Scores to weights, in bf16, and the warp's sums of them. (A score that is not a number stays one.)
template <int DIM, int TILES>
OCT_DEVICE void weigh(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t squares,
                      const float (&scores)[2][TILES][4])
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
        if (n == 0 || n < b.tiles)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int query = n * 8 + score_query(b, j);
                const float largest = largest_score(s, query);
                float sum = 0.0f;
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int e = j; e < 4 && b.warp + i * WARPS < squares; e += 2) {
                        const float score = scores[i][n][e];
                        const uint32_t weight = score == -INFINITY ? 0 : oct_to_bf16(oct_exp(score - largest));
                        sum = sum + oct_low_bf16(weight);
                        s.weights[query][(b.warp + i * WARPS) * SQUARE + score_position(b, e)] =
                            static_cast<uint16_t>(weight);
                    }
                for (int offset = 4; offset < OCT_WARP; offset *= 2)
                    sum = sum + __shfl_xor_sync(OCT_WARP_MASK, sum, offset);
                if (b.lane < 4)
                    s.sums[b.warp][query] = sum;
                if (b.lane < 4 && b.warp == 0)
                    s.split_maximum[query] = largest;
            }
}

// Merges maxima and sums of the split into the unit's, and leaves the factors for the values. By the last warp, which has
// no values to add while a split is half full.
template <int DIM, int TILES>
OCT_DEVICE void merge_sums(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split)
{
    const int q = b.lane;
    if (b.warp < WARPS - 1 || q >= b.queries)
        return;
    s.new_factor[q] = -1.0f;
    if (s.position[q] < split * OCT_SPLIT_POSITIONS)
        return;
    const float maximum = s.split_maximum[q], larger = fmaxf(s.maximum[q], maximum);
    const float a = oct_exp(s.maximum[q] - larger), factor = oct_exp(maximum - larger);
    float sum = s.sums[0][q];
    for (int w = 1; w < WARPS; w++)
        sum = sum + s.sums[w][q];
    s.maximum[q] = larger;
    s.sum[q] = fmaf(sum, factor, s.sum[q] * a);
    s.old_factor[q] = a;
    s.new_factor[q] = factor;
}

// What a warp adds of the values of a split: its half of the positions, of which the cache has whole squares in front;
// then come squares that it has in part, or that are not whole.
struct attention_half {
    int32_t position;     // the first one
    int32_t whole, count; // squares
    int32_t pages[2];
};

OCT_DEVICE attention_half half_of_warp(const oct_attention_block &b, const attention_pages &pages, int32_t split)
{
    const int32_t position = split * OCT_SPLIT_POSITIONS + b.warp / HALF_WARPS * HALF_SQUARES * SQUARE;
    const int32_t cached = b.cached - position, left = b.run.positions - position;
    const int32_t whole = cached < 0 ? 0 : cached / SQUARE, count = left < 0 ? 0 : oct_ceiling(left, SQUARE);
    return {position, whole < HALF_SQUARES ? whole : HALF_SQUARES, count < HALF_SQUARES ? count : HALF_SQUARES,
            {pages.values[0], pages.values[1]}};
}

// Where the lane's values of a square of the half begin, in one row of squares of dimensions.
template <int DIM>
OCT_DEVICE const uint16_t *values_of_square(const oct_attention_block &b, const attention_half &half, int32_t dimensions,
                                      int32_t square)
{
    return keys_of_page(b, square < OCT_CUDA_PAGE_SQUARES ? half.pages[0] : half.pages[1]) + OCT_PAGE_POSITIONS * DIM +
           (dimensions * OCT_CUDA_PAGE_SQUARES + square % OCT_CUDA_PAGE_SQUARES) * OCT_CUDA_SQUARE + b.lane * 8;
}

// The whole squares of the half.
template <int DIM>
OCT_DEVICE void load_values(const oct_attention_block &b, const attention_half &half, int32_t dimensions,
                            uint4 (&value)[HALF_SQUARES])
{
#pragma unroll
    for (int k = 0; k < HALF_SQUARES; k++)
        if (k < half.whole)
            value[k] = oct_load<uint4>(values_of_square<DIM>(b, half, dimensions, k));
}

// Dimension d of a position that the cache has at `at`, or that the block has made; 0 where there is none.
template <int DIM, int TILES>
OCT_DEVICE uint32_t load_value(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, const uint16_t *at,
                               int32_t position, int32_t first, int32_t d)
{
    if (position < b.cached)
        return *at;
    return position < b.run.positions ? s.fresh[position - first][d] : 0;
}

// A square that is not whole.
template <int DIM, int TILES>
OCT_DEVICE uint4 load_edge(const oct_attention_block &b, const attention_shared<DIM, TILES> &s,
                           const attention_half &half, int32_t dimensions, int32_t square)
{
    const uint16_t *at = values_of_square<DIM>(b, half, dimensions, square);
    const int32_t first = first_fresh(b, half.position / OCT_SPLIT_POSITIONS);
    uint32_t pair[4];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const int32_t position = half.position + square * SQUARE + b.lane % 4 * 2 + r / 2 * 8;
        const int32_t d = dimensions * SQUARE + b.lane / 4 + r % 2 * 8;
        pair[r] = load_value(b, s, at + r * 2, position, first, d) |
                  load_value(b, s, at + r * 2 + 1, position + 1, first, d) << 16;
    }
    return {pair[0], pair[1], pair[2], pair[3]};
}

// Adds a square of values, weighted.
template <int DIM, int TILES>
OCT_DEVICE void add_square(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, int32_t square,
                           const uint4 &value, float (&sums)[TILES][4])
{
    const uint32_t rows[4] = {value.x, value.y, value.z, value.w};
    const int32_t first = (b.warp / HALF_WARPS * HALF_SQUARES + square) * SQUARE;
#pragma unroll
    for (int n = 0; n < TILES; n++)
        if (n == 0 || n < b.tiles) {
            uint32_t column[2];
            load_column(b, column, &s.weights[n * 8 + b.lane / 4][first]);
            mma_bf16(sums[n], rows, column);
        }
}

// The weighted values of one row of squares of dimensions in the warp's half: whole squares and the first one behind
// them are there.
template <int DIM, int TILES>
OCT_DEVICE void add_values(const oct_attention_block &b, const attention_shared<DIM, TILES> &s,
                           const attention_half &half, int32_t dimensions, const uint4 (&value)[HALF_SQUARES],
                           uint4 edge, float (&sums)[TILES][4])
{
#pragma unroll
    for (int k = 0; k < HALF_SQUARES; k++)
        if (k < half.whole)
            add_square(b, s, k, value[k], sums);
#pragma unroll 1
    for (int32_t k = half.whole; k < half.count; k++) {
        add_square(b, s, k, edge, sums);
        if (k + 1 < half.count)
            edge = load_edge(b, s, half, dimensions, k + 1);
    }
}

// Merges the values of a split into the unit's: in the warps of the first half, with what the others left.
template <int DIM, int TILES>
OCT_DEVICE void merge_values(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, bool second_half,
                             const attention_values<DIM, TILES> &sums, attention_values<DIM, TILES> &values)
{
#pragma unroll
    for (int i = 0; i < values.SQUARES; i++)
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int q = n * 8 + score_query(b, e);
                const int d = (b.warp + i * HALF_WARPS) * SQUARE + score_position(b, e);
                if (d >= DIM || (n > 0 && n >= b.tiles) || s.new_factor[q] < 0.0f)
                    continue;
                const float sum = (sums.at[i][n][e] + (second_half ? s.values[q][d] : 0.0f)) + 0.0f;
                values.at[i][n][e] = fmaf(sum, s.new_factor[q], values.at[i][n][e] * s.old_factor[q]);
            }
}

template <int DIM, int TILES>
OCT_DEVICE void leave_values(const oct_attention_block &b, attention_shared<DIM, TILES> &s,
                             const attention_values<DIM, TILES> &sums)
{
#pragma unroll
    for (int i = 0; i < sums.SQUARES; i++)
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int d = (b.warp % HALF_WARPS + i * HALF_WARPS) * SQUARE + score_position(b, e);
                if (d < DIM && (n == 0 || n < b.tiles))
                    s.values[n * 8 + score_query(b, e)][d] = sums.at[i][n][e];
            }
}

// The weighted values of a split: the squares of dimensions w % 4, + 4, … of warp w. The first ones are there.
template <int DIM, int TILES>
OCT_DEVICE void sum_values(const oct_attention_block &b, const attention_shared<DIM, TILES> &s,
                           const attention_half &half, uint4 (&value)[HALF_SQUARES], uint4 edge,
                           attention_values<DIM, TILES> &sums)
{
#pragma unroll
    for (int i = 0; i < sums.SQUARES; i++) {
        const int32_t dimensions = b.warp % HALF_WARPS + i * HALF_WARPS;
        if (dimensions >= DIM / SQUARE)
            break;
        if (i > 0) {
            load_values<DIM>(b, half, dimensions, value);
            if (half.whole < half.count)
                edge = load_edge(b, s, half, dimensions, half.whole);
        }
        add_values(b, s, half, dimensions, value, edge, sums.at[i]);
    }
}

// One split, merged into the unit's state. is_first: the block has not made its queries yet.
template <int DIM, int TILES>
OCT_DEVICE void attend_split(const oct_attention_block &of, attention_shared<DIM, TILES> &s, int32_t split,
                             const attention_pages &pages, bool is_first, attention_values<DIM, TILES> &values)
{
    const oct_attention_block b = in_this_turn(of);
    const int32_t left = b.run.positions - split * OCT_SPLIT_POSITIONS;
    const int32_t squares = left < OCT_SPLIT_POSITIONS ? oct_ceiling(left, SQUARE) : SPLIT_SQUARES;
    float scores[2][TILES][4] = {};
    attention_keys<DIM> keys = {}; // registers that are not always written would be held from the kernel's beginning on
    load_keys(b, pages, split, squares, 0, keys); // under way while queries come
    make_heads(b, s, split, is_first);
    __syncthreads();
    score(b, s, pages, split, squares, keys, scores);
    const attention_half half = half_of_warp(b, pages, split);
    uint4 value[HALF_SQUARES] = {}, edge = {0, 0, 0, 0}; // the first ones are under way while weights are made
    if (b.warp % HALF_WARPS < DIM / SQUARE) {
        load_values<DIM>(b, half, b.warp % HALF_WARPS, value);
        if (half.whole < half.count)
            edge = load_edge(b, s, half, b.warp % HALF_WARPS, half.whole);
    }
    mask_scores(b, s, split, squares, scores);
    __syncthreads();
    weigh(b, s, squares, scores);
    __syncthreads();
    merge_sums(b, s, split);
    attention_values<DIM, TILES> sums = {};
    sum_values(b, s, half, value, edge, sums);
    if (b.warp >= HALF_WARPS && half.count > 0)
        leave_values(b, s, sums);
    __syncthreads();
    if (b.warp < HALF_WARPS)
        merge_values(b, s, squares > HALF_SQUARES, sums, values);
}

#endif
