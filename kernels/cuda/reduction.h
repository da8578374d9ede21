// The end of a reduction on the device: the nodes of all ranks, gathered or in their symmetric memory, are added by the
// fixed tree (runtime/partition.h) and the root to the residual.
#ifndef OCT_KERNELS_CUDA_REDUCTION_H
#define OCT_KERNELS_CUDA_REDUCTION_H

#include "kernels/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/partition.h"

#define OCT_CUDA_TREE_DEPTH 8 // sums that wait at one time, at most: a tree of OCT_MAX_GRANULES leaves has 7

// Passed to the kernel by value.
typedef struct oct_cuda_finish {
    int32_t nodes, depth;
    uint8_t merges[OCT_MAX_GRANULES];     // as in oct_tree_finish
    const float *node[OCT_MAX_GRANULES];  // [nodes] of [columns][hidden], aligned to 16
    int32_t columns, hidden;              // hidden: a multiple of 4
    float *residual;                      // [columns][hidden], aligned to 16
} oct_cuda_finish;

// Fills in a finish from its tree; of_rank [ranks]: where each rank's nodes lie, [nodes of the rank][columns][hidden]
// (OCT_CUDA_NODES of projection.h). On the host; LOCAL.
void oct_cuda_plan_finish(oct_cuda_finish *finish, const oct_tree_finish *tree, const float *const *of_rank,
                          int32_t ranks, int32_t columns, int32_t hidden, float *residual);

// residual = residual + root. Moves (nodes + 2) · columns · hidden · 4 bytes. Errors: see kernels.h.
oct_status oct_cuda_finish_tree(const oct_cuda_finish *finish, cudaStream_t stream);
uint64_t oct_cuda_finish_bytes(const oct_cuda_finish *finish);

#ifdef __cplusplus
}
#endif

#endif
