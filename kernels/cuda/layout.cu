// The order of weights on a device, made on the device: a thread gathers a word at a time from the checkpoint's bytes.
#include "kernels/cuda/layout.h"

#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"

enum { LAYOUT_THREADS = 256 };

// What the kernel needs of an encoding.
typedef struct oct_layout_form {
    int float_bytes, low_bits, high_bits, group;
    oct_scale_kind scale;
    bool half; // f16, when float_bytes is 2: else bf16
} oct_layout_form;

OCT_DEVICE uint32_t oct_gather_codes(const uint8_t *plane, int bits, int unit, int word)
{
    uint32_t codes = 0;
    for (int bit = 0; bit < 32; bit += bits) {
        const oct_cuda_place place = oct_cuda_code_place(bits, word * 32 + bit);
        const int from = oct_cuda_code_source(bits, place.row, unit * 32 + place.column);
        codes |= (plane[from / 8] >> from % 8 & ((1u << bits) - 1)) << bit;
    }
    return codes;
}

// Word `word` of a device's integer block of `units` units.
OCT_DEVICE uint32_t oct_gather_word(const oct_layout_form &form, const uint8_t *block, int units, int word)
{
    const int header = OCT_CUDA_PAIRS * oct_cuda_header_bytes(form.scale), low = form.low_bits, high = form.high_bits;
    const int scales = OCT_CUDA_PAIRS * oct_cuda_scale_bytes(form.scale, form.group);
    const int record = 64 * (low + high) + scales, planes = header + units * scales;
    const int unit = (word * 4 - header) / record, at = (word * 4 - header) % record;
    if (word * 4 >= header && at < 64 * low)
        return oct_gather_codes(block + planes, low, unit, at / 4);
    if (word * 4 >= header && at < 64 * (low + high))
        return oct_gather_codes(block + planes + units * 64 * low, high, unit, (at - 64 * low) / 4);
    uint32_t bytes = 0;
    for (int i = 0; i < 4; i++) {
        const int from = word * 4 < header
                             ? oct_cuda_header_source(form.scale, word * 4 + i)
                             : oct_cuda_scale_source(form.scale, form.group, unit, at - 64 * (low + high) + i);
        bytes |= static_cast<uint32_t>(block[from]) << 8 * i;
    }
    return bytes;
}

// The value at place `source` (layout.h) of a checkpoint's floating-point block, as bf16.
OCT_DEVICE uint32_t oct_gather_bf16(const oct_layout_form &form, const uint8_t *block, int source)
{
    if (form.float_bytes == 4)
        return oct_to_bf16(
            reinterpret_cast<const float *>(block)[(source / 32 * 2 + source % 2) * 16 + source % 32 / 2]);
    const uint32_t half = reinterpret_cast<const uint16_t *>(block)[source];
    return form.half ? oct_to_bf16(from_f16(half)) : half;
}

OCT_DEVICE int oct_block_bytes_here(const oct_layout_form &form, int columns, int float_bytes)
{
    const int header = OCT_CUDA_PAIRS * oct_cuda_header_bytes(form.scale);
    return float_bytes != 0
               ? columns * OCT_TILE_ROWS * float_bytes
               : header + columns / 32 * oct_cuda_record_bytes(form.low_bits + form.high_bits, form.scale, form.group);
}

// A strip a block.
__global__ void __launch_bounds__(LAYOUT_THREADS)
    oct_layout_kernel(oct_layout_form form, int64_t first, int64_t end, size_t from_bytes, size_t to_bytes,
                      const uint8_t *from, uint8_t *to)
{
    const uint8_t *block = from + blockIdx.x * from_bytes;
    uint8_t *out = to + blockIdx.x * to_bytes;
    for (int64_t at = first; at < end;) {
        const int64_t border = (at / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
        const int columns = static_cast<int>((border < end ? border : end) - at);
        const int bytes = oct_block_bytes_here(form, columns, form.float_bytes != 0 ? 2 : 0);
        for (int word = static_cast<int>(threadIdx.x); word < bytes / 4; word += LAYOUT_THREADS)
            reinterpret_cast<uint32_t *>(out)[word] =
                form.float_bytes == 0 ? oct_gather_word(form, block, columns / 32, word)
                                      : oct_gather_bf16(form, block, oct_cuda_float_source(2 * word)) |
                                            oct_gather_bf16(form, block, oct_cuda_float_source(2 * word + 1)) << 16;
        block += oct_block_bytes_here(form, columns, form.float_bytes);
        out += bytes;
        at += columns;
    }
}

oct_status oct_cuda_layout_strips(oct_encoding encoding, int64_t first, int64_t last, int64_t strips, const void *from,
                                  void *to, cudaStream_t stream)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    const oct_layout_form form = {info->float_bytes, info->low_bits,
                                  info->high_bits,   info->float_bytes ? 32 : info->group,
                                  info->scale,       encoding == OCT_F16};
    if (strips == 0 || first == last)
        return OCT_OK;
    return oct_cuda_check(oct_launch(oct_layout_kernel, dim3(static_cast<unsigned>(strips)), dim3(LAYOUT_THREADS), 0,
                                     stream, OCT_LAUNCH_PLAIN, form, first, first + oct_pad_columns(last - first),
                                     oct_strip_bytes(encoding, first, last),
                                     oct_strip_bytes(oct_cuda_encoding(encoding), first, last),
                                     static_cast<const uint8_t *>(from), static_cast<uint8_t *>(to)),
                          "launching the permutation of weights");
}
