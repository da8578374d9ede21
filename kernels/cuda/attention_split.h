// Inside attention.cu: one split for a block's queries. 256 threads; warp w has the positions [16 w, + 16) and [128 +
// 16 w, + 16) of the scores, then the squares of dimensions w % 4, + 4, … and the half w / 4 of the positions of the
// values. Keys and values go from memory straight into registers: a lane's 16-byte load is its part of the mma's
// operand.
#ifndef OCT_KERNELS_CUDA_ATTENTION_SPLIT_H
#define OCT_KERNELS_CUDA_ATTENTION_SPLIT_H

#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/elementary.h"

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
    uint16_t weights[QUERIES][OCT_SPLIT_POSITIONS + 8]; // bf16
    float values[QUERIES][DIM + 4];                     // of the second half of the positions
    float largest[WARPS][QUERIES], sums[WARPS][QUERIES];
    float maximum[QUERIES], sum[QUERIES];               // of the unit so far
    float old_factor[QUERIES], new_factor[QUERIES];     // a and b of the split's merge; b = −1: not attended
    int32_t position[QUERIES];                          // −1: no query
    bool last;
};

// The weighted values of the unit so far: [square of dimensions][tile of queries], as the mma leaves them. In the warps
// of the first half.
template <int DIM, int TILES> struct attention_values {
    static constexpr int SQUARES = (DIM / SQUARE + HALF_WARPS - 1) / HALF_WARPS;
    float at[SQUARES][TILES][4];
};

template <int DIM, int TILES>
OCT_DEVICE void load_queries(const oct_attention_block &b, attention_shared<DIM, TILES> &s)
{
    const oct_cuda_attention &a = *b.attention;
    for (int q = static_cast<int>(threadIdx.x); q < s.QUERIES; q += THREADS)
        s.position[q] = q < b.queries ? a.step.positions[oct_query_column(b, q)] : -1;
    for (int i = static_cast<int>(threadIdx.x); i < s.QUERIES * (DIM / 8); i += THREADS) {
        const int q = i / (DIM / 8), d = i % (DIM / 8) * 8;
        uint4 eight = {0, 0, 0, 0};
        if (q < b.queries)
            eight = oct_load<uint4>(a.queries + oct_query_index(b, q) * DIM + d);
        oct_store(&s.queries[q][d], eight);
    }
}

// Registers of the operand of 8 columns: two pairs of a row of shared memory from `at` on.
OCT_DEVICE void load_column(uint32_t column[2], const uint16_t *at)
{
    column[0] = oct_load<uint32_t>(at + oct_lane() % 4 * 2);
    column[1] = oct_load<uint32_t>(at + oct_lane() % 4 * 2 + 8);
}

// Keys of the warp's two squares of positions, some squares of dimensions at a time; registers of the operand of 16
// rows.
template <int DIM> struct attention_keys {
    static constexpr int SQUARES = DIM / SQUARE, LENGTH = SQUARES < BATCH ? SQUARES : BATCH;
    uint4 at[2][LENGTH];
};

// Loads the squares of dimensions from `begin` on; of `squares` squares of positions.
template <int DIM>
OCT_DEVICE void load_keys(const oct_attention_block &b, int32_t split, int32_t squares, int begin,
                          attention_keys<DIM> &keys)
{
    const oct_cuda_attention &a = *b.attention;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int square = oct_warp() + i * WARPS;
        if (square >= squares)
            break;
        const int32_t page = b.pages[split * OCT_SPLIT_PAGES + square / OCT_CUDA_PAGE_SQUARES];
        const uint16_t *at = oct_cuda_cache_keys(&a.cache, page, a.layer, b.kv_head) +
                             (square % OCT_CUDA_PAGE_SQUARES * keys.SQUARES + begin) * OCT_CUDA_SQUARE + oct_lane() * 8;
#pragma unroll
        for (int k = 0; k < keys.LENGTH; k++)
            if (begin + k < keys.SQUARES)
                keys.at[i][k] = oct_load<uint4>(at + k * OCT_CUDA_SQUARE);
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
            if (n < b.tiles && begin + k < keys.SQUARES) {
                uint32_t column[2];
                load_column(column, &s.queries[n * 8 + oct_lane() / 4][(begin + k) * SQUARE]);
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (oct_warp() + i * WARPS < squares) {
                        const uint4 key = keys.at[i][k];
                        const uint32_t rows[4] = {key.x, key.y, key.z, key.w};
                        mma_bf16(scores[i][n], rows, column);
                    }
            }
}

// Scores of the warp's squares of positions, not yet scaled; the first keys are there.
template <int DIM, int TILES>
OCT_DEVICE void score(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, int32_t split,
                      int32_t squares, attention_keys<DIM> &keys, float (&scores)[2][TILES][4])
{
#pragma unroll
    for (int begin = 0; begin < keys.SQUARES; begin += keys.LENGTH) {
        if (begin > 0)
            load_keys(b, split, squares, begin, keys);
        multiply_keys(b, s, squares, begin, keys, scores);
    }
}

// The position of a thread's score e = 0 … 3 in its square, and its query in its tile.
OCT_DEVICE int score_position(int e)
{
    return oct_lane() / 4 + e / 2 * 8;
}

OCT_DEVICE int score_query(int e)
{
    return oct_lane() % 4 * 2 + e % 2;
}

// Scales the scores, makes those of positions that are not attended −infinity, and finds the warp's largest ones.
template <int DIM, int TILES>
OCT_DEVICE void mask_scores(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split,
                            float (&scores)[2][TILES][4])
{
    const float scale = b.attention_scale;
#pragma unroll
    for (int n = 0; n < TILES; n++)
        if (n < b.tiles) {
            float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int position =
                        split * OCT_SPLIT_POSITIONS + (oct_warp() + i * WARPS) * SQUARE + score_position(e);
                    const bool attended = position <= s.position[n * 8 + score_query(e)];
                    scores[i][n][e] = attended ? scores[i][n][e] * scale : -INFINITY;
                    largest[e % 2] = fmaxf(largest[e % 2], scores[i][n][e]);
                }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                for (int offset = 4; offset < OCT_WARP; offset *= 2)
                    largest[j] = fmaxf(largest[j], __shfl_xor_sync(OCT_WARP_MASK, largest[j], offset));
                if (oct_lane() < 4)
                    s.largest[oct_warp()][n * 8 + score_query(j)] = largest[j];
            }
        }
}

template <int DIM, int TILES> OCT_DEVICE float split_maximum(const attention_shared<DIM, TILES> &s, int query)
{
    float largest = s.largest[0][query];
    for (int w = 1; w < WARPS; w++)
        largest = fmaxf(largest, s.largest[w][query]);
    return largest;
}

// Scores to weights, in bf16, and the warp's sums of them. (A score that is not a number stays one.)
template <int DIM, int TILES>
OCT_DEVICE void weigh(const oct_attention_block &b, attention_shared<DIM, TILES> &s,
                      const float (&scores)[2][TILES][4])
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
        if (n < b.tiles)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int query = n * 8 + score_query(j);
                const float largest = split_maximum(s, query);
                float sum = 0.0f;
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int e = j; e < 4; e += 2) {
                        const float score = scores[i][n][e];
                        const uint32_t weight = score == -INFINITY ? 0 : oct_to_bf16(oct_exp(score - largest));
                        sum = sum + oct_low_bf16(weight);
                        s.weights[query][(oct_warp() + i * WARPS) * SQUARE + score_position(e)] =
                            static_cast<uint16_t>(weight);
                    }
                for (int offset = 4; offset < OCT_WARP; offset *= 2)
                    sum = sum + __shfl_xor_sync(OCT_WARP_MASK, sum, offset);
                if (oct_lane() < 4)
                    s.sums[oct_warp()][query] = sum;
            }
}

// Merges maxima and sums of the split into the unit's, and leaves the factors for the values.
template <int DIM, int TILES>
OCT_DEVICE void merge_sums(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split)
{
    const int q = static_cast<int>(threadIdx.x);
    if (q >= b.queries)
        return;
    s.new_factor[q] = -1.0f;
    if (s.position[q] < split * OCT_SPLIT_POSITIONS)
        return;
    const float maximum = split_maximum(s, q), larger = fmaxf(s.maximum[q], maximum);
    const float a = oct_exp(s.maximum[q] - larger), factor = oct_exp(maximum - larger);
    float sum = s.sums[0][q];
    for (int w = 1; w < WARPS; w++)
        sum = sum + s.sums[w][q];
    s.maximum[q] = larger;
    s.sum[q] = fmaf(sum, factor, s.sum[q] * a);
    s.old_factor[q] = a;
    s.new_factor[q] = factor;
}

// The first `squares` squares of the warp's half of the positions, in one row of squares of dimensions.
OCT_DEVICE void load_values(const oct_attention_block &b, int32_t split, int32_t dimensions, int32_t squares,
                            uint4 (&value)[HALF_SQUARES])
{
    const oct_cuda_attention &a = *b.attention;
    const int32_t half = oct_warp() / HALF_WARPS;
#pragma unroll
    for (int k = 0; k < HALF_SQUARES; k++)
        if (k < squares) {
            const int32_t square = half * HALF_SQUARES + k;
            const int32_t page = b.pages[split * OCT_SPLIT_PAGES + square / OCT_CUDA_PAGE_SQUARES];
            const uint16_t *values = oct_cuda_cache_values(&a.cache, page, a.layer, b.kv_head);
            const int32_t place = dimensions * OCT_CUDA_PAGE_SQUARES + square % OCT_CUDA_PAGE_SQUARES;
            value[k] = oct_load<uint4>(values + place * OCT_CUDA_SQUARE + oct_lane() * 8);
        }
}

// Of a pair of values, those of the first `attended` positions; the pair begins with `position`.
OCT_DEVICE uint32_t attended_pair(uint32_t pair, int32_t position, int32_t attended)
{
    return position >= attended ? 0 : position + 1 >= attended ? pair & 0xffffu : pair;
}

// Adds the weighted values of one square of dimensions; `attended` positions of the warp's half.
template <int DIM, int TILES>
OCT_DEVICE void add_values(const oct_attention_block &b, const attention_shared<DIM, TILES> &s, int32_t attended,
                           const uint4 (&value)[HALF_SQUARES], float (&sums)[TILES][4])
{
    const int32_t half = oct_warp() / HALF_WARPS * HALF_SQUARES * SQUARE, place = oct_lane() % 4 * 2;
#pragma unroll
    for (int k = 0; k < HALF_SQUARES; k++)
        if (k * SQUARE < attended) {
            uint32_t rows[4] = {value[k].x, value[k].y, value[k].z, value[k].w};
            if ((k + 1) * SQUARE > attended)
#pragma unroll
                for (int r = 0; r < 4; r++)
                    rows[r] = attended_pair(rows[r], k * SQUARE + r / 2 * 8 + place, attended);
#pragma unroll
            for (int n = 0; n < TILES; n++)
                if (n < b.tiles) {
                    uint32_t column[2];
                    load_column(column, &s.weights[n * 8 + oct_lane() / 4][half + k * SQUARE]);
                    mma_bf16(sums[n], rows, column);
                }
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
                const int q = n * 8 + score_query(e);
                const int d = (oct_warp() + i * HALF_WARPS) * SQUARE + score_position(e);
                if (d >= DIM || n >= b.tiles || s.new_factor[q] < 0.0f)
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
                const int d = (oct_warp() % HALF_WARPS + i * HALF_WARPS) * SQUARE + score_position(e);
                if (d < DIM && n < b.tiles)
                    s.values[n * 8 + score_query(e)][d] = sums.at[i][n][e];
            }
}

// One split, merged into the unit's state.
template <int DIM, int TILES>
OCT_DEVICE void attend_split(const oct_attention_block &b, attention_shared<DIM, TILES> &s, int32_t split,
                             attention_values<DIM, TILES> &values)
{
    const int32_t left = b.run.positions - split * OCT_SPLIT_POSITIONS;
    const int32_t attended = left < OCT_SPLIT_POSITIONS ? left : OCT_SPLIT_POSITIONS;
    const int32_t squares = oct_ceiling(attended, SQUARE), half = oct_warp() / HALF_WARPS;
    const int32_t mine = attended - half * HALF_SQUARES * SQUARE; // positions of this warp's half, and behind it
    float scores[2][TILES][4] = {};
    attention_keys<DIM> keys = {};
    load_keys(b, split, squares, 0, keys); // under way while queries and page ids come
    __syncthreads();
    score(b, s, split, squares, keys, scores);
    uint4 value[HALF_SQUARES] = {}; // the first ones are under way while weights are made
    if (oct_warp() % HALF_WARPS < DIM / SQUARE)
        load_values(b, split, oct_warp() % HALF_WARPS, squares - half * HALF_SQUARES, value);
    mask_scores(b, s, split, scores);
    __syncthreads();
    weigh(b, s, scores);
    __syncthreads();
    merge_sums(b, s, split);
    attention_values<DIM, TILES> sums = {};
#pragma unroll
    for (int i = 0; i < sums.SQUARES; i++) {
        const int32_t dimensions = oct_warp() % HALF_WARPS + i * HALF_WARPS;
        if (dimensions >= DIM / SQUARE)
            break;
        if (i > 0)
            load_values(b, split, dimensions, squares - half * HALF_SQUARES, value);
        add_values(b, s, mine, value, sums.at[i]);
    }
    if (half == 1 && mine > 0)
        leave_values(b, s, sums);
    __syncthreads();
    if (half == 0)
        merge_values(b, s, squares > HALF_SQUARES, sums, values);
}

#endif
