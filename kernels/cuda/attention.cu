// OCT_OP_ATTENTION on the device: its kernels and their launches.
#include <math.h>

#include "kernels/cuda/attention_body.h"
#include "kernels/cuda/record.h"

template <int DIM, int TILES>
__global__ void __launch_bounds__(OCT_BLOCK_THREADS, TILES == 1 && DIM <= 64 ? 2 : 1)
    oct_attention_kernel(const __grid_constant__ oct_attention_operands operands)
{
    typedef attention_shared<DIM, TILES> block_shared;
    SHARED(block_shared, s);
    oct_chain();
    oct_attention_body(operands, oct_place_of_launch(), s);
}

// Tiles of the variant for so many columns: one where all queries of a key-value head fit.
static int32_t tiles_of(const oct_cuda_heads *heads, int32_t head_dim, int32_t columns)
{
    return columns * heads->group <= 8 ? 1 : attention_wide_tiles(head_dim);
}

// Columns whose queries of a key-value head fit in so many tiles; one, if not even one does.
static int32_t columns_of_tiles(const oct_cuda_heads *heads, int32_t tiles)
{
    return 8 * tiles / heads->group > 1 ? 8 * tiles / heads->group : 1;
}

// Keys and values of a layer that all columns of a step read again and again rather than share: the caches bring them in
// some microseconds, which is what a block with one tile of queries is faster than with several.
enum { READ_AGAIN_BYTES = 16 << 20 };

oct_cuda_run_limits oct_cuda_run_limits_of(const oct_cuda_heads *heads, const oct_cuda_cache *cache, int32_t columns)
{
    const int32_t longest = columns_of_tiles(heads, tiles_of(heads, cache->head_dim, columns));
    const int32_t position_bytes = 2 * cache->kv_heads * cache->head_dim * static_cast<int32_t>(sizeof(uint16_t));
    if (columns > OCT_CUDA_NARROW_COLUMNS || position_bytes == 0)
        return {0, longest, longest};
    return {READ_AGAIN_BYTES / position_bytes / columns, columns_of_tiles(heads, 1), longest};
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

static int32_t max_splits(const oct_cuda_attention *a)
{
    return oct_ceiling(a->context, OCT_SPLIT_POSITIONS);
}

static int32_t max_stretches(const oct_cuda_attention *a)
{
    return oct_ceiling(max_splits(a), OCT_CUDA_STRETCH_SPLITS);
}

// Splits of a unit: one in narrow launches, which rotate, else those of a stretch.
static int32_t unit_splits(const oct_cuda_attention *a)
{
    return oct_cuda_attention_rotates(a->step.columns) ? 1 : OCT_CUDA_STRETCH_SPLITS;
}

// States of a query: of its splits, where those are units, then of its stretches.
static int32_t query_states(const oct_cuda_attention *a)
{
    return (unit_splits(a) == 1 ? max_splits(a) : 0) + max_stretches(a);
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
    narrow.step.columns = columns < OCT_CUDA_NARROW_COLUMNS ? columns : OCT_CUDA_NARROW_COLUMNS;
    wide.step.columns = columns;
    const size_t a = static_cast<size_t>(narrow.step.columns) * query_states(&narrow);
    const size_t b = static_cast<size_t>(columns) * query_states(&wide);
    return (a > b ? a : b) * attention->heads.heads * (attention->cache.head_dim + OCT_STATE_PADDING) * sizeof(float);
}

size_t oct_cuda_attention_arrivals(const oct_cuda_attention *attention, int32_t columns)
{
    const int32_t parts = oct_ceiling(attention->heads.group, 8);
    return static_cast<size_t>(columns) * attention->cache.kv_heads * parts * (max_stretches(attention) + 1);
}

// As many blocks along the units as the device holds about four times over; each walks several units where there are
// more.
static dim3 attention_grid(const oct_cuda_device *device, const oct_cuda_attention *a)
{
    const int32_t y = a->cache.kv_heads * parts_of(a);
    const int32_t units = oct_ceiling(max_splits(a), unit_splits(a));
    const int64_t room = oct_ceiling(4 * device->multiprocessors, a->step.columns * y);
    return dim3(static_cast<unsigned>(a->step.columns), static_cast<unsigned>(y),
                static_cast<unsigned>(units < room ? units : room));
}

oct_status oct_cuda_attention_check(const oct_cuda_attention *a)
{
    const int32_t head_dim = a->cache.head_dim;
    if (head_dim % 32 != 0 || head_dim < 32 || head_dim > OCT_CUDA_MAX_HEAD_DIM || a->rope_dims % 2 != 0 ||
        a->rope_dims > head_dim || a->heads.group > OCT_MOST_GROUP)
        return oct_fail(OCT_ERR_INTERNAL,
                        "heads of %d elements, %d rotated, %d of them with the same keys: attention is made for multiples "
                        "of 32 up to %d, rotated in pairs, and up to %d",
                        head_dim, a->rope_dims, a->heads.group, OCT_CUDA_MAX_HEAD_DIM, OCT_MOST_GROUP);
    return OCT_OK;
}

static uint32_t of_group(const oct_cuda_heads *heads, int32_t kv_head)
{
    const oct_run queries = oct_queries_of_head(heads, kv_head);
    const uint32_t group = static_cast<uint32_t>(queries.end - queries.begin);
    return ((1u << OCT_GROUP_SHIFT) + group - 1) / group;
}

static oct_attention_operands operands_of(const oct_cuda_attention *a)
{
    const int32_t last = a->cache.kv_heads - 1;
    oct_attention_operands operands = {};
    operands.launch = *a;
    operands.parts = parts_of(a);
    operands.unit_splits = unit_splits(a);
    operands.query_states = query_states(a);
    operands.max_stretches = max_stretches(a);
    operands.of_group[0] = of_group(&a->heads, 0);
    operands.of_group[1] = last > 1 ? of_group(&a->heads, 1) : 0;
    operands.of_group[2] = of_group(&a->heads, last);
    operands.scale = 1.0f / sqrtf(static_cast<float>(a->cache.head_dim));
    operands.page_elements = a->cache.layers * a->cache.kv_heads * 2 * OCT_PAGE_POSITIONS * a->cache.head_dim;
    return operands;
}

template <int DIM>
static cudaError_t launch_attention(const oct_cuda_device *device, const oct_cuda_attention *a, cudaStream_t stream)
{
    constexpr int TILES = attention_wide_tiles(DIM);
    const dim3 grid = attention_grid(device, a);
    const oct_attention_operands operands = operands_of(a);
    if (tiles_of(&a->heads, DIM, a->step.columns) > 1)
        return oct_issue(OCT_BODY_ATTENTION_WIDE, oct_attention_kernel<DIM, TILES>, grid, 0,
                         sizeof(attention_shared<DIM, TILES>), stream, operands);
    return oct_issue(OCT_BODY_ATTENTION, oct_attention_kernel<DIM, 1>, grid, 0, sizeof(attention_shared<DIM, 1>),
                     stream, operands);
}

oct_status oct_cuda_attend(const oct_cuda_device *device, const oct_cuda_attention *attention, cudaStream_t stream)
{
    static cudaError_t (*const launches[])(const oct_cuda_device *, const oct_cuda_attention *, cudaStream_t) = {
        launch_attention<32>,  launch_attention<64>,  launch_attention<96>,  launch_attention<128>,
        launch_attention<160>, launch_attention<192>, launch_attention<224>, launch_attention<256>};
    const oct_status status = oct_cuda_attention_check(attention);
    if (status != OCT_OK)
        return status;
    return oct_cuda_check(launches[attention->cache.head_dim / 32 - 1](device, attention, stream),
                          "starting the attention");
}

// Narrow launches read queries, new keys and new values in fp32; others queries in bf16.
uint64_t oct_cuda_attention_bytes(const oct_cuda_attention *a, int64_t positions)
{
    const bool rotates = oct_cuda_attention_rotates(a->step.columns);
    const uint64_t columns = static_cast<uint64_t>(a->step.columns);
    const uint64_t queries = columns * static_cast<uint64_t>(a->heads.heads);
    const uint64_t kv_heads = 2 * static_cast<uint64_t>(a->cache.kv_heads);
    const uint64_t made = rotates ? columns * kv_heads * (sizeof(float) + sizeof(uint16_t)) : 0;
    const uint64_t cached = static_cast<uint64_t>(positions) * kv_heads * sizeof(uint16_t);
    return (cached + made + queries * ((rotates ? sizeof(float) : sizeof(uint16_t)) + sizeof(float))) *
           static_cast<uint64_t>(a->cache.head_dim);
}
