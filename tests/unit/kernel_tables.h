// The tables that this machine can run: scalar first, which is the law. AVX-512 always runs in emulation; its
// native form only on a processor that has it, and its absence is said.
#ifndef OCT_TESTS_KERNEL_TABLES_H
#define OCT_TESTS_KERNEL_TABLES_H

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/tables.h"

#define KERNEL_TABLES 5

static inline int kernel_tables(const oct_cpu_kernels *tables[KERNEL_TABLES])
{
    static int said;
    int n = 0;
    tables[n++] = oct_cpu_kernels_scalar();
    if (oct_cpu_kernels_avx2())
        tables[n++] = oct_cpu_kernels_avx2();
    else if (!said)
        print_message("skipped: AVX2 kernels, this processor or build lacks them\n");
    if (oct_cpu_kernels_avx512())
        tables[n++] = oct_cpu_kernels_avx512();
    else if (!said)
        print_message("skipped: native AVX-512 kernels, this processor or build lacks them\n");
    said = 1;
    static oct_cpu_kernels emulated, emulated_bf16;
    if (emulated.name == NULL) {
        emulated = *oct_cpu_kernels_scalar();
        oct_emulated_fill(&emulated);
        emulated.name = "avx512 emulated";
        emulated_bf16 = emulated;
        oct_emulated_fill_native_bf16(&emulated_bf16);
        emulated_bf16.name = "avx512 with bf16 emulated";
    }
    tables[n++] = &emulated;
    tables[n++] = &emulated_bf16;
    return n;
}

#endif
