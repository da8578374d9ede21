// The AVX-512 table.
#include "kernels/cpu/avx512.h"

void oct_avx512_fill(oct_cpu_kernels *table)
{
    table->name = "avx512";
    oct_avx512_fill_dots(table);
    oct_avx512_fill_float_dots(table);
    oct_avx512_fill_dots_f32(table);
    oct_avx512_fill_operations(table);
}
