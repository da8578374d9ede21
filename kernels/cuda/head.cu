// The candidates of sampled columns: kernels and launches.
#include "kernels/cuda/head_body.h"
#include "kernels/cuda/record.h"

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_select_kernel(const __grid_constant__ oct_cuda_selection s)
{
    SHARED(oct_selection_memory, memory);
    oct_chain();
    oct_select_body(s, oct_place_of_launch(), memory);
}

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_join_kernel(const __grid_constant__ oct_cuda_selection s)
{
    SHARED(oct_selection_memory, memory);
    oct_chain();
    oct_join_body(s, oct_place_of_launch(), memory);
}

// Block (part, column): masses are whole numbers, so that the order of additions is nobody's business.
__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_mass_kernel(oct_cuda_selection s, const float *maxima)
{
    const oct_cuda_sampled_column &column = s.sampled[blockIdx.y];
    if (!column.sampled || !(column.by_temperature || column.by_unit))
        return;
    const float *logits = s.logits + blockIdx.y * s.stride;
    const float maximum = maxima[blockIdx.y];
    const int begin = static_cast<int>(blockIdx.x) * OCT_CUDA_PART_ROWS;
    const int end = s.rows - begin < OCT_CUDA_PART_ROWS ? s.rows : begin + OCT_CUDA_PART_ROWS;
    int64_t mass = 0, unit_mass = 0;
    int broken = 0;
    for (int row = begin + static_cast<int>(threadIdx.x); row < end; row += OCT_BLOCK_THREADS) {
        broken += !(logits[row] < INFINITY);
        if (column.by_temperature)
            mass += oct_law_mass(logits[row], maximum, column.inverse_temperature);
        if (column.by_unit)
            unit_mass += oct_law_mass(logits[row], maximum, 1.0f);
    }
    oct_candidates &candidates = s.candidates[blockIdx.y];
    atomicAdd(reinterpret_cast<unsigned long long *>(&candidates.mass), static_cast<unsigned long long>(mass));
    atomicAdd(reinterpret_cast<unsigned long long *>(&candidates.unit_mass),
              static_cast<unsigned long long>(unit_mass));
    atomicAdd(&candidates.not_numbers, broken);
}

size_t oct_cuda_selection_scratch_bytes(int32_t rows, int32_t columns)
{
    return sizeof(oct_part) * static_cast<size_t>(oct_part_count(rows)) * static_cast<size_t>(columns);
}

oct_status oct_cuda_select(const oct_cuda_selection *s, cudaStream_t stream)
{
    const int parts = oct_part_count(s->rows);
    const dim3 columns(static_cast<unsigned>(s->columns));
    const size_t shared = sizeof(oct_selection_memory);
    if (s->columns < 1 || s->first % 4 != 0)
        return oct_fail(OCT_ERR_INTERNAL,
                        "a selection of %d columns from token %d on, expected 1 or more, and a multiple of 4",
                        static_cast<int>(s->columns), static_cast<int>(s->first));
    cudaError_t error = cudaSuccess;
    if (parts > 0)
        error = oct_issue(OCT_BODY_SELECT, oct_select_kernel, dim3(static_cast<unsigned>(parts), columns.x), 0, shared,
                          stream, *s);
    if (error == cudaSuccess)
        error = oct_issue(OCT_BODY_JOIN, oct_join_kernel, columns, 0, shared, stream, *s);
    return oct_cuda_check(error, "launching the selection of candidates");
}

uint64_t oct_cuda_select_bytes(const oct_cuda_selection *s)
{
    const uint64_t columns = static_cast<uint64_t>(s->columns);
    return columns * static_cast<uint64_t>(s->rows) * sizeof(float) +
           2 * oct_cuda_selection_scratch_bytes(s->rows, s->columns) + columns * sizeof(oct_candidates);
}

oct_status oct_cuda_add_masses(const oct_cuda_selection *s, const float *maxima, cudaStream_t stream)
{
    const int parts = oct_part_count(s->rows);
    if (parts == 0)
        return OCT_OK;
    return oct_cuda_check(oct_launch(oct_mass_kernel,
                                     dim3(static_cast<unsigned>(parts), static_cast<unsigned>(s->columns)),
                                     dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_PLAIN, *s, maxima),
                          "launching the masses of candidates");
}
