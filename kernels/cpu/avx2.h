// What the files of the AVX2 table give each other.
#ifndef OCT_KERNELS_CPU_AVX2_H
#define OCT_KERNELS_CPU_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/tables.h"

// What merges make of the sum that would be pushed to `place` of a stack (tree_stack.h): the values below are added to
// it from the left, in registers. The result belongs `merges` levels below.
static inline __attribute__((always_inline)) __m256 oct_avx2_merge(const float *place, size_t level, int32_t merges,
                                                                   __m256 sum)
{
    for (; merges > 0; merges--) {
        place -= level;
        sum = _mm256_add_ps(_mm256_loadu_ps(place), sum);
    }
    return sum;
}

void oct_avx2_fill_dots(oct_cpu_kernels *table);       // integer encodings
void oct_avx2_fill_float_dots(oct_cpu_kernels *table); // f32, f16, bf16
void oct_avx2_fill_dots_f32(oct_cpu_kernels *table);   // the fp32 form
void oct_avx2_fill_operations(oct_cpu_kernels *table);

#endif
