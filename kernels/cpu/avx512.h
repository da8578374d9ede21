// What the files of the AVX-512 table give each other, and the instructions: the processor's, or for tests
// their emulation in plain C (OCT_EMULATED: the same files compiled a second time, under other names).
#ifndef OCT_KERNELS_CPU_AVX512_H
#define OCT_KERNELS_CPU_AVX512_H

#include "kernels/cpu/tables.h"

#ifdef OCT_EMULATED
#include "tests/emulation/avx512.h"
#define oct_avx512_fill oct_emulated_fill
#define oct_avx512_fill_dots oct_emulated_fill_dots
#define oct_avx512_fill_float_dots oct_emulated_fill_float_dots
#define oct_avx512_fill_native_bf16 oct_emulated_fill_native_bf16
#define oct_avx512_fill_dots_f32 oct_emulated_fill_dots_f32
#define oct_avx512_fill_operations oct_emulated_fill_operations
#else
#include <immintrin.h>
#define OCT_AS_BF16(a) ((__m512bh)(a))
#endif

// What merges make of the sum that would be pushed to `place` of a stack (tree_stack.h): the values below are added to
// it from the left, in registers. The result belongs `merges` levels below.
static inline __attribute__((always_inline)) __m512 oct_avx512_merge(const float *place, size_t level, int32_t merges,
                                                                     __m512 sum)
{
    for (; merges > 0; merges--) {
        place -= level;
        sum = _mm512_add_ps(_mm512_loadu_ps(place), sum);
    }
    return sum;
}

void oct_avx512_fill(oct_cpu_kernels *table);
void oct_avx512_fill_dots(oct_cpu_kernels *table);       // integer encodings
void oct_avx512_fill_float_dots(oct_cpu_kernels *table); // f32, f16, bf16
void oct_avx512_fill_dots_f32(oct_cpu_kernels *table);   // the fp32 form
void oct_avx512_fill_operations(oct_cpu_kernels *table);

#endif
