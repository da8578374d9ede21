// The order of weights on a device, made and undone on the host: what the kernel of layout.cu is tested with, and what
// tests build their weights with.
#include "kernels/cuda/layout.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

oct_encoding oct_cuda_encoding(oct_encoding encoding)
{
    return oct_encoding_describe(encoding)->float_bytes != 0 ? OCT_BF16 : encoding;
}

// What a block is made of, and which way bytes go: from the checkpoint's block to the device's, or back.
typedef struct block_copy {
    const oct_encoding_info *info;
    int columns;
    const uint8_t *from;
    uint8_t *to;
    bool back;
} block_copy;

static void copy_byte(const block_copy *copy, int checkpoint, int device)
{
    if (copy->back)
        copy->to[checkpoint] = copy->from[device];
    else
        copy->to[device] = copy->from[checkpoint];
}

static void copy_code(const block_copy *copy, int bits, int checkpoint, int device)
{
    const int read = copy->back ? device : checkpoint, write = copy->back ? checkpoint : device;
    const int code = copy->from[read / 8] >> read % 8 & ((1 << bits) - 1);
    copy->to[write / 8] = (uint8_t)(copy->to[write / 8] | code << write % 8);
}

// A plane of a unit: `device` and `checkpoint` are where it begins in the device's record and in the checkpoint's
// block, in bytes.
static void copy_plane(const block_copy *copy, int bits, int unit, int checkpoint, int device)
{
    for (int bit = 0; bit < 512 * bits; bit += bits) {
        const oct_cuda_place place = oct_cuda_code_place(bits, bit);
        copy_code(copy, bits, checkpoint * 8 + oct_cuda_code_source(bits, place.row, unit * 32 + place.column),
                  device * 8 + bit);
    }
}

static void copy_integer_block(const block_copy *copy)
{
    const oct_encoding_info *info = copy->info;
    const int header = OCT_CUDA_PAIRS * oct_cuda_header_bytes(info->scale);
    const int scales = OCT_CUDA_PAIRS * oct_cuda_scale_bytes(info->scale, info->group);
    const int units = copy->columns / 32, low = info->low_bits, high = info->high_bits;
    const int record = oct_cuda_record_bytes(low + high, info->scale, info->group);
    const int planes = header + units * scales; // where they begin in the checkpoint's block
    for (int byte = 0; byte < header; byte++)
        copy_byte(copy, oct_cuda_header_source(info->scale, byte), byte);
    for (int unit = 0; unit < units; unit++) {
        const int at = header + unit * record;
        copy_plane(copy, low, unit, planes, at);
        if (high > 0)
            copy_plane(copy, high, unit, planes + units * 64 * low, at + 64 * low);
        for (int byte = 0; byte < scales; byte++)
            copy_byte(copy, oct_cuda_scale_source(info->scale, info->group, unit, byte), at + 64 * (low + high) + byte);
    }
}

static uint16_t float_as_bf16(oct_encoding encoding, const uint8_t *block, int source)
{
    uint16_t half;
    float value;
    if (encoding == OCT_F32) { // [column][row] there, [column / 2][row][column % 2] in the others
        memcpy(&value, block + (size_t)((source / 32 * 2 + source % 2) * 16 + source % 32 / 2) * 4, sizeof value);
        return oct_f32_to_bf16(value);
    }
    memcpy(&half, block + (size_t)source * 2, sizeof half);
    return encoding == OCT_F16 ? oct_f32_to_bf16(oct_f16_to_f32(half)) : half;
}

static void copy_float_block(oct_encoding encoding, const block_copy *copy)
{
    for (int index = 0; index < copy->columns * OCT_TILE_ROWS; index++) {
        const int source = oct_cuda_float_source(index);
        if (copy->back) {
            memcpy(copy->to + (size_t)source * 2, copy->from + (size_t)index * 2, 2);
        } else {
            const uint16_t value = float_as_bf16(encoding, copy->from, source);
            memcpy(copy->to + (size_t)index * 2, &value, sizeof value);
        }
    }
}

static void copy_strip(oct_encoding encoding, int64_t first, int64_t last, const uint8_t *from, uint8_t *to, bool back)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    const int64_t end = first + oct_pad_columns(last - first);
    for (int64_t at = first; at < end;) {
        const int64_t border = (at / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
        const int columns = (int)((border < end ? border : end) - at);
        const size_t there = oct_block_bytes(encoding, columns);
        const size_t here = oct_block_bytes(oct_cuda_encoding(encoding), columns);
        const block_copy copy = {info, columns, from, to, back};
        memset(to, 0, back ? there : here);
        if (info->float_bytes != 0)
            copy_float_block(encoding, &copy);
        else
            copy_integer_block(&copy);
        from += back ? here : there;
        to += back ? there : here;
        at += columns;
    }
}

void oct_cuda_layout_strip(oct_encoding encoding, int64_t first, int64_t last, const void *from, void *to)
{
    copy_strip(encoding, first, last, from, to, false);
}

void oct_cuda_restore_strip(oct_encoding encoding, int64_t first, int64_t last, const void *from, void *to)
{
    assert(oct_cuda_encoding(encoding) == encoding);
    copy_strip(encoding, first, last, from, to, true);
}
