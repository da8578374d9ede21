// The kernels of projections. Narrow (1 … 16 columns): a block of 8 warps takes a tile of 16 rows after another; its
// warps share the segments of K among them, leave a partial sum of each in shared memory, and the block adds them by
// the tree. Wide: a warp takes a tile and 64 columns and walks the segments itself, with the tree's stack in shared
// memory.
//
// Weights reach shared memory by bulk copies, a stage (up to 256 columns of 16 rows, which lie together) at a time,
// into a ring of each warp: the warp that reads a stage asks for a later one in its place, across the borders of
// segments and tiles, so that memory stays busy while the block adds up or waits.
#ifndef OCT_KERNELS_CUDA_PROJECTION_KERNELS_H
#define OCT_KERNELS_CUDA_PROJECTION_KERNELS_H

#include "kernels/cuda/peer_exchange.h"
#include "kernels/cuda/weights.h"

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
    OCT_WIDE_WARPS = 4,
    OCT_WIDE_TILES = 8,  // of 8 columns
    OCT_WIDE_STAGES = 2, // of a warp's ring
    OCT_MAX_STAGES = 8,
    OCT_RING_BYTES = 10240,  // of a warp, about
    OCT_PARTIAL_STRIDE = 20, // floats from column to column of a partial sum [columns][16]: no bank meets twice
};

template <class Weights> static constexpr __host__ __device__ int oct_stage_bytes(void)
{
    return Weights::HEADER_BYTES + Weights::STAGE_UNITS * Weights::UNIT_BYTES;
}

static inline __host__ __device__ size_t oct_align_16(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

// Sums that a tile is added up from: two matrices at once have twice as many.
static inline __host__ __device__ int oct_pieces(const oct_cuda_projection &p)
{
    return p.plan.segment_count * (p.epilogue == OCT_CUDA_SILU_MULTIPLY ? 2 : 1);
}

// What a narrow block needs of shared memory beside its rings: partial sums, with which the scratch of the norm takes
// turns, at 0, and the input where the block makes its own.
typedef struct oct_narrow_scratch {
    size_t prepared, bytes;
} oct_narrow_scratch;

static inline __host__ __device__ oct_narrow_scratch oct_narrow_scratch_make(const oct_cuda_projection &p)
{
    const size_t own = p.input.prepared == nullptr ? 1 : 0, units = static_cast<size_t>(oct_units(p.input.width));
    const size_t norm = own * p.input.columns * oct_norm_leaves(p.input.width) * sizeof(float);
    const size_t sums = sizeof(float) * oct_pieces(p) * oct_columns_by_8(p.input.columns) * OCT_PARTIAL_STRIDE;
    oct_narrow_scratch scratch;
    scratch.prepared = oct_align_16(sums > norm ? sums : norm);
    scratch.bytes = scratch.prepared + own * units * (64 * p.input.columns + 8 * oct_columns_by_8(p.input.columns));
    return scratch;
}

// Where a narrow block's shared memory is.
typedef struct oct_narrow_shared {
    size_t barriers, scratch, bytes; // rings at 0
} oct_narrow_shared;

template <class Weights>
static inline __host__ __device__ oct_narrow_shared oct_narrow_shared_make(const oct_cuda_projection &p, int stages)
{
    oct_narrow_shared shared;
    shared.barriers = static_cast<size_t>(OCT_NARROW_WARPS) * stages * oct_stage_bytes<Weights>();
    shared.scratch = shared.barriers + oct_align_16(static_cast<size_t>(OCT_NARROW_WARPS) * stages * sizeof(uint64_t));
    shared.bytes = shared.scratch + oct_narrow_scratch_make(p).bytes;
    return shared;
}

// Of one warp: the ring, its barriers, the stack of partial sums.
template <class Weights> static inline __host__ __device__ size_t oct_wide_warp_bytes(const oct_cuda_projection &p)
{
    const int levels = p.plan.depth + (p.epilogue == OCT_CUDA_SILU_MULTIPLY ? 1 : 0);
    return static_cast<size_t>(OCT_WIDE_STAGES) * oct_stage_bytes<Weights>() + 16 * OCT_WIDE_STAGES +
           static_cast<size_t>(levels) * OCT_WIDE_TILES * 128 * sizeof(float);
}

// A tile of one of the matrices.
typedef struct oct_tile {
    int matrix, tile;
} oct_tile;

// The tile that `piece` of work item `item` belongs to: of gate and up both have the item's number, other matrices
// stand one after another.
OCT_DEVICE oct_tile oct_tile_of(const oct_cuda_projection &p, int item, int piece)
{
    oct_tile tile = {0, item};
    if (p.epilogue == OCT_CUDA_SILU_MULTIPLY) {
        tile.matrix = piece / p.plan.segment_count;
        return tile;
    }
    for (; tile.matrix < p.matrix_count - 1; tile.matrix++) {
        const int tiles = static_cast<int>((p.matrices[tile.matrix].rows + 15) / 16);
        if (tile.tile < tiles)
            break;
        tile.tile -= tiles;
    }
    return tile;
}

OCT_DEVICE int oct_items(const oct_cuda_projection &p)
{
    int items = 0;
    for (int m = 0; m < (p.epilogue == OCT_CUDA_SILU_MULTIPLY ? 1 : p.matrix_count); m++)
        items += static_cast<int>((p.matrices[m].rows + 15) / 16);
    return items;
}

// The end of a segment with its padding, and the units of the stage that begins at column `at` of it.
OCT_DEVICE int oct_segment_end(const oct_cuda_segment &segment)
{
    return segment.first + oct_units(segment.last - segment.first) * OCT_UNIT;
}

template <class Weights> OCT_DEVICE int oct_stage_units(int at, int end)
{
    constexpr int COLUMNS = Weights::STAGE_UNITS * OCT_UNIT;
    const int whole = COLUMNS - at % COLUMNS, left = end - at;
    return (left < whole ? left : whole) / OCT_UNIT;
}

// A warp's ring in shared memory. It may be filled for an operation long before that begins, and serves one operation
// after another.
typedef struct oct_ring {
    uint8_t *memory;
    uint64_t *barriers; // [stages], ready
    int stages;
    int filled;         // stages that have been asked for and not been taken, from slot 0 on; between operations
    uint32_t phases;    // bit s: the parity that slot s is waited for with
} oct_ring;

// The stages that a warp reads, in order: pieces piece_first, + piece_step, … of items item, + item_step, …; up to
// ring.stages of them are on their way or in the ring.
template <class Weights> struct oct_stream {
    oct_ring &ring;
    int items, item_step, pieces, piece_first, piece_step;
    // Of the next request.
    const uint8_t *from;
    int item, piece, at, end, request_slot;
    // Of the next stage that is taken.
    int slot;

    __device__ __forceinline__ explicit oct_stream(oct_ring &of) : ring(of) {}

    __device__ __forceinline__ void open(const oct_cuda_projection &p)
    {
        if (item >= items)
            return;
        const oct_cuda_segment &segment = p.plan.segments[piece % p.plan.segment_count];
        const oct_tile tile = oct_tile_of(p, item, piece);
        at = segment.first;
        end = oct_segment_end(segment);
        from = static_cast<const uint8_t *>(p.matrices[tile.matrix].weights) + segment.offset +
               static_cast<size_t>(tile.tile) * segment.tile_bytes;
    }

    // Asks for the next stage, whose place is free for all lanes; not `asking`: it has been asked for before.
    __device__ __forceinline__ void request(const oct_cuda_projection &p, bool asking)
    {
        if (item >= items)
            return;
        const int units = oct_stage_units<Weights>(at, end);
        const uint32_t bytes = static_cast<uint32_t>(Weights::HEADER_BYTES + units * Weights::UNIT_BYTES);
        if (asking && oct_lane() == 0) {
            uint64_t *barrier = &ring.barriers[request_slot];
            mbar_arrive_tx(barrier, bytes);
            cp_bulk(ring.memory + request_slot * oct_stage_bytes<Weights>(), from, bytes, barrier);
        }
        request_slot = request_slot + 1 == ring.stages ? 0 : request_slot + 1;
        from += bytes;
        at += units * OCT_UNIT;
        if (at < end)
            return;
        piece += piece_step;
        if (piece >= pieces) {
            piece = piece_first;
            item += item_step;
        }
        open(p);
    }

    // Called once, by all lanes, with an item that is set. Fills the ring where that has not been done.
    __device__ __forceinline__ void start(const oct_cuda_projection &p)
    {
        const bool asking = ring.filled == 0;
        piece = piece_first;
        request_slot = slot = at = end = 0;
        from = nullptr;
        if (piece_first >= pieces)
            item = items;
        open(p);
        for (int i = 0; i < ring.stages; i++) {
            ring.filled += asking && item < items;
            request(p, asking);
        }
    }

    __device__ __forceinline__ const uint8_t *take(void)
    {
        mbar_wait(&ring.barriers[slot], ring.phases >> slot & 1);
        return ring.memory + slot * oct_stage_bytes<Weights>();
    }

    // All lanes have read the stage that was taken.
    __device__ __forceinline__ void release(const oct_cuda_projection &p)
    {
        ring.phases ^= 1u << slot;
        slot = slot + 1 == ring.stages ? 0 : slot + 1;
        __syncwarp();
        request(p, true);
    }
};

// Makes the barriers of a ring ready, for the warp that reads it.
OCT_DEVICE void oct_init_barriers(uint64_t *barriers, int count)
{
    if (oct_lane() == 0) {
        for (int i = 0; i < count; i++)
            mbar_init(&barriers[i], 1);
        mbar_fence_init();
    }
    __syncwarp();
}

// total = the sum of one segment for the columns.
template <class Weights, int N>
OCT_DEVICE void oct_add_segment(const oct_cuda_projection &p, const oct_cuda_segment &segment,
                                oct_stream<Weights> &stream, const uint32_t *codebook, const oct_columns &columns,
                                float total[N][4])
{
    const int end = oct_segment_end(segment);
    for (int at = segment.first; at < end;) {
        const int units = oct_stage_units<Weights>(at, end);
        const uint8_t *stage = stream.take();
        Weights::template add_stage<N>(stage, units, codebook, columns, segment.unit + (at - segment.first) / OCT_UNIT,
                                       total);
        stream.release(p);
        at += units * OCT_UNIT;
    }
}

// What becomes of the sums of one row (of the tile) and column: the nodes at values[0], values[stride], …, or gate and
// up.
OCT_DEVICE void oct_finish(const oct_cuda_projection &p, oct_peer_turn turn, oct_tile tile, int row_of_tile, int column,
                           const float *values, int stride)
{
    const int64_t row = static_cast<int64_t>(tile.tile) * OCT_TILE_ROWS + row_of_tile;
    const oct_cuda_matrix &matrix = p.matrices[tile.matrix];
    if (row >= matrix.rows)
        return;
    float *out = matrix.out + column * p.out_stride + row;
    switch (p.epilogue) {
    case OCT_CUDA_STORE:
        *out = values[0];
        break;
    case OCT_CUDA_SILU_MULTIPLY:
        *out = oct_silu_multiply(values[0], values[stride]);
        break;
    case OCT_CUDA_SILU_OF_OUT:
        *out = oct_silu_multiply(*out, values[0]);
        break;
    case OCT_CUDA_ADD:
        *out = *out + values[0];
        break;
    case OCT_CUDA_NODES:
        for (int node = 0; node < p.plan.nodes; node++)
            out[node * p.input.columns * p.out_stride] = values[node * stride];
        break;
    case OCT_CUDA_REDUCE:
        for (int node = 0; node < p.plan.nodes; node++)
            oct_peer_send(p.reduction, turn, node, tile.tile, row_of_tile, column, values[node * stride]);
        break;
    }
}

// Adds the sums of all segments, at values[0], values[stride], …, by the tree; the nodes stay in front. In place: the
// stack is never longer than what has been read.
OCT_DEVICE void oct_add_tree(const oct_cuda_projection &p, float *values, int stride)
{
    int top = 0;
    for (int i = 0; i < p.plan.segment_count; i++) {
        float value = values[i * stride];
        for (int merge = 0; merge < p.plan.merges[i]; merge++)
            value = values[--top * stride] + value;
        values[top++ * stride] = value;
    }
}

// The block's tile from its partial sums [pieces][8 N][OCT_PARTIAL_STRIDE].
template <int N>
OCT_DEVICE void oct_finish_tile(const oct_cuda_projection &p, oct_peer_turn turn, int item, float *partials)
{
    constexpr int PIECE = N * 8 * OCT_PARTIAL_STRIDE;
    const bool pair = p.epilogue == OCT_CUDA_SILU_MULTIPLY;
    const oct_tile tile = oct_tile_of(p, item, 0);
    for (int i = static_cast<int>(threadIdx.x); i < OCT_TILE_ROWS * p.input.columns;
         i += static_cast<int>(blockDim.x)) {
        const int row = i % OCT_TILE_ROWS, c = i / OCT_TILE_ROWS;
        float *values = partials + c * OCT_PARTIAL_STRIDE + row;
        oct_add_tree(p, values, PIECE);
        if (pair)
            oct_add_tree(p, values + p.plan.segment_count * PIECE, PIECE);
        oct_finish(p, turn, tile, row, c, values, pair ? p.plan.segment_count * PIECE : PIECE);
    }
}

template <int N> OCT_DEVICE void oct_write_partial(float *partial, const float total[N][4])
{
    const int g = oct_lane() / 4, t = oct_lane() % 4;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            partial[(n * 8 + 2 * t + i % 2) * OCT_PARTIAL_STRIDE + g + i / 2 * 8] = total[n][i];
}

OCT_DEVICE oct_peer_turn oct_turn_of(const oct_cuda_projection &p)
{
    return p.epilogue == OCT_CUDA_REDUCE ? oct_peer_begin(p.reduction) : oct_peer_turn{0, true};
}

// What warp oct_warp() of a narrow block reads: items place.x, + place.blocks_x, …
template <class Weights>
OCT_DEVICE oct_stream<Weights> oct_narrow_stream(const oct_cuda_projection &p, const oct_place &place, oct_ring &ring)
{
    oct_stream<Weights> stream(ring);
    stream.items = oct_items(p);
    stream.item = place.x;
    stream.item_step = place.blocks_x;
    stream.pieces = oct_pieces(p);
    stream.piece_first = oct_warp();
    stream.piece_step = OCT_NARROW_WARPS;
    return stream;
}

// The block's items, of which there is one at least.
template <class Weights, int N>
OCT_DEVICE void oct_project_items(const oct_cuda_projection &p, const oct_place &place, oct_peer_turn turn,
                                  oct_stream<Weights> &stream, uint8_t *scratch)
{
    float *partials = reinterpret_cast<float *>(scratch);
    const int warp = oct_warp(), items = oct_items(p), pieces = oct_pieces(p);
    const bool own = p.input.prepared == nullptr;
    const oct_prepared x = oct_prepared_at(own ? scratch + oct_narrow_scratch_make(p).prepared : p.input.prepared,
                                           p.input.width, p.input.columns);
    if (own)
        oct_prepare_columns(p.input, 0, p.input.columns, partials, x);
    __syncthreads();
    const oct_columns columns = {x, 0};
    const uint32_t codebook[4] = {p.plan.codebook[0], p.plan.codebook[1], p.plan.codebook[2], p.plan.codebook[3]};
    for (int item = place.x; item < items; item += place.blocks_x) {
        for (int piece = warp; piece < pieces; piece += OCT_NARROW_WARPS) {
            float total[N][4] = {};
            oct_add_segment<Weights, N>(p, p.plan.segments[piece % p.plan.segment_count], stream, codebook, columns,
                                        total);
            oct_write_partial<N>(partials + piece * (N * 8 * OCT_PARTIAL_STRIDE), total);
        }
        __syncthreads();
        oct_finish_tile<N>(p, turn, item, partials);
        __syncthreads();
    }
}

// The body of narrow projections; the ring is the warp's, filled (oct_narrow_stream() and start()) or empty, and empty
// again afterwards. scratch: as oct_narrow_scratch_make() says. Of a reduction it sends and announces; what is left
// of it is oct_end_reduction().
template <class Weights, int N>
OCT_DEVICE void oct_project_body(const oct_cuda_projection &p, const oct_place &place, oct_ring &ring, uint8_t *scratch)
{
    const oct_peer_turn turn = oct_turn_of(p);
    oct_stream<Weights> stream = oct_narrow_stream<Weights>(p, place, ring);
    stream.start(p);
    ring.filled = 0;
    if (place.x < oct_items(p))
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

template <class Weights, int N>
__global__ void __launch_bounds__(OCT_NARROW_WARPS * OCT_WARP, 2)
    oct_project_narrow(const __grid_constant__ oct_cuda_projection p, int stages)
{
    DYN_SHARED(uint8_t, memory);
    const oct_narrow_shared shared = oct_narrow_shared_make<Weights>(p, stages);
    oct_ring ring = {};
    ring.memory = memory + static_cast<size_t>(oct_warp()) * stages * oct_stage_bytes<Weights>();
    ring.barriers = reinterpret_cast<uint64_t *>(memory + shared.barriers) + oct_warp() * stages;
    ring.stages = stages;
    oct_init_barriers(ring.barriers, stages);
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

template <class Weights>
__global__ void __launch_bounds__(OCT_WIDE_WARPS * OCT_WARP, 2)
    oct_project_wide(const __grid_constant__ oct_cuda_projection p)
{
    DYN_SHARED(uint8_t, memory);
    constexpr int RING = OCT_WIDE_STAGES * oct_stage_bytes<Weights>();
    uint8_t *own = memory + oct_warp() * oct_wide_warp_bytes<Weights>(p);
    float *stack = reinterpret_cast<float *>(own + RING + 16 * OCT_WIDE_STAGES);
    const int warps = static_cast<int>(blockDim.x) / OCT_WARP, items = oct_items(p), pieces = oct_pieces(p);
    const int item = static_cast<int>(blockIdx.y) * warps + oct_warp();
    oct_ring ring = {};
    ring.memory = own;
    ring.barriers = reinterpret_cast<uint64_t *>(own + RING);
    ring.stages = OCT_WIDE_STAGES;
    oct_stream<Weights> stream(ring);
    stream.items = items;
    stream.item = item;
    stream.item_step = items; // this one alone
    stream.pieces = pieces;
    stream.piece_first = 0;
    stream.piece_step = 1;
    oct_init_barriers(ring.barriers, OCT_WIDE_STAGES);
    stream.start(p);
    if (item >= items)
        return;

    const oct_columns columns = {oct_prepared_at(p.input.prepared, p.input.width, p.input.columns),
                                 static_cast<int>(blockIdx.x) * OCT_WIDE_TILES * 8};
    const uint32_t codebook[4] = {p.plan.codebook[0], p.plan.codebook[1], p.plan.codebook[2], p.plan.codebook[3]};
    int top = 0;
    for (int piece = 0; piece < pieces; piece++) {
        const int s = piece % p.plan.segment_count;
        float total[OCT_WIDE_TILES][4] = {};
        oct_add_segment<Weights, OCT_WIDE_TILES>(p, p.plan.segments[s], stream, codebook, columns, total);
        top = oct_push(stack, top, p.plan.merges[s], total);
    }
    const oct_tile tile = oct_tile_of(p, item, 0);
    const oct_peer_turn turn = oct_turn_of(p);
    for (int n = 0; n < OCT_WIDE_TILES; n++)
        for (int i = 0; i < 4; i++) {
            const int c = columns.first + n * 8 + oct_lane() % 4 * 2 + i % 2;
            if (c < p.input.columns)
                oct_finish(p, turn, tile, oct_lane() / 4 + i / 2 * 8, c, oct_stack_at(stack, 0, n) + i,
                           OCT_WIDE_TILES * OCT_WARP * 4);
        }
}

#endif
