// The kernels of projections. Narrow (1 … 16 columns): a block of 8 or 16 warps takes a tile of 16 rows after another;
// its warps share the segments of K among them, leave a partial sum of each in shared memory, and add them by the tree:
// a lane a leaf. Wide: a warp takes a tile and 64 columns and walks the segments itself, with the tree's stack in shared
// memory.
#ifndef OCT_KERNELS_CUDA_PROJECTION_KERNELS_H
#define OCT_KERNELS_CUDA_PROJECTION_KERNELS_H

#include "kernels/cuda/projection_sums.h"

extern "C" {
#include "kernels/cpu/traits.h"
}

// The weights of each integer encoding as a type with a short name: oct_weights_q8, …; they stand in tables of kernels.
#define OCT_NAME_WEIGHTS(encoding, name, ...)                                                                          \
    struct oct_weights_##name : oct_integer_weights<__VA_ARGS__> {                                                     \
    };
OCT_INTEGER_ENCODINGS(OCT_NAME_WEIGHTS)

enum {
    OCT_NARROW_WARPS = 8,
    OCT_MANY_WARPS = 16, // of a narrow block, where there are few tiles and many segments
    OCT_WIDE_WARPS = 4,
    OCT_WIDE_TILES = 8,  // of 8 columns
    OCT_WIDE_STAGES = 2, // of a warp's ring
    OCT_RING_BYTES = 10240 // of a warp, about
};

static inline __host__ __device__ size_t oct_align_16(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

// Floats from piece to piece of partial sums: the lanes that add up some rows, each with a leaf of its own, find them in
// different banks.
static inline int oct_piece_floats(const oct_cuda_projection &p)
{
    const int floats = p.input.columns * OCT_PARTIAL_STRIDE, rows = OCT_WARP >> oct_tree_lane_level(p.plan.tree);
    return floats + ((rows - floats) % OCT_WARP + OCT_WARP) % OCT_WARP;
}

// Of the partial sums of one tile: [pieces] of [columns][OCT_PARTIAL_STRIDE].
static inline __host__ __device__ int oct_partial_floats(const oct_cuda_projection &p)
{
    return p.tiling.pieces * p.tiling.piece_floats;
}

// A projection with what kernels find worked out. A narrow block needs scratch beside its rings: partial sums of two
// tiles by turns, so that warps go on to the next tile while others add up, at 0; then, where the block makes its own
// input, sums of squares and the input.
static inline oct_cuda_projection oct_cuda_worked_out(const oct_cuda_projection &of, size_t stage_bytes)
{
    oct_cuda_projection p = of;
    const bool pair = p.epilogue == OCT_CUDA_SILU_MULTIPLY;
    p.input.shape = oct_cuda_input_shape_of(p.input.width);
    p.tiling.items = 0;
    for (int m = 0; m < p.matrix_count; m++)
        p.tiling.tile_end[m] = p.tiling.items += static_cast<int32_t>((p.matrices[m].rows + 15) / 16);
    p.tiling.items = pair ? p.tiling.tile_end[0] : p.tiling.items;
    p.tiling.stage_bytes = static_cast<uint32_t>(stage_bytes);
    p.tiling.pieces = p.plan.segment_count * (pair ? 2 : 1);
    p.tiling.piece_floats = oct_piece_floats(p);
    const bool own = p.input.prepared == nullptr;
    const size_t squares = static_cast<size_t>(own ? p.input.columns * p.input.shape.norm_blocks : 0);
    p.tiling.squares = static_cast<uint32_t>(oct_align_16(2 * sizeof(float) * oct_partial_floats(p)));
    p.tiling.prepared = p.tiling.squares + static_cast<uint32_t>(oct_align_16(squares * sizeof(float)));
    p.tiling.scratch_bytes =
        p.tiling.prepared +
        static_cast<uint32_t>(own ? oct_align_16(oct_prepared_size(p.input.shape.units, p.input.columns)) : 0);
    return p;
}

// Where a narrow block's shared memory is.
typedef struct oct_narrow_shared {
    int32_t warps, stages;
    uint32_t ring_bytes, barriers, scratch, bytes; // rings at 0
} oct_narrow_shared;

static inline oct_narrow_shared oct_narrow_shared_make(const oct_cuda_projection &p, int warps, int stages)
{
    oct_narrow_shared shared;
    shared.warps = warps;
    shared.stages = stages;
    shared.ring_bytes = static_cast<uint32_t>(stages) * p.tiling.stage_bytes;
    shared.barriers = static_cast<uint32_t>(warps) * shared.ring_bytes;
    shared.scratch =
        shared.barriers + static_cast<uint32_t>(oct_align_16(static_cast<size_t>(warps) * stages * sizeof(uint64_t)));
    shared.bytes = shared.scratch + p.tiling.scratch_bytes;
    return shared;
}

// Of one warp: the ring, its barriers, the stack of partial sums.
template <class Weights> static inline __host__ __device__ size_t oct_wide_warp_bytes(const oct_cuda_projection &p)
{
    const int levels = p.plan.depth + (p.epilogue == OCT_CUDA_SILU_MULTIPLY ? 1 : 0);
    return static_cast<size_t>(OCT_WIDE_STAGES) * oct_stage_bytes<Weights>() + 16 * OCT_WIDE_STAGES +
           static_cast<size_t>(levels) * OCT_WIDE_TILES * 128 * sizeof(float);
}

// total = the sum of one segment for the columns.
template <class Weights, int N>
OCT_DEVICE void oct_add_segment(const oct_cuda_projection &p, const oct_cuda_segment &segment,
                                oct_stream<Weights> &stream, const uint32_t *codebook, const oct_columns &columns,
                                float total[N][4])
{
    int left = segment.units, whole = oct_head_units<Weights>(segment), unit = segment.unit;
    do {
        const int units = left < whole ? left : whole;
        const uint8_t *stage = stream.take(p);
        Weights::template add_stage<N>(stage, units, codebook, columns, unit, total);
        stream.release(p);
        left -= units;
        unit += units;
        whole = Weights::STAGE_UNITS;
    } while (left > 0);
}

OCT_DEVICE oct_peer_turn oct_turn_of(const oct_cuda_projection &p)
{
    return p.epilogue == OCT_CUDA_REDUCE ? oct_peer_begin(p.reduction) : oct_peer_turn{0, true};
}

// What warp oct_warp() of a narrow block reads: items place.x, + place.blocks_x, …
template <class Weights>
OCT_DEVICE oct_stream<Weights> oct_narrow_stream(const oct_place &place, oct_ring &ring)
{
    oct_stream<Weights> stream(ring);
    stream.item = place.x;
    stream.item_step = place.blocks_x;
    stream.piece_first = oct_warp();
    stream.piece_step = oct_warps();
    return stream;
}

// The block's items, of which there is one at least.
template <class Weights, int N>
OCT_DEVICE void oct_project_items(const oct_cuda_projection &p, const oct_place &place, oct_peer_turn turn,
                                  oct_stream<Weights> &stream, uint8_t *scratch)
{
    float *partials = reinterpret_cast<float *>(scratch);
    float *squares = reinterpret_cast<float *>(scratch + p.tiling.squares);
    const int warp = oct_warp(), items = p.tiling.items, pieces = p.tiling.pieces;
    const bool own = p.input.prepared == nullptr;
    const oct_prepared x =
        oct_prepared_at(own ? scratch + p.tiling.prepared : p.input.prepared, p.input.shape.units, p.input.columns);
    if (own) {
        oct_prepare_columns<Weights::MINIMUM>(p.input, {0, p.input.columns, 0, p.input.shape.norm_blocks}, squares, x);
        __syncthreads();
    }
    const oct_columns columns = {x, 0};
    const int tile_floats = oct_partial_floats(p);
    const uint32_t codebook[4] = {p.plan.codebook[0], p.plan.codebook[1], p.plan.codebook[2], p.plan.codebook[3]};
    for (int item = place.x, turns = 0; item < items; item += place.blocks_x, turns ^= 1) {
        float *of_item = partials + turns * tile_floats;
        for (int piece = warp; piece < pieces; piece += oct_warps()) {
            float total[N][4] = {};
            oct_add_segment<Weights, N>(p, oct_segment_of(p, piece), stream, codebook, columns, total);
            oct_write_partial<N>(of_item + piece * p.tiling.piece_floats, p.input.columns, total);
        }
        const oct_own_sum own_sum = oct_own_sum_of(p, item);
        if (own && p.input.norm != nullptr && item == place.x) // other warps are at their products
            oct_norm_factors(p.input, 0, p.input.columns, squares, x.factors);
        __syncthreads();
        oct_finish_tile(p, turn, own_sum, of_item, x.factors);
    }
    __syncthreads(); // the scratch is free
}

// The body of narrow projections; the ring is the warp's, filled (oct_narrow_stream() and start()) or empty, and empty
// again afterwards. scratch: as oct_cuda_worked_out() says. Of a reduction it sends and announces; what is left
// of it is oct_end_reduction().
template <class Weights, int N>
OCT_DEVICE void oct_project_body(const oct_cuda_projection &p, const oct_place &place, oct_ring &ring, uint8_t *scratch)
{
    oct_stream<Weights> stream = oct_narrow_stream<Weights>(place, ring);
    stream.start(p);
    ring.filled = 0;
    if (p.input.prepared == nullptr)
        oct_prefetch_norm(p.input);
    wait_for_predecessors(); // weights are on their way meanwhile
    const oct_peer_turn turn = oct_turn_of(p);
    if (place.x < p.tiling.items)
        oct_project_items<Weights, N>(p, place, turn, stream, scratch);
    if (p.epilogue == OCT_CUDA_REDUCE)
        oct_peer_announce(p.reduction, turn, place.x, place.blocks_x);
}

// Waits for the other blocks of the place and for other ranks: all are there, and each calls it once.
OCT_DEVICE void oct_end_reduction(const oct_cuda_projection &p, const oct_place &place)
{
    if (p.epilogue == OCT_CUDA_REDUCE)
        oct_peer_finish(p.reduction, oct_peer_begin(p.reduction), place.x, place.blocks_x);
}

// So few that blocks of one launch and of the next fit on a multiprocessor together: the next one's weights are on their
// way meanwhile.
static constexpr __host__ __device__ int oct_narrow_registers(int n)
{
    return n == 1 ? 80 : 128;
}

template <class Weights, int N>
__global__ void __maxnreg__(oct_narrow_registers(N))
    oct_project_narrow(const __grid_constant__ oct_cuda_projection p, const oct_narrow_shared shared)
{
    DYN_SHARED(uint8_t, memory);
    launch_dependents();
    oct_ring ring = {};
    ring.memory = memory + oct_warp() * shared.ring_bytes;
    ring.barriers = reinterpret_cast<uint64_t *>(memory + shared.barriers) + oct_warp() * shared.stages;
    ring.stages = shared.stages;
    oct_init_barriers(ring.barriers, shared.stages);
    oct_project_body<Weights, N>(p, oct_place_of_launch(), ring, memory + shared.scratch);
    oct_end_reduction(p, oct_place_of_launch());
}

// A warp's lanes keep their own elements at every level of the stack: [level][column tile][lane][4].
OCT_DEVICE float *oct_stack_at(float *stack, int level, int n)
{
    return stack + ((level * OCT_WIDE_TILES + n) * OCT_WARP + oct_lane()) * 4;
}

// Pushes a segment's sums after `merges` additions; returns the new height.
OCT_DEVICE int oct_push(float *stack, int top, int merges, float total[OCT_WIDE_TILES][4])
{
    for (int merge = 0; merge < merges; merge++, top--)
#pragma unroll
        for (int n = 0; n < OCT_WIDE_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[n][i] = oct_stack_at(stack, top - 1, n)[i] + total[n][i];
#pragma unroll
    for (int n = 0; n < OCT_WIDE_TILES; n++)
        *reinterpret_cast<float4 *>(oct_stack_at(stack, top, n)) =
            make_float4(total[n][0], total[n][1], total[n][2], total[n][3]);
    return top + 1;
}

// What the stack holds in the end of a row and column: nodes, or gate and up.
OCT_DEVICE void oct_finish_stack(const oct_cuda_projection &p, oct_peer_turn turn, oct_tile tile, int row, int column,
                                 float factor, const float *stack)
{
    constexpr int LEVEL = OCT_WIDE_TILES * OCT_WARP * 4; // floats
    const float before = oct_read_out(p, oct_out_of(p, tile, row, column));
    const float up = p.epilogue == OCT_CUDA_SILU_MULTIPLY ? stack[LEVEL] * factor : 0.0f;
    for (int node = 0; node < p.plan.nodes; node++)
        oct_finish(p, turn, tile, row, column, node, stack[node * LEVEL] * factor, before, up);
}

template <class Weights>
__global__ void __launch_bounds__(OCT_WIDE_WARPS * OCT_WARP, 2)
    oct_project_wide(const __grid_constant__ oct_cuda_projection p)
{
    DYN_SHARED(uint8_t, memory);
    constexpr int RING = OCT_WIDE_STAGES * oct_stage_bytes<Weights>();
    uint8_t *own = memory + oct_warp() * oct_wide_warp_bytes<Weights>(p);
    float *stack = reinterpret_cast<float *>(own + RING + 16 * OCT_WIDE_STAGES);
    const int warps = static_cast<int>(blockDim.x) / OCT_WARP, items = p.tiling.items, pieces = p.tiling.pieces;
    const int item = static_cast<int>(blockIdx.y) * warps + oct_warp();
    oct_ring ring = {};
    ring.memory = own;
    ring.barriers = reinterpret_cast<uint64_t *>(own + RING);
    ring.stages = OCT_WIDE_STAGES;
    oct_stream<Weights> stream(ring);
    stream.item = item;
    stream.item_step = items; // this one alone
    stream.piece_first = 0;
    stream.piece_step = 1;
    launch_dependents();
    oct_init_barriers(ring.barriers, OCT_WIDE_STAGES);
    stream.start(p);
    wait_for_predecessors();
    if (item >= items)
        return;

    const oct_columns columns = {oct_prepared_at(p.input.prepared, p.input.shape.units, p.input.columns),
                                 static_cast<int>(blockIdx.x) * OCT_WIDE_TILES * 8};
    const uint32_t codebook[4] = {p.plan.codebook[0], p.plan.codebook[1], p.plan.codebook[2], p.plan.codebook[3]};
    int top = 0;
    for (int piece = 0; piece < pieces; piece++) {
        const int s = piece < p.plan.segment_count ? piece : piece - p.plan.segment_count;
        float total[OCT_WIDE_TILES][4] = {};
        oct_add_segment<Weights, OCT_WIDE_TILES>(p, oct_segment_of(p, piece), stream, codebook, columns, total);
        top = oct_push(stack, top, p.plan.merges[s], total);
    }
    const oct_tile tile = oct_tile_of(p, item, 0);
    const oct_peer_turn turn = oct_turn_of(p);
    for (int n = 0; n < OCT_WIDE_TILES; n++)
        for (int i = 0; i < 4; i++) {
            const int c = columns.first + n * 8 + oct_lane() % 4 * 2 + i % 2;
            const int row = oct_lane() / 4 + i / 2 * 8;
            if (c < p.input.columns && oct_is_row(p, tile, row))
                oct_finish_stack(p, turn, tile, row, c, oct_norm_factor(p.input, columns.x.factors, c),
                                 oct_stack_at(stack, 0, n) + i);
        }
}

#endif
