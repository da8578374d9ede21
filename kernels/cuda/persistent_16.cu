// The persistent kernel for 9 to 16 columns.
#include "kernels/cuda/persistent_kernel.h"

oct_persistent_kernel_pointer oct_persistent_kernel_16(void)
{
    return oct_persistent_kernel<2, true>;
}
