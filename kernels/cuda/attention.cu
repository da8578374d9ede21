// OCT_OP_ATTENTION on the device. A block has one run of columns and one key-value head, at most 8 · TILES queries of
// them, and walks units of splits: single splits where there are few columns (as many blocks as possible share a long
// context), whole stretches of 16 where there are many (a state is written for 4096 positions only). The block that
// finishes the last unit merges the states.
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

// The block's queries of the run, in shared memory's groups of s.QUERIES: blockIdx.y says which key-value head, and
// which group where one head's queries of a column are more than fit.
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
        return oct_fail(OCT_ERR_INTERNAL, "heads of %d elements: attention is made for multiples of 32 up to %d",
                        head_dim, OCT_CUDA_MAX_HEAD_DIM);
    return oct_cuda_check(launches[head_dim / 32 - 1](device, attention, stream), "starting the attention");
}

uint64_t oct_cuda_attention_bytes(const oct_cuda_attention *a, int64_t positions)
{
    const uint64_t queries = static_cast<uint64_t>(a->step.columns) * static_cast<uint64_t>(a->heads.heads);
    const uint64_t cached = static_cast<uint64_t>(positions) * static_cast<uint64_t>(a->cache.kv_heads) * 2;
    return (cached * sizeof(uint16_t) + queries * (sizeof(uint16_t) + sizeof(float))) *
           static_cast<uint64_t>(a->cache.head_dim);
}
