// Inside projection_kernels.h: from the partial sums of a tile's segments, in shared memory, to what becomes of its
// rows. The lanes of a row and column have a leaf of the tree each.
#ifndef OCT_KERNELS_CUDA_PROJECTION_SUMS_H
#define OCT_KERNELS_CUDA_PROJECTION_SUMS_H

#include "kernels/cuda/peer_exchange.h"
#include "kernels/cuda/projection_stream.h"

// Floats from column to column of a partial sum [columns][16]: no bank meets twice.
enum { OCT_PARTIAL_STRIDE = 20 };

// What a row and column of `tile` goes on from, where it is added to something.
OCT_DEVICE float oct_read_out(const oct_cuda_projection &p, const float *out)
{
    return p.epilogue == OCT_CUDA_ADD || p.epilogue == OCT_CUDA_SILU_OF_OUT ? *out : 0.0f;
}

OCT_DEVICE float *oct_out_of(const oct_cuda_projection &p, oct_tile tile, int row_of_tile, int column)
{
    return p.matrices[tile.matrix].out + column * p.out_stride + static_cast<int64_t>(tile.tile) * OCT_TILE_ROWS +
           row_of_tile;
}

OCT_DEVICE bool oct_is_row(const oct_cuda_projection &p, oct_tile tile, int row_of_tile)
{
    return static_cast<int64_t>(tile.tile) * OCT_TILE_ROWS + row_of_tile < p.matrices[tile.matrix].rows;
}

// What becomes of a node of one row (of the tile, and there) and column; `before`: what stood there; `up`: of the second
// matrix of a pair.
OCT_DEVICE void oct_finish(const oct_cuda_projection &p, oct_peer_turn turn, oct_tile tile, int row_of_tile, int column,
                           int node, float value, float before, float up)
{
    float *out = oct_out_of(p, tile, row_of_tile, column);
    switch (p.epilogue) {
    case OCT_CUDA_STORE:
        *out = value;
        break;
    case OCT_CUDA_SILU_MULTIPLY:
        *out = oct_silu_multiply(value, up);
        break;
    case OCT_CUDA_SILU_OF_OUT:
        *out = oct_silu_multiply(before, value);
        break;
    case OCT_CUDA_ADD:
        *out = before + value;
        break;
    case OCT_CUDA_NODES:
        out[node * p.input.columns * p.out_stride] = value;
        break;
    case OCT_CUDA_REDUCE:
        oct_peer_send(p.reduction, turn, node, tile.tile, row_of_tile, column, value);
        break;
    }
}

// Lanes that add a row and column are 2^this: one leaf each, or two where the tree has more leaves than a warp lanes.
static inline __host__ __device__ int oct_tree_lane_level(const oct_cuda_tree &tree)
{
    return tree.level < 5 ? tree.level : 5;
}

// The sum of the segment at a leaf; partials: of the row and column, `piece_floats` from piece to piece.
OCT_DEVICE float oct_leaf(const oct_cuda_tree &tree, const float *partials, int piece_floats, int leaf)
{
    if (tree.is_full)
        return partials[leaf * piece_floats];
    const int segment = tree.segment_at[leaf];
    return segment == OCT_CUDA_NO_SEGMENT ? -0.0f : partials[segment * piece_floats];
}

// The root, by the lanes of a row and column; each gets it.
OCT_DEVICE float oct_tree_root(const oct_cuda_tree &tree, const float *partials, int piece_floats)
{
    const int lanes = 1 << oct_tree_lane_level(tree), lane = oct_lane() & (lanes - 1);
    if (tree.level <= 5)
        return oct_add_lanes(oct_leaf(tree, partials, piece_floats, lane), lanes);
    const float first = oct_leaf(tree, partials, piece_floats, 2 * lane);
    return oct_add_lanes(first + oct_leaf(tree, partials, piece_floats, 2 * lane + 1), lanes);
}

// All nodes, by the lanes of a row and column: on each level the lane that has a node's first leaf has its sum.
OCT_DEVICE void oct_finish_nodes(const oct_cuda_projection &p, oct_peer_turn turn, oct_tile tile, int row, int column,
                                 const float *partials, int piece_floats, bool real)
{
    const oct_cuda_tree &tree = p.plan.tree;
    const int lane = oct_lane() & ((1 << oct_tree_lane_level(tree)) - 1), leaves = tree.level > 5 ? 2 : 1; // of a lane
    float value = 0;
    for (int level = 0; level <= tree.level; level++) {
        const int apart = (1 << level) / leaves / 2; // lanes
        const float second = leaves == 2 ? oct_leaf(tree, partials, piece_floats, 2 * lane + 1) : 0.0f;
        if (level == 0)
            value = oct_leaf(tree, partials, piece_floats, leaves * lane);
        else
            value += apart == 0 ? second : __shfl_xor_sync(OCT_WARP_MASK, value, apart);
        for (int node = 0; node < p.plan.nodes; node++) {
            const int leaf = tree.node_leaf[node];
            if (real && tree.node_level[node] == level && leaf / leaves == lane)
                oct_finish(p, turn, tile, row, column, node, leaf % leaves == 0 ? value : second, 0.0f, 0.0f);
        }
    }
}

// What sums of column c are multiplied with.
OCT_DEVICE float oct_norm_factor(const oct_cuda_input &input, const float *factors, int c)
{
    return input.norm == nullptr ? 1.0f : factors[c];
}

// What a lane finishes of a tile: one of the rows and columns that the block's warps have in equal shares, in order.
typedef struct oct_own_sum {
    oct_tile tile;
    int of_warp;     // rows and columns of a warp, at most a lane each
    int row, column;
    bool real;       // there is one for the lane
    float before;    // what it is added to
} oct_own_sum;

// Called before the sums are there: `before` is on its way meanwhile.
OCT_DEVICE oct_own_sum oct_own_sum_of(const oct_cuda_projection &p, int item)
{
    oct_own_sum own;
    const int all = OCT_TILE_ROWS * p.input.columns, warps = oct_warps();
    own.tile = oct_tile_of(p, item, 0);
    own.of_warp = (all + warps - 1) / warps;
    const int i = oct_warp() * own.of_warp + oct_lane();
    own.row = i % OCT_TILE_ROWS;
    own.column = i / OCT_TILE_ROWS;
    own.real = oct_lane() < own.of_warp && i < all && oct_is_row(p, own.tile, own.row);
    own.before = own.real ? oct_read_out(p, oct_out_of(p, own.tile, own.row, own.column)) : 0.0f;
    return own;
}

// The block's tile from its partial sums; factors [columns]: of the norm, where there is one. Lanes add up their warp's
// sums together, and finish one each.
OCT_DEVICE void oct_finish_tile(const oct_cuda_projection &p, oct_peer_turn turn, const oct_own_sum &own,
                                const float *partials, const float *factors)
{
    const bool pair = p.epilogue == OCT_CUDA_SILU_MULTIPLY;
    const int lane_level = oct_tree_lane_level(p.plan.tree), at_once = OCT_WARP >> lane_level;
    const int all = OCT_TILE_ROWS * p.input.columns, piece_floats = p.tiling.piece_floats;
    const float *up_partials = partials + p.plan.segment_count * piece_floats;
    float value = 0, up = 0;
    for (int first = 0; first < own.of_warp; first += at_once) {
        const int of_warp = first + (oct_lane() >> lane_level), i = oct_warp() * own.of_warp + of_warp;
        const int row = i % OCT_TILE_ROWS, c = i / OCT_TILE_ROWS;
        const bool there = of_warp < own.of_warp && i < all;
        const int at = there ? c * OCT_PARTIAL_STRIDE + row : 0;
        if (p.plan.nodes > 1) {
            oct_finish_nodes(p, turn, own.tile, row, c, partials + at, piece_floats,
                             there && oct_is_row(p, own.tile, row));
            continue;
        }
        const bool mine = oct_lane() >= first && oct_lane() < first + at_once;
        const int lane = (oct_lane() - first) * (1 << lane_level) & (OCT_WARP - 1); // that has the lane's own sum
        const float root = oct_tree_root(p.plan.tree, partials + at, piece_floats);
        const float own_root = __shfl_sync(OCT_WARP_MASK, root, lane);
        value = mine ? own_root : value;
        if (pair) {
            const float up_root = oct_tree_root(p.plan.tree, up_partials + at, piece_floats);
            const float own_up = __shfl_sync(OCT_WARP_MASK, up_root, lane);
            up = mine ? own_up : up;
        }
    }
    if (p.plan.nodes > 1 || !own.real)
        return;
    const float factor = oct_norm_factor(p.input, factors, own.column);
    oct_finish(p, turn, own.tile, own.row, own.column, 0, value * factor, own.before, up * factor);
}

// partial [columns][OCT_PARTIAL_STRIDE]
template <int N> OCT_DEVICE void oct_write_partial(float *partial, int columns, const float total[N][4])
{
    const int g = oct_lane() / 4, t = oct_lane() % 4;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (n * 8 + 2 * t + i % 2 < columns)
                partial[(n * 8 + 2 * t + i % 2) * OCT_PARTIAL_STRIDE + g + i / 2 * 8] = total[n][i];
}

#endif
