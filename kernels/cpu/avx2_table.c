// The AVX2 table.
#include "kernels/cpu/avx2.h"

void oct_avx2_fill(oct_cpu_kernels *table)
{
    table->name = "avx2";
    oct_avx2_fill_dots(table);
    oct_avx2_fill_float_dots(table);
    oct_avx2_fill_dots_f32(table);
    oct_avx2_fill_operations(table);
}
