// Dot products of floating-point encodings, AVX-512 table.
#include "kernels/cpu/avx512.h"

#include "kernels/cpu/avx512_float.h"

static void dot_f32(const oct_dot *dot)
{
    float_dot(dot, STEP_F32);
}

static void dot_f16(const oct_dot *dot)
{
    float_dot(dot, STEP_F16);
}

static void dot_bf16(const oct_dot *dot)
{
    float_dot(dot, STEP_BF16);
}

void oct_avx512_fill_float_dots(oct_cpu_kernels *table)
{
#define FILL(encoding, name) table->dot[encoding] = dot_##name;
    OCT_FLOAT_ENCODINGS(FILL)
}
