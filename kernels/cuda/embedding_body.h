// Inside embedding.cu and persistent.cu: the bodies of OCT_OP_EMBED. A thread decodes one element: rows are few, and
// the launch is what they cost.
#ifndef OCT_KERNELS_CUDA_EMBEDDING_BODY_H
#define OCT_KERNELS_CUDA_EMBEDDING_BODY_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/layout.h"

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

OCT_DEVICE float oct_row_f16_at(const uint8_t *at)
{
    return from_f16(oct_load<uint16_t>(at));
}

// The code of a row and column of a unit; the inverse of oct_cuda_code_place().
OCT_DEVICE int oct_row_code_at(const uint8_t *plane, int bits, int row, int column)
{
    const int lane = row % 8 * 4 + column % 8 / 2, half = column % 2;
    const int pair = row / 8 + column / 8 * 2;
    const int of_word = 16 / bits;
    const int inside = bits == 1 ? 8 * half + pair : pair / of_word * 32 + 16 * half + pair % of_word * bits;
    const int bit = lane * 16 * bits + inside;
    return plane[bit / 8] >> bit % 8 & ((1 << bits) - 1);
}

// Scale and minimum of a group: `header` is the row pair's part of the block's, `at` its part of the group's.
OCT_DEVICE oct_row_scale oct_row_scale_at(oct_scale_kind kind, const uint8_t *header, const uint8_t *at, int row)
{
    const int upper = row / 8; // of the pair
    switch (kind) {
    case OCT_SCALE_F16:
        return {oct_row_f16_at(at + upper * 2), -0.0f};
    case OCT_SCALE_F16_MIN:
        return {oct_row_f16_at(at + upper * 2), oct_row_f16_at(at + 4 + upper * 2)};
    case OCT_SCALE_FACTOR_S8:
        return {oct_row_f16_at(header + upper * 2) * static_cast<float>(static_cast<int8_t>(at[upper])), -0.0f};
    case OCT_SCALE_FACTOR_U8:
        return {oct_row_f16_at(header + upper * 2) * static_cast<float>(at[upper]),
                oct_row_f16_at(header + 4 + upper * 2) * static_cast<float>(at[2 + upper])};
    case OCT_SCALE_FACTOR_U4:
        return {oct_row_f16_at(header + upper * 2) * static_cast<float>(at[upper] & 15),
                oct_row_f16_at(header + 4 + upper * 2) * static_cast<float>(at[upper] >> 4)};
    case OCT_SCALE_NONE:
        break;
    }
    return {1.0f, -0.0f};
}

OCT_DEVICE float oct_row_decode_integer(const oct_row_form &form, const uint8_t *block, int row, int column)
{
    const int header = oct_cuda_header_bytes(form.scale), scales = oct_cuda_scale_bytes(form.scale, form.group);
    const int bits = form.low_bits + form.high_bits, pair = row % 8, inside = column % 32;
    const uint8_t *record = block + OCT_CUDA_PAIRS * header +
                            column / 32 * oct_cuda_record_bytes(bits, form.scale, form.group);
    int code = oct_row_code_at(record, form.low_bits, row, inside);
    if (form.high_bits > 0)
        code |= oct_row_code_at(record + 64 * form.low_bits, form.high_bits, row, inside) << form.low_bits;
    const int value = form.codebook ? form.levels[code] : code;
    const uint8_t *groups = record + 64 * bits + pair * scales;
    const uint8_t *group = groups + inside / form.group * (scales * form.group / 32);
    const oct_row_scale s = oct_row_scale_at(form.scale, block + pair * header, group, row);
    return fmaf(s.scale, static_cast<float>(value - form.zero), s.minimum);
}

OCT_DEVICE float oct_row_decode_bf16(const uint8_t *block, int row, int column)
{
    const int lane = row % 8 * 4 + column % 8 / 2, value = row / 8 + column % 16 / 8 * 2;
    const int index = column / 16 * 256 + lane * 8 + value * 2 + column % 2;
    return oct_low_bf16(oct_load<uint16_t>(block + index * 2));
}

typedef struct oct_embed_operands {
    oct_cuda_embedding embedding;
    oct_row_form form;
    size_t tile_bytes, block_bytes; // of a tile of rows, and of a whole block of the encoding in it
} oct_embed_operands;

// Block (column, 256 of its elements: a block of the encoding).
OCT_DEVICE void oct_embed_body(const oct_embed_operands &operands, const oct_place &place)
{
    const oct_cuda_embedding &e = operands.embedding;
    const int32_t column = place.x, token = e.step.tokens[column], inside = static_cast<int32_t>(threadIdx.x);
    const int32_t element = place.y * OCT_BLOCK_THREADS + inside, tile = token / OCT_TILE_ROWS;
    if (element >= e.hidden || (token >= 0 && (tile < e.tiles.begin || tile >= e.tiles.end)))
        return;
    float *to = e.rows + static_cast<int64_t>(column) * e.hidden + element;
    if (token < 0) {
        *to = 0.0f;
        return;
    }
    const uint8_t *block = static_cast<const uint8_t *>(e.weights) + (tile - e.tiles.begin) * operands.tile_bytes +
                           place.y * operands.block_bytes;
    const int row = token % OCT_TILE_ROWS;
    *to = operands.form.low_bits == 0 ? oct_row_decode_bf16(block, row, inside)
                                      : oct_row_decode_integer(operands.form, block, row, inside);
}

// Block (column, 1024 of its elements).
OCT_DEVICE void oct_choose_rows_body(const oct_cuda_row_choice &choice, const oct_place &place)
{
    const int32_t column = place.x, token = choice.step.tokens[column];
    const int32_t element = (place.y * OCT_BLOCK_THREADS + static_cast<int32_t>(threadIdx.x)) * 4;
    if (element >= choice.hidden)
        return;
    int32_t rank = 0;
    while (rank + 1 < choice.ranks && token >= choice.first_token[rank + 1])
        rank++;
    const int64_t at = static_cast<int64_t>(column) * choice.hidden + element;
    const float4 row = token < 0 ? make_float4(0, 0, 0, 0) : oct_load<float4>(choice.rows_of_rank[rank] + at);
    oct_store(choice.residual + at, row);
}

#endif
