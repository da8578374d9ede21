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
    OCT_PEER_WIDE_UNIT = 16,                              // columns of a warp's unit of work, where there are many
    OCT_PEER_ROWS = OCT_CUDA_GROUP_ROWS / OCT_WARP,       // of a group that a lane has: lane, lane + 32
    OCT_PEER_AHEAD = 8,                                   // nodes that a lane has under way
    OCT_PEER_POLLS = 64                                   // of a flag, between looks at the clock and the abort word
};

static inline __host__ __device__ int oct_peer_groups(int hidden)
{
    return (hidden + OCT_CUDA_GROUP_ROWS - 1) / OCT_CUDA_GROUP_ROWS;
}

// Columns of a unit: few where time is what one of them takes, more where flags would be many.
static inline __host__ __device__ int oct_peer_unit_columns(int columns)
{
    return columns <= OCT_CUDA_ONE_SHOT_COLUMNS ? 1 : OCT_PEER_WIDE_UNIT;
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

// By whole warps. What lane 0 has read holds for its warp: another block may give up at this very time, and a warp some
// of whose lanes had seen it would wait for them for ever where it joins.
OCT_DEVICE oct_peer_turn oct_peer_begin(const oct_cuda_reduction &r)
{
    const uint32_t stopped = __shfl_sync(OCT_WARP_MASK, ld_acquire_gpu(oct_peer_stopped(r.peers)), 0);
    return {*r.peers.step * r.peers.exchanges + r.number + 1u, stopped != 0};
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

// The elements of a column of a group that a lane has.
typedef struct oct_peer_rows {
    float at[OCT_PEER_ROWS];
} oct_peer_rows;

// Where a lane's first row stands, from the group's first tile on, and how far behind it the second one.
OCT_DEVICE int oct_peer_first_row(const oct_cuda_reduction &r, int column)
{
    return (oct_lane() / OCT_PEER_TILE * r.columns + column) * OCT_PEER_TILE + oct_lane() % OCT_PEER_TILE;
}

OCT_DEVICE int oct_peer_row_stride(const oct_cuda_reduction &r)
{
    return OCT_WARP / OCT_PEER_TILE * r.columns * OCT_PEER_TILE;
}

OCT_DEVICE oct_peer_rows oct_peer_load(const oct_cuda_reduction &r, const float *from)
{
    oct_peer_rows rows;
#pragma unroll
    for (int q = 0; q < OCT_PEER_ROWS; q++)
        rows.at[q] = from[q * oct_peer_row_stride(r)];
    return rows;
}

// The root over all nodes, the first of which is at `from`. The stack is a shift register: its top is stack[0], so that
// all of it has fixed names.
OCT_DEVICE oct_peer_rows oct_peer_root(const oct_cuda_reduction &r, const float *from)
{
    const int step = oct_peer_tiles(r) * r.columns * OCT_PEER_TILE; // from node to node
    oct_peer_rows stack[OCT_CUDA_PEER_DEPTH] = {};
    for (int begin = 0; begin < r.nodes; begin += OCT_PEER_AHEAD) {
        oct_peer_rows nodes[OCT_PEER_AHEAD];
#pragma unroll
        for (int i = 0; i < OCT_PEER_AHEAD; i++)
            if (begin + i < r.nodes)
                nodes[i] = oct_peer_load(r, from + (begin + i) * step);
#pragma unroll
        for (int i = 0; i < OCT_PEER_AHEAD; i++) {
            if (begin + i >= r.nodes)
                continue;
            oct_peer_rows sum = nodes[i];
            for (int merge = 0; merge < r.merges[begin + i]; merge++) {
#pragma unroll
                for (int q = 0; q < OCT_PEER_ROWS; q++)
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

// The sum of squares of a group as oct_add_norm_block() has it: a lane of half a warp adds those of rows lane, lane + 16,
// lane + 32, lane + 48, then lanes 8, 4, 2 and 1 apart are added. Rows behind the last one are left out there: here
// they are 0, and add nothing to a sum that is never −0.
OCT_DEVICE float oct_peer_squares(const oct_peer_rows &rows)
{
    const bool upper = oct_lane() >= OCT_PEER_TILE;
    float sum = 0;
#pragma unroll
    for (int q = 0; q < OCT_PEER_ROWS; q++) {
        const float own = rows.at[q], other = __shfl_xor_sync(OCT_WARP_MASK, own, OCT_PEER_TILE);
        const float first = upper ? other : own, second = upper ? own : other;
        sum = fmaf(first, first, sum);
        sum = fmaf(second, second, sum);
    }
    for (int apart = OCT_PEER_TILE / 2; apart > 0; apart /= 2)
        sum += __shfl_xor_sync(OCT_WARP_MASK, sum, apart);
    return sum;
}

// Adds the root of a group and column to the residual. By the warp.
OCT_DEVICE void oct_peer_add(const oct_cuda_reduction &r, int group, int column, const oct_peer_rows &root)
{
    const int first = group * OCT_CUDA_GROUP_ROWS + oct_lane();
    float *residual = r.residual + static_cast<int64_t>(column) * r.peers.hidden + first;
    oct_peer_rows rows = {};
#pragma unroll
    for (int q = 0; q < OCT_PEER_ROWS; q++)
        if (first + q * OCT_WARP < r.peers.hidden)
            residual[q * OCT_WARP] = rows.at[q] = residual[q * OCT_WARP] + root.at[q];
    if (r.squares == nullptr)
        return;
    const float sum = oct_peer_squares(rows);
    if (oct_lane() == 0)
        r.squares[column * oct_peer_groups(r.peers.hidden) + group] = sum;
}

// Sends the root of a group and column, which this rank owns, to all.
OCT_DEVICE void oct_peer_deliver(const oct_cuda_reduction &r, int group, int column, const oct_peer_rows &root)
{
    const int at = group * OCT_PEER_TILES * r.columns * OCT_PEER_TILE + oct_peer_first_row(r, column);
    for (int rank = 0; rank < r.peers.ranks; rank++)
#pragma unroll
        for (int q = 0; q < OCT_PEER_ROWS; q++)
            oct_peer_results(r, rank)[at + q * oct_peer_row_stride(r)] = root.at[q];
}

// Units of work: (group, some columns), all groups of the first columns first.
OCT_DEVICE int oct_peer_unit_end(const oct_cuda_reduction &r, int begin)
{
    const int end = begin + oct_peer_unit_columns(r.columns);
    return end < r.columns ? end : r.columns;
}

// Adds the nodes of a unit, which are here: to the residual, or for all ranks.
OCT_DEVICE void oct_peer_add_nodes(const oct_cuda_reduction &r, uint32_t epoch, int group, int begin)
{
    const float *half = oct_peer_half(r, r.peers.rank, epoch) + oct_peer_place(r, 0, group * OCT_PEER_TILES, 0);
    for (int column = begin; column < oct_peer_unit_end(r, begin); column++) {
        const oct_peer_rows root = oct_peer_root(r, half + oct_peer_first_row(r, column));
        if (r.two_shot != 0)
            oct_peer_deliver(r, group, column, root);
        else
            oct_peer_add(r, group, column, root);
    }
}

OCT_DEVICE void oct_peer_add_results(const oct_cuda_reduction &r, int group, int begin)
{
    const float *results =
        oct_peer_results(r, r.peers.rank) + group * OCT_PEER_TILES * r.columns * OCT_PEER_TILE;
    for (int column = begin; column < oct_peer_unit_end(r, begin); column++)
        oct_peer_add(r, group, column, oct_peer_load(r, results + oct_peer_first_row(r, column)));
}

// Tells all ranks that the sums of a unit are sent.
OCT_DEVICE void oct_peer_announce_results(const oct_cuda_reduction &r, uint32_t epoch, int unit)
{
    __syncwarp(); // what the lanes have sent comes before what some of them announce
    for (int to = oct_lane(); to < r.peers.ranks; to += OCT_WARP)
        st_release_sys(oct_peer_delivered(r, to) + unit, epoch);
}

// Waits for the nodes of all ranks and adds them, in two shots those that this rank owns; in two shots waits then for
// the sums. By all threads of all blocks, whole warps; blocks of one size. Where a wait is given up the rest is left
// out.
OCT_DEVICE void oct_peer_finish(const oct_cuda_reduction &r, oct_peer_turn turn, int block, int blocks)
{
    if (turn.stopped)
        return;
    const int warps = blocks * (static_cast<int>(blockDim.x) / OCT_WARP), warp = oct_warp() * blocks + block;
    const int groups = oct_peer_groups(r.peers.hidden), size = oct_peer_unit_columns(r.columns);
    const int parts = (r.columns + size - 1) / size;
    const int first = r.two_shot != 0 ? r.peers.rank : 0, step = r.two_shot != 0 ? r.peers.ranks : 1;
    const int owned = r.two_shot != 0 ? oct_peer_owned_groups(r.peers.hidden, step, first) : groups;
    for (int i = warp; i < owned * parts; i += warps) {
        const int group = first + i % owned * step, part = i / owned;
        if (!oct_peer_wait_arrivals(r, turn.epoch, group))
            continue;
        oct_peer_add_nodes(r, turn.epoch, group, part * size);
        if (r.two_shot != 0)
            oct_peer_announce_results(r, turn.epoch, part * groups + group);
    }
    for (int unit = warp; r.two_shot != 0 && unit < groups * parts; unit += warps)
        if (oct_peer_wait_delivery(r, turn.epoch, unit % groups, unit))
            oct_peer_add_results(r, unit % groups, unit / groups * size);
}

#endif
