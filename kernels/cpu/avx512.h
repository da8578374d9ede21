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

void oct_avx512_fill(oct_cpu_kernels *table);
void oct_avx512_fill_dots(oct_cpu_kernels *table);       // integer encodings
void oct_avx512_fill_float_dots(oct_cpu_kernels *table); // f32, f16, bf16
void oct_avx512_fill_dots_f32(oct_cpu_kernels *table);   // the fp32 form
void oct_avx512_fill_operations(oct_cpu_kernels *table);

#endif
