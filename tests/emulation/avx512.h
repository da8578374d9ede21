// The AVX-512 instructions that Octet's kernels use, in plain C: so that kernels/cpu/avx512_*.c can be
// compared with the scalar table on any processor. Each function is the operation that Intel's "64 and IA-32
// Architectures Software Developer's Manual", volume 2, gives for its instruction. Slow; never part of a
// program that people run.
//
// Floating-point operations take the rounding and flushing of the calling thread, as the instructions do; but
// vdpbf16ps always flushes and always rounds to nearest, which is what oct_cpu_enter_thread() sets.
#ifndef OCT_TESTS_EMULATION_AVX512_H
#define OCT_TESTS_EMULATION_AVX512_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "runtime/encoding.h"

typedef union emulated_512 {
    float f[16];
    int32_t i[16];
    uint32_t u[16];
    uint16_t h[32];
    int8_t b[64];
    uint8_t c[64];
} emulated_512;
typedef struct emulated_256 {
    uint16_t h[16];
} emulated_256;
typedef struct emulated_128 {
    uint8_t c[16];
} emulated_128;
typedef uint16_t emulated_mask;

#define __m512 emulated_512
#define __m512i emulated_512
#define __m512bh emulated_512
#define __m256i emulated_256
#define __m128i emulated_128
#define __mmask16 emulated_mask

// Not inlined: a kernel has thousands of instructions, and compilers need minutes for as many loops.
#define EMULATED static __attribute__((noinline, unused))
#define EACH(n, statement)                                                                                   \
    emulated_512 r;                                                                                          \
    for (int k = 0; k < (n); k++)                                                                            \
        statement;                                                                                           \
    return r

#define _CMP_LT_OQ 17
#define _MM_FROUND_TO_NEAREST_INT 0
#define _MM_FROUND_NO_EXC 8

// --- moves -------------------------------------------------------------------------------------------
EMULATED emulated_512 emulated_load(const void *at)
{
    emulated_512 r;
    memcpy(&r, at, sizeof r);
    return r;
}

EMULATED void emulated_store(void *at, emulated_512 a)
{
    memcpy(at, &a, sizeof a);
}

EMULATED emulated_256 _mm256_loadu_si256(const emulated_256 *at)
{
    emulated_256 r;
    memcpy(&r, at, sizeof r);
    return r;
}

EMULATED void _mm256_storeu_si256(emulated_256 *at, emulated_256 a)
{
    memcpy(at, &a, sizeof a);
}

EMULATED emulated_128 _mm_loadu_si128(const emulated_128 *at)
{
    emulated_128 r;
    memcpy(&r, at, sizeof r);
    return r;
}

EMULATED void _mm_storeu_si128(emulated_128 *at, emulated_128 a)
{
    memcpy(at, &a, sizeof a);
}

#define _mm512_loadu_ps emulated_load
#define _mm512_loadu_si512 emulated_load
#define _mm512_storeu_ps emulated_store
#define _mm512_storeu_si512 emulated_store
#define _mm512_castps_si512(a) (a)
#define _mm512_castsi512_ps(a) (a)

EMULATED emulated_512 _mm512_set1_ps(float x)
{
    EACH(16, r.f[k] = x);
}

EMULATED emulated_512 _mm512_set1_epi32(int32_t x)
{
    EACH(16, r.i[k] = x);
}

EMULATED emulated_512 _mm512_set1_epi8(char x)
{
    EACH(64, r.b[k] = (int8_t)x);
}

EMULATED emulated_512 _mm512_setzero_ps(void)
{
    return _mm512_set1_epi32(0);
}

EMULATED emulated_512 _mm512_setzero_si512(void)
{
    return _mm512_set1_epi32(0);
}

EMULATED emulated_512 _mm512_broadcast_i32x4(emulated_128 a)
{
    EACH(64, r.c[k] = a.c[k % 16]);
}

// VPSHUFB: inside each 16 bytes; an index with its top bit set gives 0.
EMULATED emulated_512 _mm512_shuffle_epi8(emulated_512 a, emulated_512 index)
{
    EACH(64, r.c[k] = index.c[k] & 0x80 ? 0 : a.c[k / 16 * 16 + (index.c[k] & 15)]);
}

// VPERMT2PS: index bits 0…3 are the element, bit 4 the source.
EMULATED emulated_512 _mm512_permutex2var_ps(emulated_512 a, emulated_512 index, emulated_512 b)
{
    EACH(16, r.f[k] = index.u[k] & 16 ? b.f[index.u[k] & 15] : a.f[index.u[k] & 15]);
}

// VSHUFF32X4: whole quarters, two of each source.
EMULATED emulated_512 _mm512_shuffle_f32x4(emulated_512 a, emulated_512 b, int control)
{
    EACH(16, r.f[k] = (k < 8 ? a : b).f[(control >> k / 4 * 2 & 3) * 4 + k % 4]);
}

// VPERMILPS: inside each quarter.
EMULATED emulated_512 _mm512_permute_ps(emulated_512 a, int control)
{
    EACH(16, r.f[k] = a.f[k / 4 * 4 + (control >> k % 4 * 2 & 3)]);
}

EMULATED float _mm512_cvtss_f32(emulated_512 a)
{
    return a.f[0];
}

// --- integers ----------------------------------------------------------------------------------------
EMULATED emulated_512 _mm512_and_si512(emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = a.u[k] & b.u[k]);
}

EMULATED emulated_512 _mm512_or_si512(emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = a.u[k] | b.u[k]);
}

EMULATED emulated_512 _mm512_xor_si512(emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = a.u[k] ^ b.u[k]);
}

EMULATED emulated_512 _mm512_add_epi32(emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = a.u[k] + b.u[k]);
}

EMULATED emulated_512 _mm512_sub_epi32(emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = a.u[k] - b.u[k]);
}

EMULATED emulated_512 _mm512_mullo_epi32(emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = a.u[k] * b.u[k]);
}

EMULATED emulated_512 _mm512_max_epi32(emulated_512 a, emulated_512 b)
{
    EACH(16, r.i[k] = a.i[k] > b.i[k] ? a.i[k] : b.i[k]);
}

EMULATED int32_t _mm512_reduce_max_epi32(emulated_512 a)
{
    int32_t largest = a.i[0];
    for (int k = 1; k < 16; k++)
        largest = a.i[k] > largest ? a.i[k] : largest;
    return largest;
}

EMULATED int32_t _mm512_reduce_add_epi32(emulated_512 a)
{
    uint32_t sum = 0;
    for (int k = 0; k < 16; k++)
        sum += a.u[k];
    return (int32_t)sum;
}

EMULATED emulated_512 _mm512_srli_epi16(emulated_512 a, unsigned bits)
{
    EACH(32, r.h[k] = (uint16_t)(bits > 15 ? 0 : a.h[k] >> bits));
}

EMULATED emulated_512 _mm512_slli_epi16(emulated_512 a, unsigned bits)
{
    EACH(32, r.h[k] = (uint16_t)(bits > 15 ? 0 : a.h[k] << bits));
}

EMULATED emulated_512 _mm512_srli_epi32(emulated_512 a, unsigned bits)
{
    EACH(16, r.u[k] = bits > 31 ? 0 : a.u[k] >> bits);
}

EMULATED emulated_512 _mm512_slli_epi32(emulated_512 a, unsigned bits)
{
    EACH(16, r.u[k] = bits > 31 ? 0 : a.u[k] << bits);
}

EMULATED emulated_512 _mm512_srai_epi32(emulated_512 a, unsigned bits)
{
    EACH(16, r.i[k] = a.i[k] >> (bits > 31 ? 31 : bits));
}

EMULATED emulated_mask _mm512_cmpgt_epi32_mask(emulated_512 a, emulated_512 b)
{
    emulated_mask mask = 0;
    for (int k = 0; k < 16; k++)
        mask = (emulated_mask)(mask | (a.i[k] > b.i[k]) << k);
    return mask;
}

EMULATED emulated_512 _mm512_mask_blend_epi32(emulated_mask mask, emulated_512 a, emulated_512 b)
{
    EACH(16, r.u[k] = mask >> k & 1 ? b.u[k] : a.u[k]);
}

// VPDPBUSD: four products of an unsigned byte of a and a signed byte of b, added without saturation.
EMULATED emulated_512 _mm512_dpbusd_epi32(emulated_512 sum, emulated_512 a, emulated_512 b)
{
    EACH(16, r.i[k] = sum.i[k] + a.c[4 * k] * b.b[4 * k] + a.c[4 * k + 1] * b.b[4 * k + 1] +
                      a.c[4 * k + 2] * b.b[4 * k + 2] + a.c[4 * k + 3] * b.b[4 * k + 3]);
}

// --- conversions -------------------------------------------------------------------------------------
EMULATED emulated_512 _mm512_cvtepi8_epi32(emulated_128 a)
{
    EACH(16, r.i[k] = (int8_t)a.c[k]);
}

EMULATED emulated_512 _mm512_cvtepu8_epi32(emulated_128 a)
{
    EACH(16, r.i[k] = a.c[k]);
}

EMULATED emulated_512 _mm512_cvtepi32_ps(emulated_512 a)
{
    EACH(16, r.f[k] = (float)a.i[k]);
}

EMULATED emulated_512 _mm512_cvtph_ps(emulated_256 a)
{
    EACH(16, r.f[k] = oct_f16_to_f32(a.h[k]));
}

// VPMOVDW, VPMOVDB: the low bits.
EMULATED emulated_256 _mm512_cvtepi32_epi16(emulated_512 a)
{
    emulated_256 r;
    for (int k = 0; k < 16; k++)
        r.h[k] = (uint16_t)a.u[k];
    return r;
}

EMULATED emulated_128 _mm512_cvtepi32_epi8(emulated_512 a)
{
    emulated_128 r;
    for (int k = 0; k < 16; k++)
        r.c[k] = (uint8_t)a.u[k];
    return r;
}

// VCVTPS2PH with rounding to nearest even.
EMULATED emulated_256 _mm512_cvtps_ph(emulated_512 a, int rounding)
{
    emulated_256 r;
    (void)rounding;
    for (int k = 0; k < 16; k++)
        r.h[k] = oct_f32_to_f16(a.f[k]);
    return r;
}

// --- floating point ----------------------------------------------------------------------------------
EMULATED emulated_512 _mm512_add_ps(emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = a.f[k] + b.f[k]);
}

EMULATED emulated_512 _mm512_sub_ps(emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = a.f[k] - b.f[k]);
}

EMULATED emulated_512 _mm512_mul_ps(emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = a.f[k] * b.f[k]);
}

EMULATED emulated_512 _mm512_div_ps(emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = a.f[k] / b.f[k]);
}

// VMAXPS, VMINPS: the second operand where either is NaN and where both are zero.
EMULATED emulated_512 _mm512_max_ps(emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = a.f[k] > b.f[k] ? a.f[k] : b.f[k]);
}

EMULATED emulated_512 _mm512_min_ps(emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = a.f[k] < b.f[k] ? a.f[k] : b.f[k]);
}

EMULATED emulated_512 _mm512_fmadd_ps(emulated_512 a, emulated_512 b, emulated_512 c)
{
    EACH(16, r.f[k] = fmaf(a.f[k], b.f[k], c.f[k]));
}

EMULATED emulated_512 _mm512_fnmadd_ps(emulated_512 a, emulated_512 b, emulated_512 c)
{
    EACH(16, r.f[k] = fmaf(-a.f[k], b.f[k], c.f[k]));
}

// Only _CMP_LT_OQ is asked for.
EMULATED emulated_mask _mm512_cmp_ps_mask(emulated_512 a, emulated_512 b, int predicate)
{
    emulated_mask mask = 0;
    (void)predicate;
    for (int k = 0; k < 16; k++)
        mask = (emulated_mask)(mask | (a.f[k] < b.f[k]) << k);
    return mask;
}

EMULATED emulated_512 _mm512_mask_blend_ps(emulated_mask mask, emulated_512 a, emulated_512 b)
{
    return _mm512_mask_blend_epi32(mask, a, b);
}

// VDPBF16PS: "FP32 FMA with daz in, ftz out and RNE rounding", the odd product and then the even one.
EMULATED emulated_512 _mm512_dpbf16_ps(emulated_512 sum, emulated_512 a, emulated_512 b)
{
    EACH(16, r.f[k] = fmaf(oct_bf16_to_f32(a.h[2 * k]), oct_bf16_to_f32(b.h[2 * k]),
                           fmaf(oct_bf16_to_f32(a.h[2 * k + 1]), oct_bf16_to_f32(b.h[2 * k + 1]), sum.f[k])));
}

#define OCT_AS_BF16(a) (a)

#endif
