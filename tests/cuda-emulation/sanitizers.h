// What the emulation tells the sanitizers, where the program is linked with one. The library itself is
// compiled without them, since it moves stacks and memory under their feet.
//
// AddressSanitizer has to know of every change of stacks, and which bytes behind an object nobody may touch.
// ThreadSanitizer sees every CUDA thread as a fiber; barriers, fences and atomics are told to it as releases
// and acquires at an address, so that a missing one is a data race.
#ifndef OCT_TESTS_CUDA_EMULATION_SANITIZERS_H
#define OCT_TESTS_CUDA_EMULATION_SANITIZERS_H

#include <cstddef>

#define CUDA_EMULATION_WEAK __attribute__((weak))
extern "C" {
CUDA_EMULATION_WEAK void *__tsan_get_current_fiber(void);
CUDA_EMULATION_WEAK void *__tsan_create_fiber(unsigned flags);
CUDA_EMULATION_WEAK void __tsan_switch_to_fiber(void *fiber, unsigned flags);
CUDA_EMULATION_WEAK void __tsan_acquire(void *address);
CUDA_EMULATION_WEAK void __tsan_release(void *address);
CUDA_EMULATION_WEAK void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t bytes);
CUDA_EMULATION_WEAK void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom,
                                                         size_t *bytes);
CUDA_EMULATION_WEAK void __asan_poison_memory_region(const volatile void *at, size_t bytes);
CUDA_EMULATION_WEAK void __asan_unpoison_memory_region(const volatile void *at, size_t bytes);
}

namespace cuda_emulation
{
namespace sanitizers
{
inline bool address()
{
    return __sanitizer_start_switch_fiber != nullptr;
}

inline bool thread()
{
    return __tsan_create_fiber != nullptr;
}

inline void release(void *at)
{
    if (__tsan_release)
        __tsan_release(at);
}

inline void acquire(void *at)
{
    if (__tsan_acquire)
        __tsan_acquire(at);
}

inline void forbid(void *at, size_t bytes)
{
    if (__asan_poison_memory_region)
        __asan_poison_memory_region(at, bytes);
}

inline void allow(void *at, size_t bytes)
{
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(at, bytes);
}
} // namespace sanitizers
} // namespace cuda_emulation

#endif
