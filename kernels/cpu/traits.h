// The encodings as compile-time constants, so that one inlined function body becomes a kernel of each. The
// numbers are those of oct_encoding_describe(); tests/unit/test_dot.c compares them.
#ifndef OCT_KERNELS_CPU_TRAITS_H
#define OCT_KERNELS_CPU_TRAITS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu/kernels.h"
#include "runtime/encoding.h"

#define OCT_INLINE static inline __attribute__((always_inline))

#define OCT_UNIT_QUADS 8 // of a unit of 32 columns (kernels.h): one or two groups, whole plane vectors
#define OCT_VECTOR_BYTES 64 // of a plane: 16 rows × 4 columns

typedef struct oct_traits {
    int low_bits, high_bits;
    int group;
    oct_scale_kind scale;
    int zero;
    bool codebook;
} oct_traits;

// X(encoding, name, traits) for each integer encoding.
#define OCT_INTEGER_ENCODINGS(X)                                                                             \
    X(OCT_Q8, q8, 8, 0, 32, OCT_SCALE_F16, 128, false)                                                       \
    X(OCT_Q4, q4, 4, 0, 32, OCT_SCALE_F16, 8, false)                                                         \
    X(OCT_Q4_1, q4_1, 4, 0, 32, OCT_SCALE_F16_MIN, 0, false)                                                 \
    X(OCT_Q5_0, q5_0, 4, 1, 32, OCT_SCALE_F16, 16, false)                                                    \
    X(OCT_Q5_1, q5_1, 4, 1, 32, OCT_SCALE_F16_MIN, 0, false)                                                 \
    X(OCT_IQ4_NL, iq4_nl, 4, 0, 32, OCT_SCALE_F16, 127, true)                                                \
    X(OCT_Q2_K, q2_k, 2, 0, 16, OCT_SCALE_FACTOR_U4, 0, false)                                               \
    X(OCT_Q3_K, q3_k, 2, 1, 16, OCT_SCALE_FACTOR_S8, 4, false)                                               \
    X(OCT_Q4_K, q4_k, 4, 0, 32, OCT_SCALE_FACTOR_U8, 0, false)                                               \
    X(OCT_Q5_K, q5_k, 4, 1, 32, OCT_SCALE_FACTOR_U8, 0, false)                                               \
    X(OCT_Q6_K, q6_k, 4, 2, 16, OCT_SCALE_FACTOR_S8, 32, false)                                              \
    X(OCT_Q2, q2, 2, 0, 32, OCT_SCALE_FACTOR_U4, 0, false)

#define OCT_FLOAT_ENCODINGS(X)                                                                               \
    X(OCT_F32, f32)                                                                                          \
    X(OCT_F16, f16)                                                                                          \
    X(OCT_BF16, bf16)

OCT_INLINE bool oct_traits_minimum(oct_traits t)
{
    return t.scale == OCT_SCALE_F16_MIN || t.scale == OCT_SCALE_FACTOR_U8 || t.scale == OCT_SCALE_FACTOR_U4;
}

// Bytes of the scales of a block of n columns, of `columns` columns of a plane, and of the whole block.
OCT_INLINE int oct_traits_scale_bytes(oct_traits t, int n)
{
    int groups = n / t.group;
    switch (t.scale) {
    case OCT_SCALE_F16:
        return groups * 32;
    case OCT_SCALE_F16_MIN:
        return groups * 64;
    case OCT_SCALE_FACTOR_S8:
        return 32 + groups * 16;
    case OCT_SCALE_FACTOR_U8:
        return 64 + groups * 32;
    case OCT_SCALE_FACTOR_U4:
        return 64 + groups * 16;
    case OCT_SCALE_NONE:
        break;
    }
    return 0;
}

OCT_INLINE int oct_plane_bytes(int bits, int columns)
{
    return columns * OCT_TILE_ROWS * bits / 8;
}

OCT_INLINE int oct_traits_block_bytes(oct_traits t, int n)
{
    return oct_traits_scale_bytes(t, n) + oct_plane_bytes(t.low_bits + t.high_bits, n);
}

// Columns of the block that begins at absolute column `at` of a K range that ends (padded) at `end`.
OCT_INLINE int oct_block_columns(int64_t at, int64_t end)
{
    int64_t whole = OCT_BLOCK_COLUMNS - (at & (OCT_BLOCK_COLUMNS - 1));
    return (int)(end - at < whole ? end - at : whole);
}

// Strips that kernels take together, for all columns in turn: as many as a first-level cache holds beside the
// input.
OCT_INLINE int32_t oct_strips_together(size_t strip_bytes)
{
    const size_t cache_bytes = 16384;
    return strip_bytes >= cache_bytes ? 1 : (int32_t)(cache_bytes / strip_bytes);
}

#endif
