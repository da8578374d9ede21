// What the files of the AVX2 table give each other.
#ifndef OCT_KERNELS_CPU_AVX2_H
#define OCT_KERNELS_CPU_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/tables.h"

void oct_avx2_fill_dots(oct_cpu_kernels *table);       // integer encodings
void oct_avx2_fill_float_dots(oct_cpu_kernels *table); // f32, f16, bf16
void oct_avx2_fill_dots_f32(oct_cpu_kernels *table);   // the fp32 form
void oct_avx2_fill_operations(oct_cpu_kernels *table);

#endif
