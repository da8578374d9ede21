// Inside peers.cu and persistent.cu: the bodies of exchanges that stand alone.
#ifndef OCT_KERNELS_CUDA_PEERS_BODY_H
#define OCT_KERNELS_CUDA_PEERS_BODY_H

#include "kernels/cuda/peer_exchange.h"

// Sends the tiles of this rank's nodes that the block announces.
OCT_DEVICE void oct_send_own(const oct_cuda_reduction &r, oct_peer_turn turn, int block, int blocks)
{
    const int of_tile = r.own_nodes * r.columns * OCT_PEER_TILE, hidden = r.peers.hidden;
    for (int tile = block; tile * OCT_PEER_TILE < hidden; tile += blocks)
        for (int i = static_cast<int>(threadIdx.x); i < of_tile; i += OCT_BLOCK_THREADS) {
            const int row = i % OCT_PEER_TILE, column = i / OCT_PEER_TILE, at = tile * OCT_PEER_TILE + row;
            if (at < hidden) // `column` counts on over the nodes
                oct_peer_send(r, turn, column / r.columns, tile, row, column % r.columns,
                              r.own[static_cast<int64_t>(column) * hidden + at]);
        }
}

// All blocks of the place are there: they wait for each other, here and on other ranks.
OCT_DEVICE void oct_reduce_body(const oct_cuda_reduction &r, const oct_place &place)
{
    const int block = place.x, blocks = place.blocks_x;
    const oct_peer_turn turn = oct_peer_begin(r);
    if (r.own != nullptr)
        oct_send_own(r, turn, block, blocks);
    __syncthreads();
    oct_peer_announce(r, turn, block, blocks);
    oct_peer_finish(r, turn, block, blocks);
}

// The rank whose token this is.
OCT_DEVICE int oct_row_owner(const oct_cuda_row_exchange &rows, int32_t token)
{
    int rank = 0;
    while (rank + 1 < rows.exchange.peers.ranks && token >= rows.first_token[rank + 1])
        rank++;
    return rank;
}

// Tiles of this rank's rows to all; then groups of the other rows to the residual, by a warp each.
OCT_DEVICE void oct_exchange_rows_body(const oct_cuda_row_exchange &rows, const oct_place &place)
{
    const oct_cuda_reduction &r = rows.exchange;
    const int block = place.x, blocks = place.blocks_x, rank = r.peers.rank;
    const int threads = static_cast<int>(blockDim.x), hidden = r.peers.hidden;
    const oct_peer_turn turn = oct_peer_begin(r);
    for (int tile = block; tile * OCT_PEER_TILE < hidden; tile += blocks)
        for (int i = static_cast<int>(threadIdx.x); i < r.columns * OCT_PEER_TILE; i += threads) {
            const int column = i / OCT_PEER_TILE, row = i % OCT_PEER_TILE, at = tile * OCT_PEER_TILE + row;
            const int32_t token = rows.step.tokens[column];
            if (token >= 0 && at < hidden && oct_row_owner(rows, token) == rank)
                oct_peer_send(r, turn, 0, tile, row, column, r.residual[static_cast<int64_t>(column) * hidden + at]);
        }
    __syncthreads();
    oct_peer_announce(r, turn, block, blocks);
    if (turn.stopped)
        return;
    const float *half = oct_peer_half(r, rank, turn.epoch);
    const int warps = blocks * (threads / OCT_WARP);
    for (int group = oct_warp() * blocks + block; group < oct_peer_groups(hidden); group += warps) {
        if (!oct_peer_wait_arrivals(r, turn.epoch, group))
            continue;
        for (int i = oct_lane(); i < r.columns * OCT_CUDA_GROUP_ROWS; i += OCT_WARP) {
            const int column = i / OCT_CUDA_GROUP_ROWS, row = i % OCT_CUDA_GROUP_ROWS;
            const int tile = group * OCT_PEER_TILES + row / OCT_PEER_TILE, at = group * OCT_CUDA_GROUP_ROWS + row;
            const int32_t token = rows.step.tokens[column];
            if (token >= 0 && at < hidden && oct_row_owner(rows, token) != rank)
                r.residual[static_cast<int64_t>(column) * hidden + at] =
                    half[oct_peer_place(r, 0, tile, column) + row % OCT_PEER_TILE];
        }
    }
}

#endif
