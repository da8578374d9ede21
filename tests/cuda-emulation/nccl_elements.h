// Sums and the like over arrays of NCCL's types.
#ifndef OCT_TESTS_CUDA_EMULATION_NCCL_ELEMENTS_H
#define OCT_TESTS_CUDA_EMULATION_NCCL_ELEMENTS_H

#include <cstddef>

#include <nccl.h>

namespace cuda_emulation
{
size_t nccl_element_bytes(ncclDataType_t type);
// Reduces `ranks` arrays of `count` elements, which lie one behind the other at `all`, into `result`.
//
// NCCL promises no order. CUDA_EMULATION_NCCL_SUM=fp32, the default, sums in the order of ranks and rounds to
// the type once; =ring begins each part of the array at another rank and rounds at every step, as a ring of
// ranks does: results that depend on either are not reproducible on a device.
void nccl_reduce_elements(void *result, const void *all, size_t count, int ranks, ncclDataType_t type,
                          ncclRedOp_t operation);
} // namespace cuda_emulation

#endif
