// The change of stacks: a few instructions on x86-64 (about 2 ns; swapcontext() costs a system call), and
// ucontext elsewhere. Compile with CUDA_EMULATION_UCONTEXT to have the latter on x86-64 too.
#include "fiber.h"

#include <cstdint>

#if defined(__x86_64__) && !defined(CUDA_EMULATION_UCONTEXT)
// System V ABI for x86-64, 3.2.1: a function that is called keeps rbx, rbp and r12 to r15.
extern "C" void cuda_emulation_change_stack(void **saved, void *next);
asm(R"(
.text
.p2align 4
.globl cuda_emulation_change_stack
.type cuda_emulation_change_stack, @function
cuda_emulation_change_stack:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size cuda_emulation_change_stack, . - cuda_emulation_change_stack
)");

namespace cuda_emulation
{
void *fiber_prepare(char *top, void (*entry)())
{
    void **at = (void **)((uintptr_t)top & ~(uintptr_t)15);
    *--at = nullptr; // as if entry() had been called: its frame begins 8 bytes below a multiple of 16
    *--at = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--at = nullptr;
    return at;
}

void fiber_change(void **saved, void *next)
{
    cuda_emulation_change_stack(saved, next);
}
} // namespace cuda_emulation
#else
#include <new>
#include <ucontext.h>

namespace cuda_emulation
{
void *fiber_prepare(char *top, void (*entry)())
{
    enum {
        NAMED = 8192
    }; // makecontext() wants a stack and uses its top; nothing minds when it grows further
    char *context_at = (char *)((uintptr_t)(top - sizeof(ucontext_t)) & ~(uintptr_t)63);
    ucontext_t *context = new (context_at) ucontext_t;
    getcontext(context);
    context->uc_stack.ss_sp = context_at - NAMED;
    context->uc_stack.ss_size = NAMED;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}

void fiber_change(void **saved, void *next)
{
    ucontext_t here; // on the stack that is left, and so alive until somebody comes back
    *saved = &here;
    swapcontext(&here, (ucontext_t *)next);
}
} // namespace cuda_emulation
#endif
