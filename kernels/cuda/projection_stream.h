// Inside projection_kernels.h: how weights reach shared memory. By bulk copies, a stage (up to 256 columns of 16 rows,
// which lie together) at a time, into a ring of each warp: the warp that reads a stage asks for a later one in its
// place, across the borders of segments and tiles, so that memory stays busy while the block adds up or waits.
#ifndef OCT_KERNELS_CUDA_PROJECTION_STREAM_H
#define OCT_KERNELS_CUDA_PROJECTION_STREAM_H

#include "kernels/cuda/weights.h"

enum { OCT_MAX_STAGES = 8 /* of a ring */ };

template <class Weights> static constexpr __host__ __device__ int oct_stage_bytes(int units = Weights::STAGE_UNITS)
{
    return Weights::HEADER_BYTES + units * Weights::UNIT_BYTES;
}

// Of the largest stage of a plan.
template <class Weights> static inline uint32_t oct_plan_stage_bytes(const oct_cuda_plan *plan)
{
    int units = 1;
    for (int s = 0; s < plan->segment_count; s++)
        units = plan->segments[s].units > units ? plan->segments[s].units : units;
    return static_cast<uint32_t>(oct_stage_bytes<Weights>(units < Weights::STAGE_UNITS ? units : Weights::STAGE_UNITS));
}

// A tile of one of the matrices.
typedef struct oct_tile {
    int matrix, tile;
} oct_tile;

// The tile that `piece` of work item `item` belongs to: of gate and up both have the item's number, other matrices
// stand one after another.
OCT_DEVICE oct_tile oct_tile_of(const oct_cuda_projection &p, int item, int piece)
{
    if (p.epilogue == OCT_CUDA_SILU_MULTIPLY)
        return {piece < p.plan.segment_count ? 0 : 1, item};
    int matrix = 0, first = 0;
#pragma unroll
    for (int m = 0; m < OCT_CUDA_MATRICES - 1; m++)
        if (m + 1 < p.matrix_count && item >= p.tiling.tile_end[m]) {
            matrix = m + 1;
            first = p.tiling.tile_end[m];
        }
    return {matrix, item - first};
}

OCT_DEVICE const oct_cuda_segment &oct_segment_of(const oct_cuda_projection &p, int piece)
{
    return p.plan.segments[piece < p.plan.segment_count ? piece : piece - p.plan.segment_count];
}

// The units of a segment up to the end of its first stage: stages begin at multiples of their columns.
template <class Weights> OCT_DEVICE int oct_head_units(const oct_cuda_segment &segment)
{
    return Weights::STAGE_UNITS - (segment.first / OCT_UNIT & (Weights::STAGE_UNITS - 1));
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
    int item, item_step, piece_first, piece_step;
    // Of the next request: units that are left of its piece, 0: there is none; and up to the end of a stage.
    const uint8_t *from;
    int piece, left, whole, request_slot;
    // Of the next stage that is taken.
    int slot;

    __device__ __forceinline__ explicit oct_stream(oct_ring &of) : ring(of) {}

    __device__ __forceinline__ void open(const oct_cuda_projection &p)
    {
        left = 0;
        if (item >= p.tiling.items)
            return;
        const oct_cuda_segment &segment = oct_segment_of(p, piece);
        const oct_tile tile = oct_tile_of(p, item, piece);
        left = segment.units;
        whole = oct_head_units<Weights>(segment);
        from = static_cast<const uint8_t *>(p.matrices[tile.matrix].weights) + segment.offset +
               static_cast<size_t>(tile.tile) * segment.tile_bytes;
    }

    // Asks for the next stage, whose place is free for all lanes; not `asking`: it has been asked for before.
    __device__ __forceinline__ void request(const oct_cuda_projection &p, bool asking)
    {
        if (left == 0)
            return;
        const int units = left < whole ? left : whole;
        const uint32_t bytes = static_cast<uint32_t>(Weights::HEADER_BYTES + units * Weights::UNIT_BYTES);
        if (asking && oct_lane() == 0) {
            uint64_t *barrier = &ring.barriers[request_slot];
            mbar_arrive_tx(barrier, bytes);
            cp_bulk(ring.memory + request_slot * p.tiling.stage_bytes, from, bytes, barrier);
        }
        request_slot = request_slot + 1 == ring.stages ? 0 : request_slot + 1;
        from += bytes;
        left -= units;
        whole = Weights::STAGE_UNITS;
        if (left > 0)
            return;
        piece += piece_step;
        if (piece >= p.tiling.pieces) {
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
        request_slot = slot = left = whole = 0;
        from = nullptr;
        if (piece_first < p.tiling.pieces)
            open(p);
        for (int i = 0; i < ring.stages && left > 0; i++) {
            ring.filled += asking;
            request(p, asking);
        }
    }

    __device__ __forceinline__ const uint8_t *take(const oct_cuda_projection &p)
    {
        mbar_wait(&ring.barriers[slot], ring.phases >> slot & 1);
        return ring.memory + slot * p.tiling.stage_bytes;
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
    if (oct_lane() < count) {
        mbar_init(&barriers[oct_lane()], 1);
        mbar_fence_init();
    }
    __syncwarp();
}

#endif
