// OCT_OP_EMBED on the device: kernels and launches.
#include "kernels/cuda/embedding_body.h"
#include "kernels/cuda/record.h"

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_embed_kernel(const __grid_constant__ oct_embed_operands e)
{
    oct_chain();
    oct_embed_body(e, oct_place_of_launch());
}

static oct_row_form row_form(oct_encoding encoding)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    oct_row_form form = {};
    form.low_bits = info->low_bits;
    form.high_bits = info->high_bits;
    form.group = info->float_bytes != 0 ? 32 : info->group;
    form.scale = info->scale;
    form.zero = info->zero;
    form.codebook = info->codebook != NULL;
    for (int i = 0; form.codebook && i < 16; i++)
        form.levels[i] = info->codebook[i];
    return form;
}

oct_status oct_cuda_embed(const oct_cuda_embedding *e, cudaStream_t stream)
{
    static_assert(OCT_BLOCK_THREADS == OCT_BLOCK_COLUMNS, "a block of threads has a block of the encoding");
    const oct_encoding encoding = oct_cuda_encoding(e->encoding);
    const oct_embed_operands operands = {*e, row_form(encoding), oct_strip_bytes(encoding, 0, e->hidden),
                                         oct_block_bytes(encoding, OCT_BLOCK_COLUMNS)};
    const dim3 grid(static_cast<unsigned>(e->step.columns),
                    static_cast<unsigned>((e->hidden + OCT_BLOCK_THREADS - 1) / OCT_BLOCK_THREADS));
    return oct_cuda_check(oct_issue(OCT_BODY_EMBED, oct_embed_kernel, grid, 0, 0, stream, operands),
                          "starting the embedding");
}

uint64_t oct_cuda_embed_bytes(const oct_cuda_embedding *e)
{
    const uint64_t strip = oct_strip_bytes(oct_cuda_encoding(e->encoding), 0, e->hidden);
    return static_cast<uint64_t>(e->step.columns) *
           (strip / OCT_TILE_ROWS + static_cast<uint64_t>(e->hidden) * sizeof(float));
}

__global__ void __launch_bounds__(OCT_BLOCK_THREADS)
    oct_choose_rows_kernel(const __grid_constant__ oct_cuda_row_choice choice)
{
    oct_choose_rows_body(choice, oct_place_of_launch());
}

void oct_cuda_set_token_owners(oct_cuda_row_choice *choice, const oct_step_program *program)
{
    const oct_partition partition = oct_model_vocabulary_partition(&program->model);
    choice->ranks = program->ranks;
    for (int32_t rank = 0; rank < program->ranks; rank++) {
        const oct_run tiles = oct_partition_units(&partition, program->ranks, rank);
        choice->first_token[rank] = tiles.begin * OCT_TILE_ROWS;
        choice->first_token[rank + 1] = tiles.end * OCT_TILE_ROWS;
    }
}

oct_status oct_cuda_choose_rows(const oct_cuda_row_choice *choice, cudaStream_t stream)
{
    if (choice->hidden % 4 != 0)
        return oct_fail(OCT_ERR_INTERNAL, "%d elements of a column are no multiple of 4", choice->hidden);
    const dim3 grid(static_cast<unsigned>(choice->step.columns),
                    static_cast<unsigned>((choice->hidden + 4 * OCT_BLOCK_THREADS - 1) / (4 * OCT_BLOCK_THREADS)));
    return oct_cuda_check(
        oct_launch(oct_choose_rows_kernel, grid, dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_PLAIN, *choice),
        "starting the choice of rows");
}

uint64_t oct_cuda_choose_rows_bytes(const oct_cuda_row_choice *choice)
{
    return static_cast<uint64_t>(choice->step.columns) * static_cast<uint64_t>(choice->hidden) * 2 * sizeof(float);
}
