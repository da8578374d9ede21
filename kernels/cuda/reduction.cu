// The end of a reduction on the device.
#include <string.h>

#include "kernels/cuda/reduction_body.h"

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_finish_kernel(const __grid_constant__ oct_cuda_finish f)
{
    SHARED(oct_waiting, stack);
    oct_finish_body(f, oct_place_of_launch(), stack);
}

void oct_cuda_plan_finish(oct_cuda_finish *finish, const oct_tree_finish *tree, const float *const *of_rank,
                          int32_t ranks, int32_t columns, int32_t hidden, float *residual)
{
    memset(finish, 0, sizeof *finish);
    finish->depth = tree->depth;
    finish->columns = columns;
    finish->hidden = hidden;
    finish->residual = residual;
    for (int32_t rank = 0; rank < ranks; rank++)
        for (int32_t i = 0; i < tree->nodes_of_rank[rank]; i++) {
            finish->merges[finish->nodes] = tree->merges[finish->nodes];
            finish->node[finish->nodes++] = of_rank[rank] + static_cast<int64_t>(i) * columns * hidden;
        }
}

oct_status oct_cuda_finish_tree(const oct_cuda_finish *f, cudaStream_t stream)
{
    if (f->depth > OCT_CUDA_TREE_DEPTH || f->hidden % 4 != 0)
        return oct_fail(OCT_ERR_INTERNAL,
                        "a tree of depth %d over columns of %d elements: at most %d, and a multiple of 4", f->depth,
                        f->hidden, OCT_CUDA_TREE_DEPTH);
    const dim3 grid(static_cast<unsigned>((f->hidden + 4 * OCT_BLOCK_THREADS - 1) / (4 * OCT_BLOCK_THREADS)),
                    static_cast<unsigned>(f->columns));
    return oct_cuda_check(oct_launch(oct_finish_kernel, grid, dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_PLAIN, *f),
                          "starting the end of a reduction");
}

uint64_t oct_cuda_finish_bytes(const oct_cuda_finish *f)
{
    return static_cast<uint64_t>(f->nodes + 2) * static_cast<uint64_t>(f->columns) * static_cast<uint64_t>(f->hidden) *
           sizeof(float);
}
