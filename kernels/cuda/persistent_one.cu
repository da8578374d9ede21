// The persistent kernel for up to 8 columns whose queries of a key-value head fit one tile.
#include "kernels/cuda/persistent_kernel.h"

oct_persistent_kernel_pointer oct_persistent_kernel_one(void)
{
    return oct_persistent_kernel<1, false>;
}
