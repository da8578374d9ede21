// Operations on vectors and attention, AVX-512 table.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/lanes_avx512.h"

#define OCT_VECTOR_FILL oct_avx512_fill_operations
#include "kernels/cpu/vector_operations.h"
