// Operations on vectors and attention, AVX2 table.
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/lanes_avx2.h"

#define OCT_VECTOR_FILL oct_avx2_fill_operations
#include "kernels/cpu/vector_operations.h"
