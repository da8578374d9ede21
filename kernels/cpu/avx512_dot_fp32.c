// The fp32 form of the dot products, AVX-512 table: the compiler's vectors of the shared body.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/dot_fp32.h"

OCT_FP32_DEFINE_FILL(oct_avx512_fill_dots_f32)
