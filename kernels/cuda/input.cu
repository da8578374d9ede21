// The input of matrices made once in global memory: for wide steps, and where it is too large for each block.
#include "kernels/cuda/input.h"
#include "kernels/cuda/record.h"

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_prepare_kernel(const __grid_constant__ oct_cuda_input input)
{
    DYN_SHARED(float, scratch);
    launch_dependents();
    oct_prefetch_norm(input);
    wait_for_predecessors();
    oct_prepare_body(input, oct_place_of_launch(), scratch);
}

size_t oct_cuda_prepared_bytes(int32_t width, int32_t columns)
{
    return oct_prepared_size(oct_cuda_input_shape_of(width).units, columns);
}

oct_status oct_cuda_prepare(const oct_cuda_input *input, cudaStream_t stream)
{
    if (input->prepared == nullptr || input->columns < 1 || input->columns > OCT_CUDA_MAX_COLUMNS)
        return oct_fail(OCT_ERR_INTERNAL, "an input of %d columns to prepare, expected 1 to %d and memory for them",
                        static_cast<int>(input->columns), OCT_CUDA_MAX_COLUMNS);
    oct_cuda_input shaped = *input;
    shaped.shape = oct_cuda_input_shape_of(input->width);
    const size_t scratch =
        input->norm == nullptr ? 0 : sizeof(float) * static_cast<size_t>(shaped.shape.norm_blocks);
    const bool parted = input->norm == nullptr && shaped.shape.norm_blocks > OCT_PREPARED_BLOCKS;
    const int parts = parted ? oct_ceiling(shaped.shape.norm_blocks, OCT_PREPARED_BLOCKS) : 1;
    const dim3 grid(static_cast<unsigned>(input->columns), static_cast<unsigned>(parts));
    return oct_cuda_check(
        oct_issue(OCT_BODY_PREPARE, oct_prepare_kernel, grid, scratch, scratch, stream, shaped),
        "launching the preparation of a matrix's input");
}
