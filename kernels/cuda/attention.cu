// OCT_OP_ATTENTION on the device. A block has one run of columns and one key-value head, at most 8 · TILES queries of
// them, and walks units of splits: single splits where there are few columns (as many blocks as possible share a long
// context), whole stretches of 16 where there are many (a state is written for 4096 positions only). The block that
// finishes the last unit merges the states. Keys and values go from memory straight into registers: a lane's 16-byte
// load is its part of the mma's operand. 256 threads; in a split, warp w has the positions [16 w, + 16) and [128 + 16 w,
// + 16) of the scores, then the squares of dimensions w % 4, + 4, … and the half w / 4 of the positions of the values.
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

// Keys of the warp's two squares of positions, some squares of dimensions at a time; registers of the operand of 16 rows.
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

// The block's queries of the run, in shared memory's groups of s.QUERIES: blockIdx.y says which key-value head, and which
// group where one head's queries of a column are more than fit.
template <int QUERIES>
OCT_DEVICE oct_attention_block make_block(const oct_cuda_attention &a, const oct_cuda_run &run)
{
    oct_attention_block b = {};
    const int32_t parts = static_cast<int32_t>(gridDim.y) / a.cache.kv_heads;
    b.attention = &a;
    b.run = run;
    b.pages = a.step.pages + run.pages;
    b.kv_head = static_cast<int32_t>(blockIdx.y) / parts;
    const int32_t begin = b.kv_head * a.heads.group - a.heads.first_in_group, end = begin + a.heads.group;
    b.first_head = begin > 0 ? begin : 0;
    b.group = (end < a.heads.heads ? end : a.heads.heads) - b.first_head;
    b.first_query = static_cast<int32_t>(blockIdx.y) % parts * QUERIES;
    const int32_t left = run.columns * b.group - b.first_query;
    b.queries = left < QUERIES ? left : QUERIES;
    b.tiles = oct_ceiling(b.queries, 8);
    b.splits = oct_ceiling(run.positions, OCT_SPLIT_POSITIONS);
    b.stretches = oct_ceiling(b.splits, OCT_CUDA_STRETCH_SPLITS);
    b.attention_scale = oct_divide(1.0f, oct_square_root(static_cast<float>(a.cache.head_dim)));
    b.arrivals = a.arrivals + static_cast<size_t>(blockIdx.x * gridDim.y + blockIdx.y) *
                                  static_cast<size_t>(oct_max_stretches(&a) + 1);
    return b;
}

OCT_DEVICE void clear_queries(const oct_attention_block &b)
{
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < b.queries * b.attention->cache.head_dim; i += THREADS)
        oct_query_out(b, i / b.attention->cache.head_dim)[i % b.attention->cache.head_dim] = 0.0f;
}

template <int DIM, int TILES>
__global__ void __launch_bounds__(THREADS, TILES == 1 && DIM <= 192 ? 2 : 1)
    oct_attention_kernel(const __grid_constant__ oct_cuda_attention a)
{
    typedef attention_shared<DIM, TILES> block_shared;
    SHARED(block_shared, s);
    const oct_cuda_run run = a.step.runs[blockIdx.x];
    const int32_t unit_splits = oct_unit_splits(&a);
    const int32_t first = static_cast<int32_t>(blockIdx.z) * unit_splits;
    if (run.columns == 0 || (first > 0 && first * OCT_SPLIT_POSITIONS >= run.positions))
        return;
    const oct_attention_block b = make_block<8 * TILES>(a, run);
    if (b.queries <= 0)
        return;
    if (run.positions == 0)
        clear_queries(b);
    load_queries(b, s);
    for (int32_t split = first; split < b.splits; split += static_cast<int32_t>(gridDim.z) * unit_splits)
        attend_unit(b, s, split);
}

// Tiles of the variant for so many columns: one where all queries of a key-value head fit.
static int32_t tiles_of(const oct_cuda_heads *heads, int32_t head_dim, int32_t columns)
{
    return columns * heads->group <= 8 ? 1 : head_dim <= 128 ? 4 : 2;
}

int32_t oct_cuda_run_columns(const oct_cuda_heads *heads, int32_t head_dim, int32_t columns)
{
    const int32_t queries = 8 * tiles_of(heads, head_dim, columns);
    return queries / heads->group > 1 ? queries / heads->group : 1;
}

oct_cuda_heads oct_cuda_heads_of(const oct_step_program *program)
{
    const int32_t group = program->model.heads / program->model.kv_heads;
    oct_cuda_heads heads;
    heads.heads = program->heads.end - program->heads.begin;
    heads.group = group;
    heads.first_in_group = program->heads.begin - program->kv_heads.begin * group;
    return heads;
}

// Blocks that share the queries of a run and key-value head.
static int32_t parts_of(const oct_cuda_attention *a)
{
    const int32_t queries = 8 * tiles_of(&a->heads, a->cache.head_dim, a->step.columns);
    return oct_ceiling(a->heads.group, queries);
}

size_t oct_cuda_attention_states_bytes(const oct_cuda_attention *attention, int32_t columns)
{
    oct_cuda_attention narrow = *attention, wide = *attention;
    narrow.step.columns = columns < OCT_SPLIT_COLUMNS_MAX ? columns : OCT_SPLIT_COLUMNS_MAX;
    wide.step.columns = columns;
    const size_t a = static_cast<size_t>(narrow.step.columns) * oct_query_states(&narrow);
    const size_t b = static_cast<size_t>(columns) * oct_query_states(&wide);
    return (a > b ? a : b) * attention->heads.heads * (attention->cache.head_dim + OCT_STATE_PADDING) * sizeof(float);
}

size_t oct_cuda_attention_arrivals(const oct_cuda_attention *attention, int32_t columns)
{
    const int32_t parts = oct_ceiling(attention->heads.group, 8);
    return static_cast<size_t>(columns) * attention->cache.kv_heads * parts * (oct_max_stretches(attention) + 1);
}

// As many blocks along the units as the device holds about four times over; each walks several units where there are
// more.
static dim3 attention_grid(const oct_cuda_device *device, const oct_cuda_attention *a)
{
    const int32_t y = a->cache.kv_heads * parts_of(a);
    const int32_t units = oct_ceiling(oct_max_splits(a), oct_unit_splits(a));
    const int64_t room = oct_ceiling(4 * device->multiprocessors, a->step.columns * y);
    return dim3(static_cast<unsigned>(a->step.columns), static_cast<unsigned>(y),
                static_cast<unsigned>(units < room ? units : room));
}

template <int DIM>
static cudaError_t launch_attention(const oct_cuda_device *device, const oct_cuda_attention *a, cudaStream_t stream)
{
    void (*kernel)(const oct_cuda_attention) = oct_attention_kernel<DIM, 1>;
    if (tiles_of(&a->heads, DIM, a->step.columns) > 1)
        kernel = oct_attention_kernel<DIM, DIM <= 128 ? 4 : 2>;
    return oct_launch(kernel, attention_grid(device, a), dim3(THREADS), 0, stream, OCT_LAUNCH_PLAIN, *a);
}

oct_status oct_cuda_attend(const oct_cuda_device *device, const oct_cuda_attention *attention, cudaStream_t stream)
{
    static cudaError_t (*const launches[])(const oct_cuda_device *, const oct_cuda_attention *, cudaStream_t) = {
        launch_attention<32>,  launch_attention<64>,  launch_attention<96>,  launch_attention<128>,
        launch_attention<160>, launch_attention<192>, launch_attention<224>, launch_attention<256>};
    const int32_t head_dim = attention->cache.head_dim;
    if (head_dim % 32 != 0 || head_dim < 32 || head_dim > OCT_CUDA_MAX_HEAD_DIM)
        return oct_fail(OCT_ERR_INTERNAL, "heads of %d elements: attention is made for multiples of 32 up to %d", head_dim,
                        OCT_CUDA_MAX_HEAD_DIM);
    return oct_cuda_check(launches[head_dim / 32 - 1](device, attention, stream), "starting the attention");
}

uint64_t oct_cuda_attention_bytes(const oct_cuda_attention *a, int64_t positions)
{
    const uint64_t queries = static_cast<uint64_t>(a->step.columns) * static_cast<uint64_t>(a->heads.heads);
    const uint64_t cached = static_cast<uint64_t>(positions) * static_cast<uint64_t>(a->cache.kv_heads) * 2;
    return (cached * sizeof(uint16_t) + queries * (sizeof(uint16_t) + sizeof(float))) *
           static_cast<uint64_t>(a->cache.head_dim);
}
