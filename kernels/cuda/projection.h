// Matrices times columns on the device: norm and QKV, gate and up with the activation, the projections along K that
// write nodes of the reduction tree, the vocabulary. One kernel template serves them all; what differs is the plan (how
// K is cut and partial sums are added), the matrices and the epilogue.
//
// K is cut into segments by a rule of K alone: a matrix that is split by rows into at most 16 runs of whole blocks of
// 256 columns, one that is split along K into its granules. The sum of a segment is an fp32 accumulator in ascending K;
// the segments' sums are added by the tree of runtime/partition.h. Neither the number of columns nor the grid nor the
// variant changes a bit.
#ifndef OCT_KERNELS_CUDA_PROJECTION_H
#define OCT_KERNELS_CUDA_PROJECTION_H

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/peers.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/encoding.h"
#include "runtime/partition.h"

#define OCT_CUDA_SEGMENTS OCT_MAX_GRANULES
#define OCT_CUDA_NO_SEGMENT 255
#define OCT_CUDA_ROW_SEGMENTS 16   // of a matrix that is split by rows, at most
#define OCT_CUDA_NARROW_COLUMNS 16 // more columns take the wide variant
#define OCT_CUDA_MAX_COLUMNS 256
#define OCT_CUDA_MATRICES 3

// A run of K and where its weights lie: tile i at offset + i · tile_bytes from the matrix's first byte.
typedef struct oct_cuda_segment {
    int32_t first, last; // absolute columns
    int32_t unit, units; // of 32 columns: of the input, where `first` stands; of the segment
    uint32_t tile_bytes;
    uint64_t offset;
} oct_cuda_segment;

// How the sums of segments are added: the halving tree (partition.h), filled up to a full one whose other leaves are
// absent: a place without a leaf is −0, which changes nothing. Of a rank with some of the leaves it is the smallest full
// subtree that holds them, and nodes are what the rank adds of it.
typedef struct oct_cuda_tree {
    int32_t level;                         // the full tree has 2^level leaves
    bool is_full;                          // no leaf is absent: leaf i is segment i
    uint8_t segment_at[OCT_CUDA_SEGMENTS]; // [2^level] the segment of a leaf; OCT_CUDA_NO_SEGMENT: absent
    uint8_t node_level[OCT_MAX_NODES];     // node n is the sum of the 2^level leaves …
    uint8_t node_leaf[OCT_MAX_NODES];      // … from this one on
} oct_cuda_tree;

// How a matrix is walked; matrices with the same plan can share a launch.
typedef struct oct_cuda_plan {
    oct_encoding encoding; // on the device
    int32_t segment_count;
    int32_t nodes, depth;    // of the tree: sums that are left over, largest stack
    uint32_t codebook[4];    // 16 bytes: levels + 1 of encodings that have a codebook
    oct_cuda_segment segments[OCT_CUDA_SEGMENTS];
    uint8_t merges[OCT_CUDA_SEGMENTS]; // as in oct_tree_schedule
    oct_cuda_tree tree;                // the same tree
} oct_cuda_plan;

// The plan of a matrix [rows][columns] of a checkpoint's encoding that is split by rows. On the host; LOCAL.
void oct_cuda_plan_rows(oct_cuda_plan *plan, oct_encoding encoding, int64_t columns);

// The plan of a matrix [rows][columns] split along K: the granules `own` of a partition, stored granule by granule, the
// input beginning with the first of them. No granule: no segment and no node. On the host; LOCAL.
void oct_cuda_plan_granules(oct_cuda_plan *plan, oct_encoding encoding, int64_t rows, int64_t columns,
                            const oct_partition *partition, oct_run own);

// Numbers of an input that kernels would otherwise work out again and again: oct_cuda_prepare() and oct_cuda_project()
// set them.
typedef struct oct_cuda_input_shape {
    int32_t units;       // of 32 elements
    int32_t norm_blocks; // of 64 elements, whose squares are summed,
    int32_t norm_leaves; // and the leaves of the smallest full tree that holds them
} oct_cuda_input_shape;

// The input of matrices: columns of fp32, normalised where norm weights are given, rounded to bf16.
typedef struct oct_cuda_input {
    const float *x;           // [..][stride], aligned to 8; stride and width are even
    int64_t stride;
    int32_t width;            // elements of a column: K
    int32_t columns;          // 1 … OCT_CUDA_MAX_COLUMNS
    const int32_t *column_of; // [columns] where column c stands in x, −1: it is zero; NULL: c itself
    const float *norm;        // [width] weights of an RMS norm, or NULL
    const float *squares;     // NULL, or [..][width / 64, rounded up]: sums of squares of x's blocks of 64, left by a
                              // reduction (peers.h), so that the norm does not add them up again
    float epsilon;
    void *prepared; // NULL: made in shared memory by each block; else by oct_cuda_prepare() in
                    // oct_cuda_prepared_bytes(), aligned to 16
    oct_cuda_input_shape shape; // set by the functions below
} oct_cuda_input;

size_t oct_cuda_prepared_bytes(int32_t width, int32_t columns);

// x → prepared: as the order of fragments [width / 32][columns][4] of 16 bytes (lane t of a column: its registers of
// two mma's), then the sums of the rounded inputs, [width / 32][2][columns rounded up to 8] fp32, then, where there is a
// norm, the columns' factors [columns] fp32. A sum of 16 inputs: lane t adds (2t + (2t + 1)) + ((2t + 8) + (2t + 9)),
// then t and t ^ 1, then t ^ 2.
// The norm: x · weight is rounded; products are multiplied with r = 1 / sqrt(S / width + epsilon), S as on the CPU
// (docs/numbers.md).
// Moves: columns · width · 4 bytes in, oct_cuda_prepared_bytes() out. Errors: see kernels.h.
oct_status oct_cuda_prepare(const oct_cuda_input *input, cudaStream_t stream);

typedef enum oct_cuda_epilogue {
    OCT_CUDA_STORE,         // matrix m: out[m][column · stride + row]
    OCT_CUDA_SILU_MULTIPLY, // matrices gate and up, of one shape: silu(gate) · up → out[0]
    OCT_CUDA_SILU_OF_OUT,   // one matrix, up, where out[0] holds the gates: silu(out[0]) · up → out[0]; as above where
                            // gate and up have different encodings
    OCT_CUDA_NODES,         // one matrix: node n → out[0][(n · columns + column) · stride + row]
    OCT_CUDA_ADD,           // one matrix, one node: added to out[0][column · stride + row]
    OCT_CUDA_REDUCE         // one matrix: its nodes are added to those of the other ranks, the root to the residual of
                            // `reduction` (peers.h); out is not used
} oct_cuda_epilogue;

typedef struct oct_cuda_matrix {
    const void *weights; // in the order of layout.h, aligned to 16
    int64_t rows;        // not a multiple of 16: the last tile is padded
    float *out;          // [columns][out_stride]
} oct_cuda_matrix;

// Numbers of a projection that kernels would otherwise work out again and again: oct_cuda_project() sets them.
typedef struct oct_cuda_tiling {
    int32_t items;                       // tiles of 16 rows that are worked on: of a pair, of each
    int32_t tile_end[OCT_CUDA_MATRICES]; // tiles of matrices 0 … m
    int32_t pieces;                      // sums of segments that an item is added up from
    int32_t piece_floats;                // from piece to piece
    uint32_t stage_bytes;                // of a warp's ring
    // Of a narrow block's scratch: where sums of squares and the input of its own are, and its size.
    uint32_t squares, prepared, scratch_bytes;
} oct_cuda_tiling;

// One launch: matrices with one plan and one input. Passed to the kernel by value.
typedef struct oct_cuda_projection {
    oct_cuda_plan plan;
    oct_cuda_input input;
    oct_cuda_matrix matrices[OCT_CUDA_MATRICES];
    int32_t matrix_count;
    oct_cuda_epilogue epilogue;
    int64_t out_stride;
    oct_cuda_reduction reduction;
    oct_cuda_tiling tiling; // set by oct_cuda_project()
} oct_cuda_projection;

// True where the input is narrow and small enough to be made in shared memory, so that it needs no oct_cuda_prepare().
bool oct_cuda_input_fits(const oct_cuda_device *device, const oct_cuda_projection *projection);

// Allows the kernels their shared memory; once, at load, before anything is captured. Errors: OCT_ERR_MACHINE.
oct_status oct_cuda_projection_load(const oct_cuda_device *device);

// Runs a projection. With 1 … 16 columns each weight byte is read once; with more, once for 64 columns. A reduction is
// part of the same cooperative launch with few columns, with many a launch of its own (oct_cuda_reduce()); it also
// takes part for a rank without granules. Moves oct_cuda_project_bytes(), without what a launch of its own moves.
// Errors: see kernels.h.
oct_status oct_cuda_project(const oct_cuda_device *device, const oct_cuda_projection *projection, cudaStream_t stream);
uint64_t oct_cuda_project_bytes(const oct_cuda_projection *projection);

// Bytes of shared memory that a stage of a plan's weights takes at most, in a ring. LOCAL, pure.
size_t oct_cuda_stage_bytes(const oct_cuda_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
