// Dot products of bf16 by vdpbf16ps, for the AVX-512 table of processors that have it; compiled with its flag.
#include "kernels/cpu/avx512.h"

#include "kernels/cpu/avx512_float.h"

static void dot_bf16(const oct_dot *dot)
{
    float_dot(dot, STEP_NATIVE_BF16);
}

void oct_avx512_fill_native_bf16(oct_cpu_kernels *table)
{
    table->dot[OCT_BF16] = dot_bf16;
}
