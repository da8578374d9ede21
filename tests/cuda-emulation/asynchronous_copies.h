// The bulk copies that are in flight, as the scheduler sees them.
#ifndef OCT_TESTS_CUDA_EMULATION_ASYNCHRONOUS_COPIES_H
#define OCT_TESTS_CUDA_EMULATION_ASYNCHRONOUS_COPIES_H

#include "scheduler.h"

namespace cuda_emulation
{
// At the end of a grid: an error where a copy is still in flight, into memory that is about to go.
void bulk_copies_check_empty();
} // namespace cuda_emulation

#endif
