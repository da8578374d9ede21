// How weights lie on a device: the blocks of runtime/encoding.h with the same sizes, so that strips and granules begin
// at the same offsets, but inside a block in the order in which the lanes of a warp read them for mma.sync m16n8k16
// (weights are the operand of 16 rows; instructions.h says which lane holds what). f32 and f16 matrices become bf16.
//
// An integer block is a header and then one record for each unit of 32 columns:
//   header   [8][D g, D g + 8] f16 (FACTOR_S8), [8][D g, D g + 8, M g, M g + 8] f16 (FACTOR_U8, FACTOR_U4), or none
//   record   1. the low plane [32 lanes], 2. the high plane [32 lanes], 3. the scales [8]
// A row pair g is the rows g and g + 8. With g = lane / 4, t = lane % 4 a lane has 16 codes of a unit: pair P = 0…7,
// half h = 0, 1 is row g + 8 · (P % 2), column 16 · (P / 4) + 8 · (P / 2 % 2) + 2t + h: the registers of two mma's in
// order. In a plane of b bits a lane has 2 b bytes; b >= 2: words of 32 bits, P in word P / (16 / b), at bit
// 16 h + b · (P % (16 / b)), so that one shift and one mask give both halves; b = 1: bit 8 h + P.
// Scales of a row pair, for each group of the unit:
//   F16 [scale g, scale g + 8] f16    F16_MIN [scale g, scale g + 8, minimum g, minimum g + 8] f16
//   FACTOR_S8 [S g, S g + 8]    FACTOR_U8 [S g, S g + 8, T g, T g + 8]    FACTOR_U4 [S | T << 4 of g, of g + 8]
// A bf16 block is [columns / 16][32 lanes][4 registers][2], the registers of one mma.
//
// Source: PTX ISA 8.8, section 9.7.14.5.8, for the fragments.
#ifndef OCT_KERNELS_CUDA_LAYOUT_H
#define OCT_KERNELS_CUDA_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/encoding.h"
#include "runtime/status.h"

// The encoding that a matrix has on a device: bf16 for the floating-point ones, else the same. LOCAL.
oct_encoding oct_cuda_encoding(oct_encoding encoding);

// The strip [first, last) of a checkpoint (`from`, oct_strip_bytes(encoding, first, last)) in the order of the device
// (`to`, oct_strip_bytes(oct_cuda_encoding(encoding), first, last)). f32 and f16 are rounded to nearest even. On the
// host; LOCAL.
void oct_cuda_layout_strip(oct_encoding encoding, int64_t first, int64_t last, const void *from, void *to);

// The same on the device, for `strips` strips that lie one after another, once the checkpoint's bytes are there: from
// and to are device memory aligned to 16 that does not overlap. Asynchronous in the stream. Moves the bytes of both.
// Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_cuda_layout_strips(oct_encoding encoding, int64_t first, int64_t last, int64_t strips, const void *from,
                                  void *to, cudaStream_t stream);

// The inverse on the host, for encodings that the device keeps. LOCAL.
void oct_cuda_restore_strip(oct_encoding encoding, int64_t first, int64_t last, const void *from, void *to);

#ifdef __cplusplus
}
#endif

#if defined(__CUDACC__)
#define OCT_LAYOUT static constexpr __host__ __device__
#elif defined(__cplusplus)
#define OCT_LAYOUT static constexpr
#else
#define OCT_LAYOUT static inline
#endif

enum { OCT_CUDA_PAIRS = 8 }; // of a lane and unit; also row pairs of a tile

// Bytes of a row pair's scales in a unit, and of its part of the header.
OCT_LAYOUT int oct_cuda_scale_bytes(oct_scale_kind kind, int group)
{
    const int bytes = kind == OCT_SCALE_F16_MIN                                        ? 8
                      : kind == OCT_SCALE_F16 || kind == OCT_SCALE_FACTOR_U8           ? 4
                      : kind == OCT_SCALE_FACTOR_S8 || kind == OCT_SCALE_FACTOR_U4 ? 2
                                                                                       : 0;
    return bytes * (32 / group);
}

OCT_LAYOUT int oct_cuda_header_bytes(oct_scale_kind kind)
{
    return kind == OCT_SCALE_FACTOR_S8 ? 4 : kind == OCT_SCALE_FACTOR_U8 || kind == OCT_SCALE_FACTOR_U4 ? 8 : 0;
}

// Bytes of a unit's record.
OCT_LAYOUT int oct_cuda_record_bytes(int bits, oct_scale_kind kind, int group)
{
    return 64 * bits + OCT_CUDA_PAIRS * oct_cuda_scale_bytes(kind, group);
}

// The code at bit `bit` of a plane of `bits` bits of a unit.
typedef struct oct_cuda_place {
    int row, column; // of the unit
} oct_cuda_place;

OCT_LAYOUT oct_cuda_place oct_cuda_code_place(int bits, int bit)
{
    const int lane = bit / (16 * bits), inside = bit % (16 * bits);
    const int half = bits == 1 ? inside / 8 : inside % 32 / 16;
    const int pair = bits == 1 ? inside % 8 : inside / 32 * (16 / bits) + inside % 16 / bits;
    oct_cuda_place place = {0, 0};
    place.row = lane / 4 + pair % 2 * 8;
    place.column = pair / 4 * 16 + pair / 2 % 2 * 8 + lane % 4 * 2 + half;
    return place;
}

// Where that code stands in the plane of a checkpoint's block, in bits; `column` of the block.
OCT_LAYOUT int oct_cuda_code_source(int bits, int row, int column)
{
    const int of_vector = 8 / bits, quad = column / 4;
    return (quad / of_vector * 64 + row * 4 + column % 4) * 8 + quad % of_vector * bits;
}

// Where byte `byte` of the header stands in a checkpoint's block.
OCT_LAYOUT int oct_cuda_header_source(oct_scale_kind kind, int byte)
{
    const int bytes = oct_cuda_header_bytes(kind), pair = byte / bytes, k = byte % bytes;
    return k / 4 * 32 + (pair + k / 2 % 2 * 8) * 2 + k % 2;
}

// Where byte `byte` of the scales of unit `unit` stands in a checkpoint's block.
OCT_LAYOUT int oct_cuda_scale_source(oct_scale_kind kind, int group, int unit, int byte)
{
    const int bytes = oct_cuda_scale_bytes(kind, group), groups = 32 / group, of_group = bytes / groups;
    const int pair = byte / bytes, k = byte % of_group, g = unit * groups + byte % bytes / of_group;
    switch (kind) {
    case OCT_SCALE_F16:
        return g * 32 + (pair + k / 2 * 8) * 2 + k % 2;
    case OCT_SCALE_F16_MIN:
        return g * 64 + k / 4 * 32 + (pair + k / 2 % 2 * 8) * 2 + k % 2;
    case OCT_SCALE_FACTOR_S8:
        return 32 + g * 16 + pair + k * 8;
    case OCT_SCALE_FACTOR_U8:
        return 64 + g * 32 + k / 2 * 16 + pair + k % 2 * 8;
    case OCT_SCALE_FACTOR_U4:
        return 64 + g * 16 + pair + k * 8;
    case OCT_SCALE_NONE:
        break;
    }
    return 0;
}

// The bf16 value `index` of a block: where it stands in a checkpoint's block of f16 or bf16, as a value's index.
OCT_LAYOUT int oct_cuda_float_source(int index)
{
    const int lane = index / 8 % 32, a = index / 2 % 4; // register
    const int row = lane / 4 + a % 2 * 8, column = index / 256 * 16 + a / 2 * 8 + lane % 4 * 2 + index % 2;
    return column / 2 * 32 + row * 2 + column % 2;
}

#endif
