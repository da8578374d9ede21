// OCT_OP_EMBED on the device. A thread decodes one element: rows are few, and the launch is what they cost.
#include "kernels/cuda/embedding.h"

#include "kernels/cuda/device.h"
#include "kernels/cuda/layout.h"

enum { THREADS = 256 };

// What decoding needs of an encoding.
typedef struct oct_row_form {
    int low_bits, high_bits; // 0: bf16
    int group;
    oct_scale_kind scale;
    int zero;
    uint8_t levels[16]; // of the codes, where there is a codebook
    bool codebook;
} oct_row_form;

typedef struct oct_row_scale {
    float scale, minimum;
} oct_row_scale;

OCT_DEVICE float f16_at(const uint8_t *at)
{
    return from_f16(oct_load<uint16_t>(at));
}

// The code of a row and column of a unit; the inverse of oct_cuda_code_place().
OCT_DEVICE int code_at(const uint8_t *plane, int bits, int row, int column)
{
    const int lane = row % 8 * 4 + column % 8 / 2, half = column % 2;
    const int pair = row / 8 + column / 8 * 2;
    const int of_word = 16 / bits;
    const int inside = bits == 1 ? 8 * half + pair : pair / of_word * 32 + 16 * half + pair % of_word * bits;
    const int bit = lane * 16 * bits + inside;
    return plane[bit / 8] >> bit % 8 & ((1 << bits) - 1);
}

// Scale and minimum of a group: `header` is the row pair's part of the block's, `at` its part of the group's.
OCT_DEVICE oct_row_scale scale_at(oct_scale_kind kind, const uint8_t *header, const uint8_t *at, int row)
{
    const int upper = row / 8; // of the pair
    switch (kind) {
    case OCT_SCALE_F16:
        return {f16_at(at + upper * 2), -0.0f};
    case OCT_SCALE_F16_MIN:
        return {f16_at(at + upper * 2), f16_at(at + 4 + upper * 2)};
    case OCT_SCALE_FACTOR_S8:
        return {f16_at(header + upper * 2) * static_cast<float>(static_cast<int8_t>(at[upper])), -0.0f};
    case OCT_SCALE_FACTOR_U8:
        return {f16_at(header + upper * 2) * static_cast<float>(at[upper]),
                f16_at(header + 4 + upper * 2) * static_cast<float>(at[2 + upper])};
    case OCT_SCALE_FACTOR_U4:
        return {f16_at(header + upper * 2) * static_cast<float>(at[upper] & 15),
                f16_at(header + 4 + upper * 2) * static_cast<float>(at[upper] >> 4)};
    case OCT_SCALE_NONE:
        break;
    }
    return {1.0f, -0.0f};
}

OCT_DEVICE float decode_integer(const oct_row_form &form, const uint8_t *block, int row, int column)
{
    const int header = oct_cuda_header_bytes(form.scale), scales = oct_cuda_scale_bytes(form.scale, form.group);
    const int bits = form.low_bits + form.high_bits, pair = row % 8, inside = column % 32;
    const uint8_t *record = block + OCT_CUDA_PAIRS * header +
                            column / 32 * oct_cuda_record_bytes(bits, form.scale, form.group);
    int code = code_at(record, form.low_bits, row, inside);
    if (form.high_bits > 0)
        code |= code_at(record + 64 * form.low_bits, form.high_bits, row, inside) << form.low_bits;
    const int value = form.codebook ? form.levels[code] : code;
    const uint8_t *groups = record + 64 * bits + pair * scales;
    const oct_row_scale s =
        scale_at(form.scale, block + pair * header, groups + inside / form.group * (scales * form.group / 32), row);
    return fmaf(s.scale, static_cast<float>(value - form.zero), s.minimum);
}

OCT_DEVICE float decode_bf16(const uint8_t *block, int row, int column)
{
    const int lane = row % 8 * 4 + column % 8 / 2, value = row / 8 + column % 16 / 8 * 2;
    const int index = column / 16 * 256 + lane * 8 + value * 2 + column % 2;
    return oct_low_bf16(oct_load<uint16_t>(block + index * 2));
}

// A block has 256 elements of one column: a block of the encoding, where `block_bytes` is the size of whole ones.
__global__ void __launch_bounds__(THREADS)
    oct_embed_kernel(const __grid_constant__ oct_cuda_embedding e, const __grid_constant__ oct_row_form form,
                     size_t tile_bytes, size_t block_bytes)
{
    const int32_t column = static_cast<int32_t>(blockIdx.x), token = e.step.tokens[column];
    const int32_t element = static_cast<int32_t>(blockIdx.y * THREADS + threadIdx.x), tile = token / OCT_TILE_ROWS;
    if (element >= e.hidden || (token >= 0 && (tile < e.tiles.begin || tile >= e.tiles.end)))
        return;
    float *to = e.rows + static_cast<int64_t>(column) * e.hidden + element;
    if (token < 0) {
        *to = 0.0f;
        return;
    }
    const uint8_t *block = static_cast<const uint8_t *>(e.weights) + (tile - e.tiles.begin) * tile_bytes +
                           blockIdx.y * block_bytes;
    const int row = token % OCT_TILE_ROWS, inside = static_cast<int>(threadIdx.x);
    *to = form.low_bits == 0 ? decode_bf16(block, row, inside) : decode_integer(form, block, row, inside);
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
    static_assert(THREADS == OCT_BLOCK_COLUMNS, "a block of threads has a block of the encoding");
    const oct_encoding encoding = oct_cuda_encoding(e->encoding);
    const dim3 grid(static_cast<unsigned>(e->step.columns), static_cast<unsigned>((e->hidden + THREADS - 1) / THREADS));
    return oct_cuda_check(oct_launch(oct_embed_kernel, grid, dim3(THREADS), 0, stream, OCT_LAUNCH_PLAIN, *e,
                                     row_form(encoding), oct_strip_bytes(encoding, 0, e->hidden),
                                     oct_block_bytes(encoding, OCT_BLOCK_COLUMNS)),
                          "starting the embedding");
}

uint64_t oct_cuda_embed_bytes(const oct_cuda_embedding *e)
{
    const uint64_t strip = oct_strip_bytes(oct_cuda_encoding(e->encoding), 0, e->hidden);
    return static_cast<uint64_t>(e->step.columns) *
           (strip / OCT_TILE_ROWS + static_cast<uint64_t>(e->hidden) * sizeof(float));
}

__global__ void __launch_bounds__(THREADS)
    oct_choose_rows_kernel(const __grid_constant__ oct_cuda_row_choice choice)
{
    const int32_t column = static_cast<int32_t>(blockIdx.x), token = choice.step.tokens[column];
    const int32_t element = static_cast<int32_t>(blockIdx.y * THREADS + threadIdx.x) * 4;
    if (element >= choice.hidden)
        return;
    int32_t rank = 0;
    while (rank + 1 < choice.ranks && token >= choice.first_token[rank + 1])
        rank++;
    const int64_t at = static_cast<int64_t>(column) * choice.hidden + element;
    const float4 row = token < 0 ? make_float4(0, 0, 0, 0) : oct_load<float4>(choice.rows_of_rank[rank] + at);
    oct_store(choice.residual + at, row);
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
                    static_cast<unsigned>((choice->hidden + 4 * THREADS - 1) / (4 * THREADS)));
    return oct_cuda_check(
        oct_launch(oct_choose_rows_kernel, grid, dim3(THREADS), 0, stream, OCT_LAUNCH_PLAIN, *choice),
        "starting the choice of rows");
}

uint64_t oct_cuda_choose_rows_bytes(const oct_cuda_row_choice *choice)
{
    return static_cast<uint64_t>(choice->step.columns) * static_cast<uint64_t>(choice->hidden) * 2 * sizeof(float);
}
