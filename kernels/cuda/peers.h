// Reductions over ranks inside kernels, through memory of the exchange that is symmetric (kernels/device_exchange.h):
// every rank's kernels write into the memory of the others, tell them by flags, wait for theirs, and add. The device
// functions are in peer_exchange.h; what follows is the host's side: memory, operands, and kernels that do nothing
// else.
//
// One shot: a rank sends its nodes to all, and each adds all nodes itself: one way over the link. Two shots: the rows
// have owners by turns; a rank sends its nodes to the owners, an owner adds and sends the sum to all: two ways, and
// with N ranks 2 / N of the bytes. The tree (runtime/partition.h) is the same, so are the bits. Nodes are sent, not
// fetched: fetching would be a round trip after the flag.
//
// Rows go in tiles of 16 (those of the projections) and groups of 64 (the blocks of the norm's sums of squares, and the
// portions in which rows have owners).
//
// Epochs. Exchange number i of a step has the epoch step · exchanges + i + 1 (mod 2^32), the same on all ranks; `step`
// is read from the device's memory, so that a captured graph needs no reset. All numbers of a step are used, in their
// order, so that epochs follow each other without a gap. A flag holds the epoch whose data it announces. Nodes go to
// the half epoch mod 2 of the receiver's memory.
//
// Why nothing is overwritten that somebody still reads. All kernels of a rank run one after another (of a persistent
// kernel: its operations, between grid barriers), so the kernel of epoch e + 1 begins when that of e has ended.
//   (1) When rank a's kernel of epoch e has ended, every rank p has announced e. One shot: a has waited for the flags
//       of all ranks. Two shots: a has waited for the sum of every group, which its owner sends when it has the flags
//       of all ranks.
//   (2) p announces e when its kernel of e − 1 has ended: p has then read all nodes and sums of e − 1.
//   (3) a writes nodes of epoch e + 1 from the beginning of that kernel on, a time at which, by (1) and (2), all ranks
//       have read what came in e − 1: so two halves suffice, whatever kinds of exchanges follow each other.
//   (4) An owner writes the sums of e when it has the flags of e of all ranks, which have, by (2), read the sums of
//       e − 1: so one place for sums suffices.
//   (5) By (1), a flag is ahead of the epoch that is waited for by one at most: a peer that announces e + 2 has ended
//       e + 1, for which this rank must have announced it, after it had ended e. A flag that says e or e + 1 will do,
//       all others are old.
//
// A rank that gives up (below) announces nothing any more, so that no other adds what it has not: see `stopped`.
#ifndef OCT_KERNELS_CUDA_PEERS_H
#define OCT_KERNELS_CUDA_PEERS_H

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/device_exchange.h"
#include "runtime/partition.h"

#define OCT_CUDA_GROUP_ROWS 64
#define OCT_CUDA_ONE_SHOT_COLUMNS 16 // more columns go in two shots: memory is not made for another
#define OCT_CUDA_PEER_DEPTH 7        // sums of a tree that wait at one time, at most

// Where things are in the memory of every rank, in bytes; in front stands `stopped`: not 0 when this rank has given up.
typedef struct oct_cuda_peer_layout {
    uint64_t arrivals;  // flags [tiles][ranks]: nodes of a tile, by their sender
    uint64_t delivered; // flags [groups · units of columns]: sums of a group, by its owner
    uint64_t results;   // sums [tiles][columns][16]
    uint64_t halves;    // two of half_bytes each: nodes [nodes][tiles][columns][16], in two shots of the tiles it owns
    uint64_t half_bytes, bytes;
} oct_cuda_peer_layout;

// Sums of squares of a column, one for each group. LOCAL, pure.
static inline size_t oct_cuda_squares_count(int32_t hidden)
{
    return ((size_t)hidden + OCT_CUDA_GROUP_ROWS - 1) / OCT_CUDA_GROUP_ROWS;
}

// For exchanges of up to `nodes` nodes of all ranks together, of up to `columns` columns of `hidden` rows. LOCAL, pure.
oct_cuda_peer_layout oct_cuda_peer_layout_make(int32_t ranks, int32_t nodes, int32_t columns, int32_t hidden);

// What all exchanges of a backend share.
typedef struct oct_cuda_peers {
    int32_t ranks, rank, hidden;
    uint32_t exchanges;    // of a step
    const uint32_t *step;  // on the device: the number of the step, one more each time, the same on all ranks
    uint32_t *abort;       // pinned: oct_device_exchange.abort
    uint64_t patience_ns;  // a wait that takes longer gives up; 0: never
    oct_cuda_peer_layout layout;
    uint8_t *memory[OCT_MAX_RANKS]; // [ranks] of layout.bytes each, as this rank's device sees them, zeroed at first
} oct_cuda_peers;

// One reduction. Passed to kernels by value.
typedef struct oct_cuda_reduction {
    oct_cuda_peers peers;
    int32_t columns;
    int32_t nodes;                    // of all ranks
    int32_t first_node, own_nodes;    // of this rank
    int32_t two_shot;                 // 0 or 1
    uint32_t number;                  // of the exchange in its step
    uint8_t merges[OCT_MAX_GRANULES]; // as in oct_tree_finish
    const float *own;                 // of oct_cuda_reduce(): this rank's nodes, [own_nodes][columns][hidden], which it
                                      // sends first; NULL: kernels before it have sent them
    float *residual;                  // [columns][hidden]
    float *squares; // NULL, or [columns][groups]: the sums of squares of each group of the new residual are left here,
                    // bit by bit those of a norm (docs/numbers.md)
} oct_cuda_reduction;

// Fills in a reduction from its tree, without nodes of its own; two_shot_bytes: nodes of a rank that are larger than
// this go in two shots. On the host; LOCAL. Errors: OCT_ERR_INTERNAL where a tree is too deep or memory is not made for
// it.
oct_status oct_cuda_plan_reduction(oct_cuda_reduction *reduction, const oct_cuda_peers *peers,
                                   const oct_tree_finish *tree, int32_t columns, uint32_t number,
                                   size_t two_shot_bytes, float *residual, float *squares);

// Sends this rank's nodes, or announces what kernels before it in the stream have sent of them (OCT_CUDA_REDUCE of
// projection.h; a rank without granules: nothing), waits for the other ranks', and adds the root to the residual. A
// cooperative launch, no more blocks than are resident. COLLECTIVE over the ranks' devices. Moves
// oct_cuda_reduce_bytes() of this rank's memory. Errors: see kernels.h. Where the wait is given up the residual is not
// what it should be: see oct_device_exchange.abort.
oct_status oct_cuda_reduce(const oct_cuda_device *device, const oct_cuda_reduction *reduction, cudaStream_t stream);
uint64_t oct_cuda_reduce_bytes(const oct_cuda_reduction *reduction);

// The same with CUDA's own error.
cudaError_t oct_cuda_start_reduction(const oct_cuda_device *device, const oct_cuda_reduction *reduction,
                                     cudaStream_t stream);

// The embedding: every column's row from the rank that owns its token to all. Passed to kernels by value.
typedef struct oct_cuda_row_exchange {
    oct_cuda_reduction exchange;            // columns, number, residual, peers; one shot of one node
    oct_cuda_step step;                     // tokens
    int32_t first_token[OCT_MAX_RANKS + 1]; // of each rank, and behind the last
} oct_cuda_row_exchange;

// In the residual each rank has its own tokens' rows, and zeros where a column is empty; the other rows come from their
// owners. As oct_cuda_reduce(). Moves oct_cuda_exchange_rows_bytes().
oct_status oct_cuda_exchange_rows(const oct_cuda_device *device, const oct_cuda_row_exchange *rows,
                                  cudaStream_t stream);
uint64_t oct_cuda_exchange_rows_bytes(const oct_cuda_row_exchange *rows);

#ifdef __cplusplus
}
#endif

#endif
