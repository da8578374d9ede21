// Which tables this build has; set by kernels/CMakeLists.txt. Each fill function begins with a table of the
// scalar functions and replaces what its instruction set does faster.
#ifndef OCT_KERNELS_CPU_TABLES_H
#define OCT_KERNELS_CPU_TABLES_H

#include "kernels/cpu/kernels.h"

#ifndef OCT_HAVE_AVX2
#define OCT_HAVE_AVX2 0
#endif
#ifndef OCT_HAVE_AVX512
#define OCT_HAVE_AVX512 0
#endif
// For tests only: the AVX-512 table is its emulation in plain C (tests/emulation/avx512.h).
#ifndef OCT_EMULATE_AVX512
#define OCT_EMULATE_AVX512 0
#endif

void oct_avx2_fill(oct_cpu_kernels *table);
void oct_avx512_fill(oct_cpu_kernels *table);
void oct_avx512_fill_native_bf16(oct_cpu_kernels *table); // then, where the processor has vdpbf16ps

// In builds with tests, and with OCTET_EMULATE_AVX512.
void oct_emulated_fill(oct_cpu_kernels *table);
void oct_emulated_fill_native_bf16(oct_cpu_kernels *table);

#endif
