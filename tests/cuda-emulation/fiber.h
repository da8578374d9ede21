// Stacks and the change from one to another; the scheduler decides when.
#ifndef OCT_TESTS_CUDA_EMULATION_FIBER_H
#define OCT_TESTS_CUDA_EMULATION_FIBER_H

namespace cuda_emulation
{
// Prepares a stack that ends at `top`: the first change to it calls entry(), which must never return.
// Returns the stack pointer to change to.
void *fiber_prepare(char *top, void (*entry)());
// Leaves the running fiber, with its stack pointer in *saved, for the one whose stack pointer is `next`.
void fiber_change(void **saved, void *next);
} // namespace cuda_emulation

#endif
