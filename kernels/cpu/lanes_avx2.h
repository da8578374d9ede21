// The 16 virtual lanes in AVX2: two registers. lanes_avx512.h has the same functions over one; vector_*.h are
// written in them, once for both.
#ifndef OCT_KERNELS_CPU_LANES_AVX2_H
#define OCT_KERNELS_CPU_LANES_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/traits.h"

#define LANES 16
#define LANES_MANY 0 // are there registers for 24 of them?

typedef struct lanes {
    __m256 v[2];
} lanes;
typedef struct lanes_int {
    __m256i v[2];
} lanes_int;
typedef lanes lanes_mask; // all bits of a lane, or none

#define LANES_BOTH(type, low, high) ((type){{(low), (high)}})

OCT_INLINE lanes lanes_set(float x)
{
    return LANES_BOTH(lanes, _mm256_set1_ps(x), _mm256_set1_ps(x));
}

OCT_INLINE lanes lanes_load(const float *at)
{
    return LANES_BOTH(lanes, _mm256_loadu_ps(at), _mm256_loadu_ps(at + 8));
}

OCT_INLINE void lanes_store(float *at, lanes a)
{
    _mm256_storeu_ps(at, a.v[0]);
    _mm256_storeu_ps(at + 8, a.v[1]);
}

#define LANES_BINARY(name, intrinsic)                                                                        \
    OCT_INLINE lanes name(lanes a, lanes b)                                                                  \
    {                                                                                                        \
        return LANES_BOTH(lanes, intrinsic(a.v[0], b.v[0]), intrinsic(a.v[1], b.v[1]));                      \
    }
LANES_BINARY(lanes_add, _mm256_add_ps)
LANES_BINARY(lanes_sub, _mm256_sub_ps)
LANES_BINARY(lanes_mul, _mm256_mul_ps)
LANES_BINARY(lanes_div, _mm256_div_ps)
LANES_BINARY(lanes_max, _mm256_max_ps) // a > b ? a : b
LANES_BINARY(lanes_min, _mm256_min_ps) // a < b ? a : b

// a · b + c and c − a · b, rounded once.
OCT_INLINE lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return LANES_BOTH(lanes, _mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]),
                      _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1]));
}

OCT_INLINE lanes lanes_fnma(lanes a, lanes b, lanes c)
{
    return LANES_BOTH(lanes, _mm256_fnmadd_ps(a.v[0], b.v[0], c.v[0]),
                      _mm256_fnmadd_ps(a.v[1], b.v[1], c.v[1]));
}

OCT_INLINE lanes lanes_negate(lanes a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return LANES_BOTH(lanes, _mm256_xor_ps(a.v[0], sign), _mm256_xor_ps(a.v[1], sign));
}

// False for NaN.
OCT_INLINE lanes_mask lanes_less(lanes a, lanes b)
{
    return LANES_BOTH(lanes, _mm256_cmp_ps(a.v[0], b.v[0], _CMP_LT_OQ),
                      _mm256_cmp_ps(a.v[1], b.v[1], _CMP_LT_OQ));
}

OCT_INLINE lanes lanes_select(lanes_mask mask, lanes yes, lanes no)
{
    return LANES_BOTH(lanes, _mm256_blendv_ps(no.v[0], yes.v[0], mask.v[0]),
                      _mm256_blendv_ps(no.v[1], yes.v[1], mask.v[1]));
}

OCT_INLINE lanes_int lanes_bits(lanes a)
{
    return LANES_BOTH(lanes_int, _mm256_castps_si256(a.v[0]), _mm256_castps_si256(a.v[1]));
}

OCT_INLINE lanes lanes_from_bits(lanes_int a)
{
    return LANES_BOTH(lanes, _mm256_castsi256_ps(a.v[0]), _mm256_castsi256_ps(a.v[1]));
}

OCT_INLINE lanes_int lanes_int_set(int32_t x)
{
    return LANES_BOTH(lanes_int, _mm256_set1_epi32(x), _mm256_set1_epi32(x));
}

OCT_INLINE lanes_int lanes_int_load(const void *at)
{
    const __m256i *p = at;
    return LANES_BOTH(lanes_int, _mm256_loadu_si256(p), _mm256_loadu_si256(p + 1));
}

OCT_INLINE void lanes_int_store(void *at, lanes_int a)
{
    __m256i *p = at;
    _mm256_storeu_si256(p, a.v[0]);
    _mm256_storeu_si256(p + 1, a.v[1]);
}

#define LANES_INT_BINARY(name, intrinsic)                                                                    \
    OCT_INLINE lanes_int name(lanes_int a, lanes_int b)                                                      \
    {                                                                                                        \
        return LANES_BOTH(lanes_int, intrinsic(a.v[0], b.v[0]), intrinsic(a.v[1], b.v[1]));                  \
    }
LANES_INT_BINARY(lanes_int_add, _mm256_add_epi32)
LANES_INT_BINARY(lanes_int_sub, _mm256_sub_epi32)
LANES_INT_BINARY(lanes_int_and, _mm256_and_si256)
LANES_INT_BINARY(lanes_int_or, _mm256_or_si256)
LANES_INT_BINARY(lanes_int_max, _mm256_max_epi32)

// Shifts by a constant; `right` fills with the sign, `right_zero` with zeros.
#define LANES_INT_SHIFT(name, intrinsic)                                                                     \
    OCT_INLINE lanes_int name(lanes_int a, int bits)                                                         \
    {                                                                                                        \
        return LANES_BOTH(lanes_int, intrinsic(a.v[0], bits), intrinsic(a.v[1], bits));                      \
    }
LANES_INT_SHIFT(lanes_int_left, _mm256_slli_epi32)
LANES_INT_SHIFT(lanes_int_right, _mm256_srai_epi32)
LANES_INT_SHIFT(lanes_int_right_zero, _mm256_srli_epi32)

OCT_INLINE lanes_mask lanes_int_greater(lanes_int a, lanes_int b)
{
    return LANES_BOTH(lanes, _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v[0], b.v[0])),
                      _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v[1], b.v[1])));
}

OCT_INLINE lanes_int lanes_int_select(lanes_mask mask, lanes_int yes, lanes_int no)
{
    return lanes_bits(lanes_select(mask, lanes_from_bits(yes), lanes_from_bits(no)));
}

OCT_INLINE lanes lanes_from_f16(const uint16_t *at)
{
    const __m128i *p = (const __m128i *)at;
    return LANES_BOTH(lanes, _mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p + 1)));
}

// Nearest even.
OCT_INLINE void lanes_to_f16(uint16_t *at, lanes a)
{
    __m128i *p = (__m128i *)at;
    _mm_storeu_si128(p, _mm256_cvtps_ph(a.v[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(p + 1, _mm256_cvtps_ph(a.v[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Lanes that hold 0…65535, or −128…127, stored as 16 numbers of 2 bytes or 1.
OCT_INLINE void lanes_int_store_u16(uint16_t *at, lanes_int a)
{
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a.v[0], a.v[1]), 0xd8);
    _mm256_storeu_si256((__m256i *)at, packed);
}

OCT_INLINE void lanes_int_store_s8(int8_t *at, lanes_int a)
{
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.v[0], a.v[1]), 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1));
    _mm_storeu_si128((__m128i *)at, bytes);
}

// The lane tree: i + (i + 8), i + 4, i + 2, i + 1.
OCT_INLINE float lanes_tree(lanes a)
{
    __m256 eight = _mm256_add_ps(a.v[0], a.v[1]);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

OCT_INLINE float lanes_largest(lanes a)
{
    __m256 eight = _mm256_max_ps(a.v[0], a.v[1]);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

OCT_INLINE int32_t lanes_int_largest(lanes_int a)
{
    __m256i eight = _mm256_max_epi32(a.v[0], a.v[1]);
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

OCT_INLINE int32_t lanes_int_sum(lanes_int a)
{
    __m256i eight = _mm256_add_epi32(a.v[0], a.v[1]);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

OCT_INLINE __m256 lanes_half_even(__m256 a, __m256 b)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xd8));
}

OCT_INLINE __m256 lanes_half_odd(__m256 a, __m256 b)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8));
}

// The even and the odd ones of 32 consecutive numbers, and back.
OCT_INLINE void lanes_load_pairs(const float *at, lanes *even, lanes *odd)
{
    lanes a = lanes_load(at), b = lanes_load(at + LANES);
    *even = LANES_BOTH(lanes, lanes_half_even(a.v[0], a.v[1]), lanes_half_even(b.v[0], b.v[1]));
    *odd = LANES_BOTH(lanes, lanes_half_odd(a.v[0], a.v[1]), lanes_half_odd(b.v[0], b.v[1]));
}

OCT_INLINE void lanes_store_pairs(float *at, lanes even, lanes odd)
{
    for (int i = 0; i < 2; i++) {
        __m256 low = _mm256_unpacklo_ps(even.v[i], odd.v[i]), high = _mm256_unpackhi_ps(even.v[i], odd.v[i]);
        _mm256_storeu_ps(at + 16 * i, _mm256_permute2f128_ps(low, high, 0x20));
        _mm256_storeu_ps(at + 16 * i + 8, _mm256_permute2f128_ps(low, high, 0x31));
    }
}

#endif
