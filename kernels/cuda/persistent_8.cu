// The persistent kernel for up to 8 columns.
#include "kernels/cuda/persistent_kernel.h"

oct_persistent_kernel_pointer oct_persistent_kernel_8(void)
{
    return oct_persistent_kernel<1, true>;
}
