// The 16 virtual lanes in AVX-512: one register. The functions are those of lanes_avx2.h. Include avx512.h
// first.
#ifndef OCT_KERNELS_CPU_LANES_AVX512_H
#define OCT_KERNELS_CPU_LANES_AVX512_H

#include "kernels/cpu/traits.h"

#define LANES 16
#define LANES_MANY 1 // are there registers for 24 of them?

typedef __m512 lanes;
typedef struct lanes_int {
    __m512i v; // a type of its own: compilers take __m512i and __m512 for each other in places
} lanes_int;
typedef __mmask16 lanes_mask;

#define LANES_INT(value) ((lanes_int){(value)})

OCT_INLINE lanes lanes_set(float x)
{
    return _mm512_set1_ps(x);
}

OCT_INLINE lanes lanes_load(const float *at)
{
    return _mm512_loadu_ps(at);
}

OCT_INLINE void lanes_store(float *at, lanes a)
{
    _mm512_storeu_ps(at, a);
}

#define LANES_BINARY(name, intrinsic)                                                                        \
    OCT_INLINE lanes name(lanes a, lanes b)                                                                  \
    {                                                                                                        \
        return intrinsic(a, b);                                                                              \
    }
LANES_BINARY(lanes_add, _mm512_add_ps)
LANES_BINARY(lanes_sub, _mm512_sub_ps)
LANES_BINARY(lanes_mul, _mm512_mul_ps)
LANES_BINARY(lanes_div, _mm512_div_ps)
LANES_BINARY(lanes_max, _mm512_max_ps)
LANES_BINARY(lanes_min, _mm512_min_ps)

OCT_INLINE lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return _mm512_fmadd_ps(a, b, c);
}

OCT_INLINE lanes lanes_fnma(lanes a, lanes b, lanes c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

OCT_INLINE lanes lanes_negate(lanes a)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)0x80000000)));
}

OCT_INLINE lanes_mask lanes_less(lanes a, lanes b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

OCT_INLINE lanes lanes_select(lanes_mask mask, lanes yes, lanes no)
{
    return _mm512_mask_blend_ps(mask, no, yes);
}

OCT_INLINE lanes_int lanes_bits(lanes a)
{
    return LANES_INT(_mm512_castps_si512(a));
}

OCT_INLINE lanes lanes_from_bits(lanes_int a)
{
    return _mm512_castsi512_ps(a.v);
}

OCT_INLINE lanes_int lanes_int_set(int32_t x)
{
    return LANES_INT(_mm512_set1_epi32(x));
}

OCT_INLINE lanes_int lanes_int_load(const void *at)
{
    return LANES_INT(_mm512_loadu_si512(at));
}

OCT_INLINE void lanes_int_store(void *at, lanes_int a)
{
    _mm512_storeu_si512(at, a.v);
}

#define LANES_INT_BINARY(name, intrinsic)                                                                    \
    OCT_INLINE lanes_int name(lanes_int a, lanes_int b)                                                      \
    {                                                                                                        \
        return LANES_INT(intrinsic(a.v, b.v));                                                               \
    }
LANES_INT_BINARY(lanes_int_add, _mm512_add_epi32)
LANES_INT_BINARY(lanes_int_sub, _mm512_sub_epi32)
LANES_INT_BINARY(lanes_int_and, _mm512_and_si512)
LANES_INT_BINARY(lanes_int_or, _mm512_or_si512)
LANES_INT_BINARY(lanes_int_max, _mm512_max_epi32)

#define LANES_INT_SHIFT(name, intrinsic)                                                                     \
    OCT_INLINE lanes_int name(lanes_int a, unsigned bits)                                                    \
    {                                                                                                        \
        return LANES_INT(intrinsic(a.v, bits));                                                              \
    }
LANES_INT_SHIFT(lanes_int_left, _mm512_slli_epi32)
LANES_INT_SHIFT(lanes_int_right, _mm512_srai_epi32)
LANES_INT_SHIFT(lanes_int_right_zero, _mm512_srli_epi32)

OCT_INLINE lanes_mask lanes_int_greater(lanes_int a, lanes_int b)
{
    return _mm512_cmpgt_epi32_mask(a.v, b.v);
}

OCT_INLINE lanes_int lanes_int_select(lanes_mask mask, lanes_int yes, lanes_int no)
{
    return LANES_INT(_mm512_mask_blend_epi32(mask, no.v, yes.v));
}

OCT_INLINE lanes lanes_from_f16(const uint16_t *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
}

OCT_INLINE void lanes_to_f16(uint16_t *at, lanes a)
{
    _mm256_storeu_si256((__m256i *)at, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

OCT_INLINE void lanes_int_store_u16(uint16_t *at, lanes_int a)
{
    _mm256_storeu_si256((__m256i *)at, _mm512_cvtepi32_epi16(a.v));
}

OCT_INLINE void lanes_int_store_s8(int8_t *at, lanes_int a)
{
    _mm_storeu_si128((__m128i *)at, _mm512_cvtepi32_epi8(a.v));
}

// Lane i takes lane i + 8, then i + 4, i + 2, i + 1: the steps of sums and maxima over the lanes.
#define LANES_STEPS(result, a, operation)                                                                    \
    lanes result = operation(a, _mm512_shuffle_f32x4(a, a, 0x4e));                                           \
    result = operation(result, _mm512_shuffle_f32x4(result, result, 0xb1));                                  \
    result = operation(result, _mm512_permute_ps(result, 0x4e));                                             \
    result = operation(result, _mm512_permute_ps(result, 0xb1))

OCT_INLINE float lanes_tree(lanes a)
{
    LANES_STEPS(sum, a, _mm512_add_ps);
    return _mm512_cvtss_f32(sum);
}

OCT_INLINE float lanes_largest(lanes a)
{
    LANES_STEPS(largest, a, _mm512_max_ps);
    return _mm512_cvtss_f32(largest);
}

OCT_INLINE int32_t lanes_int_largest(lanes_int a)
{
    return _mm512_reduce_max_epi32(a.v);
}

OCT_INLINE int32_t lanes_int_sum(lanes_int a)
{
    return _mm512_reduce_add_epi32(a.v);
}

// Every other one of 32 numbers, from number `from` on; and the numbers `from` … of a[0] b[0] a[1] b[1] ….
OCT_INLINE lanes lanes_pick(lanes a, lanes b, int from, bool interleave)
{
    int32_t index[LANES];
    for (int i = 0; i < LANES; i++)
        index[i] = interleave ? from + i / 2 + i % 2 * 16 : from + 2 * i;
    return _mm512_permutex2var_ps(a, lanes_int_load(index).v, b);
}

OCT_INLINE void lanes_load_pairs(const float *at, lanes *even, lanes *odd)
{
    lanes a = lanes_load(at), b = lanes_load(at + LANES);
    *even = lanes_pick(a, b, 0, false);
    *odd = lanes_pick(a, b, 1, false);
}

OCT_INLINE void lanes_store_pairs(float *at, lanes even, lanes odd)
{
    lanes_store(at, lanes_pick(even, odd, 0, true));
    lanes_store(at + LANES, lanes_pick(even, odd, 8, true));
}

#endif
