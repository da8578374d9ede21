// Exchanges between the devices of ranks, inside kernels: peers.h says how they work and why they are safe. For kernels
// that are launched cooperatively (all blocks are resident: they wait for blocks of other devices), ordinary ones and
// the persistent one. The order, for each exchange:
//
//     turn = oct_peer_begin(r);
//     oct_peer_send(r, turn, …);              each element of this rank's nodes, once
//     __syncthreads();                        what the block has sent comes before what it announces
//     oct_peer_announce(r, turn, …);          each tile, once, by the block that has sent it (or a later kernel)
//     oct_peer_finish(r, turn, block, blocks);
//
// A turn of a rank that has given up does nothing at all.
// Nothing of the residual and the squares may be read before the kernel, or a grid barrier, has ended the exchange.
#ifndef OCT_KERNELS_CUDA_PEER_EXCHANGE_H
#define OCT_KERNELS_CUDA_PEER_EXCHANGE_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/peers.h"

enum {
    OCT_PEER_TILE = 16,
    OCT_PEER_TILES = OCT_CUDA_GROUP_ROWS / OCT_PEER_TILE, // of a group
    OCT_PEER_NARROW_UNIT = 2,                             // columns of a warp's unit of work,
    OCT_PEER_WIDE_UNIT = 16,                              // and of exchanges of many columns: fewer flags
    OCT_PEER_AHEAD = 8,                                   // nodes that a lane has under way, of four rows each
    OCT_PEER_POLLS = 64                                   // of a flag, between looks at the clock and the abort word
};

static inline __host__ __device__ int oct_peer_groups(int hidden)
{
    return (hidden + OCT_CUDA_GROUP_ROWS - 1) / OCT_CUDA_GROUP_ROWS;
}

static inline __host__ __device__ int oct_peer_unit_columns(int columns)
{
    return columns <= OCT_CUDA_ONE_SHOT_COLUMNS ? OCT_PEER_NARROW_UNIT : OCT_PEER_WIDE_UNIT;
}

// Groups that a rank owns in two shots: rank, rank + ranks, …
static inline __host__ __device__ int oct_peer_owned_groups(int hidden, int ranks, int rank)
{
    const int groups = oct_peer_groups(hidden);
    return groups > rank ? (groups - rank + ranks - 1) / ranks : 0;
}

// Tiles of a node in the half of a rank's memory.
static inline __host__ __device__ int oct_peer_tiles(const oct_cuda_reduction &r)
{
    return OCT_PEER_TILES * (r.two_shot != 0 ? oct_peer_owned_groups(r.peers.hidden, r.peers.ranks, 0)
                                             : oct_peer_groups(r.peers.hidden));
}

OCT_DEVICE uint32_t *oct_peer_stopped(const oct_cuda_peers &peers)
{
    return reinterpret_cast<uint32_t *>(peers.memory[peers.rank]);
}

typedef struct oct_peer_turn {
    uint32_t epoch;
    bool stopped; // this rank has given up in an earlier exchange
} oct_peer_turn;

OCT_DEVICE oct_peer_turn oct_peer_begin(const oct_cuda_reduction &r)
{
    return {*r.peers.step * r.peers.exchanges + r.number + 1u, ld_acquire_gpu(oct_peer_stopped(r.peers)) != 0};
}

OCT_DEVICE float *oct_peer_half(const oct_cuda_reduction &r, int rank, uint32_t epoch)
{
    const oct_cuda_peer_layout &layout = r.peers.layout;
    return reinterpret_cast<float *>(r.peers.memory[rank] + layout.halves + (epoch & 1u) * layout.half_bytes);
}

OCT_DEVICE uint32_t *oct_peer_arrivals(const oct_cuda_reduction &r, int rank, int tile)
{
    return reinterpret_cast<uint32_t *>(r.peers.memory[rank] + r.peers.layout.arrivals) + tile * r.peers.ranks;
}

OCT_DEVICE uint32_t *oct_peer_delivered(const oct_cuda_reduction &r, int rank)
{
    return reinterpret_cast<uint32_t *>(r.peers.memory[rank] + r.peers.layout.delivered);
}

OCT_DEVICE float *oct_peer_results(const oct_cuda_reduction &r, int rank)
{
    return reinterpret_cast<float *>(r.peers.memory[rank] + r.peers.layout.results);
}

// The first row of a tile and column in a node of a half.
OCT_DEVICE int oct_peer_place(const oct_cuda_reduction &r, int node, int tile, int column)
{
    const int group = tile / OCT_PEER_TILES;
    const int slot = r.two_shot != 0 ? group / r.peers.ranks * OCT_PEER_TILES + tile % OCT_PEER_TILES : tile;
    return ((node * oct_peer_tiles(r) + slot) * r.columns + column) * OCT_PEER_TILE;
}

// Writes one element of this rank's node `node` to those who add it.
OCT_DEVICE void oct_peer_send(const oct_cuda_reduction &r, oct_peer_turn turn, int node, int tile, int row_of_tile,
                              int column, float value)
{
    if (turn.stopped)
        return;
    const int at = oct_peer_place(r, r.first_node + node, tile, column) + row_of_tile;
    if (r.two_shot != 0) {
        oct_peer_half(r, tile / OCT_PEER_TILES % r.peers.ranks, turn.epoch)[at] = value;
        return;
    }
    for (int rank = 0; rank < r.peers.ranks; rank++)
        oct_peer_half(r, rank, turn.epoch)[at] = value;
}

// Announces the tiles first, first + step, … of this rank's nodes to those who add them. By all threads of a block.
OCT_DEVICE void oct_peer_announce(const oct_cuda_reduction &r, oct_peer_turn turn, int first, int step)
{
    if (turn.stopped)
        return;
    const int tiles = (r.peers.hidden + OCT_PEER_TILE - 1) / OCT_PEER_TILE, ranks = r.peers.ranks;
    const int own = first < tiles ? (tiles - first + step - 1) / step : 0, receivers = r.two_shot != 0 ? 1 : ranks;
    for (int i = static_cast<int>(threadIdx.x); i < own * receivers; i += static_cast<int>(blockDim.x)) {
        const int tile = first + i / receivers * step;
        const int to = r.two_shot != 0 ? tile / OCT_PEER_TILES % ranks : i % ranks;
        st_release_sys(oct_peer_arrivals(r, to, tile) + r.peers.rank, turn.epoch);
    }
}

// (5) of peers.h.
OCT_DEVICE bool oct_peer_is_there(const uint32_t *flag, uint32_t epoch)
{
    return ld_acquire_sys(flag) - epoch < 2u;
}

// Whether a wait that began at began_ns is over without what it waited for; `from` is the rank that would send it.
OCT_DEVICE bool oct_peer_gives_up(const oct_cuda_peers &peers, uint64_t began_ns, int from)
{
    const bool told = ld_acquire_sys(peers.abort) != OCT_DEVICE_WAITS;
    const bool late = peers.patience_ns != 0 && globaltimer() - began_ns > peers.patience_ns;
    if (!told && !late)
        return false;
    if (!told)
        st_release_sys(peers.abort, OCT_DEVICE_GAVE_UP + static_cast<uint32_t>(from));
    st_release_gpu(oct_peer_stopped(peers), 1u);
    return true;
}

// Waits for one flag; false: given up.
OCT_DEVICE bool oct_peer_wait(const oct_cuda_peers &peers, const uint32_t *flag, uint32_t epoch, int from)
{
    if (oct_peer_is_there(flag, epoch))
        return true;
    const uint64_t began_ns = globaltimer();
    for (uint32_t polls = 1; !oct_peer_is_there(flag, epoch); polls++)
        if (polls % OCT_PEER_POLLS == 0 && oct_peer_gives_up(peers, began_ns, from))
            return false;
    return true;
}

// The warp waits until all ranks' nodes of a group are here.
OCT_DEVICE bool oct_peer_wait_arrivals(const oct_cuda_reduction &r, uint32_t epoch, int group)
{
    const int tiles = (r.peers.hidden + OCT_PEER_TILE - 1) / OCT_PEER_TILE, first = group * OCT_PEER_TILES;
    const int count = (tiles - first < OCT_PEER_TILES ? tiles - first : OCT_PEER_TILES) * r.peers.ranks;
    const uint32_t *flags = oct_peer_arrivals(r, r.peers.rank, first);
    bool there = true;
    for (int i = oct_lane(); i < count && there; i += OCT_WARP)
        there = oct_peer_wait(r.peers, flags + i, epoch, i % r.peers.ranks);
    there = __all_sync(OCT_WARP_MASK, there) != 0;
    __syncwarp(); // what a lane's flag announces is there for all lanes
    return there;
}

// The warp waits until the sum of a unit is here.
OCT_DEVICE bool oct_peer_wait_delivery(const oct_cuda_reduction &r, uint32_t epoch, int group, int unit)
{
    bool there = true;
    if (oct_lane() == 0)
        there = oct_peer_wait(r.peers, oct_peer_delivered(r, r.peers.rank) + unit, epoch, group % r.peers.ranks);
    there = __all_sync(OCT_WARP_MASK, there) != 0;
    __syncwarp();
    return there;
}

// Four elements of a column of a group: those of rows lane, lane + 16, lane + 32 and lane + 48, lane of a half warp.
typedef struct oct_quad {
    float at[OCT_PEER_TILES];
} oct_quad;

// At `from`, whose tiles are `stride` elements apart.
OCT_DEVICE oct_quad oct_peer_load(const float *from, int stride)
{
    oct_quad quad;
#pragma unroll
    for (int q = 0; q < OCT_PEER_TILES; q++)
        quad.at[q] = from[q * stride];
    return quad;
}

// The root over all nodes at `from`, node by node `step` elements apart. The stack is a shift register: the top is
// stack[0], so that all of it has fixed names.
OCT_DEVICE oct_quad oct_peer_root(const oct_cuda_reduction &r, const float *from, int step, int stride)
{
    oct_quad stack[OCT_CUDA_PEER_DEPTH] = {};
#pragma unroll 1
    for (int begin = 0; begin < r.nodes; begin += OCT_PEER_AHEAD) {
        oct_quad nodes[OCT_PEER_AHEAD];
#pragma unroll
        for (int i = 0; i < OCT_PEER_AHEAD; i++)
            if (begin + i < r.nodes)
                nodes[i] = oct_peer_load(from + (begin + i) * step, stride);
#pragma unroll
        for (int i = 0; i < OCT_PEER_AHEAD; i++) {
            if (begin + i >= r.nodes)
                continue;
            oct_quad sum = nodes[i];
#pragma unroll 1
            for (int merge = 0; merge < r.merges[begin + i]; merge++) {
#pragma unroll
                for (int q = 0; q < OCT_PEER_TILES; q++)
                    sum.at[q] = stack[0].at[q] + sum.at[q];
#pragma unroll
                for (int level = 1; level < OCT_CUDA_PEER_DEPTH; level++)
                    stack[level - 1] = stack[level];
            }
#pragma unroll
            for (int level = OCT_CUDA_PEER_DEPTH - 1; level > 0; level--)
                stack[level] = stack[level - 1];
            stack[0] = sum;
        }
    }
    return stack[0];
}

// Adds the root to the residual, and leaves the sum of squares as oct_norm_sums() does: by all lanes of the warp, each
// half with a column of its own (`real`: there is one).
OCT_DEVICE void oct_peer_add(const oct_cuda_reduction &r, int group, int column, bool real, const oct_quad &root)
{
    const int lane = oct_lane() % OCT_PEER_TILE, first = group * OCT_CUDA_GROUP_ROWS + lane;
    float *residual = r.residual + static_cast<int64_t>(column) * r.peers.hidden + first;
    float sum = 0;
#pragma unroll
    for (int q = 0; q < OCT_PEER_TILES; q++)
        if (real && first + q * OCT_PEER_TILE < r.peers.hidden) {
            const float value = residual[q * OCT_PEER_TILE] + root.at[q];
            residual[q * OCT_PEER_TILE] = value;
            sum = fmaf(value, value, sum);
        }
    if (r.squares == nullptr)
        return;
    for (int apart = OCT_PEER_TILE / 2; apart > 0; apart /= 2)
        sum += __shfl_xor_sync(OCT_WARP_MASK, sum, apart);
    if (real && lane == 0)
        r.squares[column * oct_peer_groups(r.peers.hidden) + group] = sum;
}

// Adds all nodes of a unit, which are here: to the residual, or for all ranks.
OCT_DEVICE void oct_peer_add_nodes(const oct_cuda_reduction &r, uint32_t epoch, int group, int begin)
{
    const float *half = oct_peer_half(r, r.peers.rank, epoch);
    const int step = oct_peer_tiles(r) * r.columns * OCT_PEER_TILE, stride = r.columns * OCT_PEER_TILE;
#pragma unroll 1
    for (int at = 0; at < oct_peer_unit_columns(r.columns); at += 2) {
        const int lane = oct_lane() % OCT_PEER_TILE, column = begin + at + oct_lane() / OCT_PEER_TILE;
        const bool real = column < r.columns;
        oct_quad root = {};
        if (real)
            root = oct_peer_root(r, half + oct_peer_place(r, 0, group * OCT_PEER_TILES, column) + lane, step, stride);
        if (r.two_shot == 0) {
            oct_peer_add(r, group, column, real, root);
            continue;
        }
        const int to = (group * OCT_PEER_TILES * r.columns + column) * OCT_PEER_TILE + lane;
#pragma unroll 1
        for (int rank = 0; real && rank < r.peers.ranks; rank++)
#pragma unroll
            for (int q = 0; q < OCT_PEER_TILES; q++)
                oct_peer_results(r, rank)[to + q * stride] = root.at[q];
    }
}

// The owner's part of two shots: adds what it owns, and tells all ranks.
OCT_DEVICE void oct_peer_deliver(const oct_cuda_reduction &r, uint32_t epoch, int warp, int warps)
{
    const int ranks = r.peers.ranks, rank = r.peers.rank, groups = oct_peer_groups(r.peers.hidden);
    const int owned = oct_peer_owned_groups(r.peers.hidden, ranks, rank), size = oct_peer_unit_columns(r.columns);
    for (int i = warp; i < owned * ((r.columns + size - 1) / size); i += warps) {
        const int group = rank + i % owned * ranks, part = i / owned;
        if (!oct_peer_wait_arrivals(r, epoch, group))
            continue;
        oct_peer_add_nodes(r, epoch, group, part * size);
        __syncwarp(); // what the lanes have sent comes before what some of them announce
        for (int to = oct_lane(); to < ranks; to += OCT_WARP)
            st_release_sys(oct_peer_delivered(r, to) + part * groups + group, epoch);
    }
}

// Adds the sums of a unit, which are here, to the residual.
OCT_DEVICE void oct_peer_add_results(const oct_cuda_reduction &r, int group, int begin)
{
    const float *results = oct_peer_results(r, r.peers.rank);
    const int stride = r.columns * OCT_PEER_TILE;
#pragma unroll 1
    for (int at = 0; at < oct_peer_unit_columns(r.columns); at += 2) {
        const int lane = oct_lane() % OCT_PEER_TILE, column = begin + at + oct_lane() / OCT_PEER_TILE;
        const bool real = column < r.columns;
        oct_quad root = {};
        if (real)
            root = oct_peer_load(results + (group * OCT_PEER_TILES * r.columns + column) * OCT_PEER_TILE + lane, stride);
        oct_peer_add(r, group, column, real, root);
    }
}

// Waits for the nodes, or the sums, of all ranks and adds them to the residual. By all threads of all blocks, whole
// warps; blocks of one size. Where a wait is given up the rest is left out.
OCT_DEVICE void oct_peer_finish(const oct_cuda_reduction &r, oct_peer_turn turn, int block, int blocks)
{
    if (turn.stopped)
        return;
    const int warps = blocks * (static_cast<int>(blockDim.x) / OCT_WARP), warp = oct_warp() * blocks + block;
    const int groups = oct_peer_groups(r.peers.hidden), size = oct_peer_unit_columns(r.columns);
    if (r.two_shot != 0)
        oct_peer_deliver(r, turn.epoch, warp, warps);
    for (int unit = warp; unit < groups * ((r.columns + size - 1) / size); unit += warps) {
        const int group = unit % groups, begin = unit / groups * size;
        if (r.two_shot == 0 && oct_peer_wait_arrivals(r, turn.epoch, group))
            oct_peer_add_nodes(r, turn.epoch, group, begin);
        if (r.two_shot != 0 && oct_peer_wait_delivery(r, turn.epoch, group, unit))
            oct_peer_add_results(r, group, begin);
    }
}

#endif
