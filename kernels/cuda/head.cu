// The candidates of sampled columns and the hash of the residual: kernels and launches.
#include "kernels/cuda/head_body.h"
#include "kernels/cuda/record.h"

enum { OCT_MASS_ROWS = 2048 /* of the vocabulary, that a block adds the masses of */ };

__global__ void __launch_bounds__(OCT_BLOCK_THREADS, 2)
    oct_select_kernel(const __grid_constant__ oct_select_operands operands)
{
    SHARED(oct_selection_memory, memory);
    oct_chain();
    oct_select_body(operands, oct_place_of_launch(), memory);
}

// Block (part, column): masses are whole numbers, so that the order of additions is nobody's business.
__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_mass_kernel(oct_cuda_selection s, const float *maxima)
{
    const oct_cuda_sampled_column &column = s.sampled[blockIdx.y];
    if (!column.sampled || !(column.by_temperature || column.by_unit))
        return;
    const float *logits = s.logits + blockIdx.y * s.stride;
    const float maximum = maxima[blockIdx.y];
    const int begin = static_cast<int>(blockIdx.x) * OCT_MASS_ROWS;
    const int end = s.rows - begin < OCT_MASS_ROWS ? s.rows : begin + OCT_MASS_ROWS;
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
    return oct_column_scratch_bytes(rows) * static_cast<size_t>(columns);
}

// A shard without rows has candidates too: one part, which is empty.
static int32_t part_count(int32_t rows, int32_t part_rows)
{
    return rows > 0 ? (rows + part_rows - 1) / part_rows : 1;
}

oct_status oct_cuda_select(const oct_cuda_selection *s, cudaStream_t stream)
{
    if (s->columns < 1 || s->first % 4 != 0 || s->stride % 4 != 0 || s->hash.hidden % 4 != 0)
        return oct_fail(OCT_ERR_INTERNAL,
                        "a selection of %d columns, %lld logits each, from token %d on, and a residual of %d elements: "
                        "expected 1 column or more, and multiples of 4",
                        static_cast<int>(s->columns), static_cast<long long>(s->stride), static_cast<int>(s->first),
                        static_cast<int>(s->hash.hidden));
    const oct_select_operands operands = {*s, oct_part_rows(s->rows, s->columns)};
    const dim3 grid(static_cast<unsigned>(part_count(s->rows, operands.part_rows) + 1),
                    static_cast<unsigned>(s->columns));
    return oct_cuda_check(
        oct_issue(OCT_BODY_SELECT, oct_select_kernel, grid, 0, sizeof(oct_selection_memory), stream, operands),
        "launching the selection of candidates");
}

uint64_t oct_cuda_select_bytes(const oct_cuda_selection *s)
{
    const uint64_t columns = static_cast<uint64_t>(s->columns);
    const uint64_t logits = static_cast<uint64_t>(s->rows) * sizeof(float);
    const uint64_t hashed = static_cast<uint64_t>(s->hash.hidden) * sizeof(float) + sizeof(uint64_t);
    return columns * (logits + hashed + sizeof(oct_candidates)) +
           2 * oct_cuda_selection_scratch_bytes(s->rows, s->columns);
}

oct_status oct_cuda_add_masses(const oct_cuda_selection *s, const float *maxima, cudaStream_t stream)
{
    const int parts = (s->rows + OCT_MASS_ROWS - 1) / OCT_MASS_ROWS;
    if (parts == 0)
        return OCT_OK;
    return oct_cuda_check(oct_launch(oct_mass_kernel,
                                     dim3(static_cast<unsigned>(parts), static_cast<unsigned>(s->columns)),
                                     dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_PLAIN, *s, maxima),
                          "launching the masses of candidates");
}

uint64_t oct_cuda_join_hashes(const uint64_t *hashes, int32_t count)
{
    uint64_t joined = 0;
    for (int32_t i = 0; i < count; i++)
        joined = oct_scatter(joined ^ hashes[i]);
    return joined;
}
