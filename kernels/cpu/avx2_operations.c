#include "kernels/cpu/avx2.h"
void oct_avx2_fill_operations(oct_cpu_kernels *table)
{
    (void)table;
}
