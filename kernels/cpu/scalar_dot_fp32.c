// The fp32 form of the dot products, scalar table.
#include "kernels/cpu/dot_fp32.h"
#include "kernels/cpu/scalar.h"

OCT_FP32_DEFINE_FILL(oct_scalar_fill_dots_f32)
