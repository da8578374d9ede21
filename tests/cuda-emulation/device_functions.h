// Memory and arithmetic of CUDA C++ that kernels use without assembly.
#ifndef OCT_TESTS_CUDA_EMULATION_DEVICE_FUNCTIONS_H
#define OCT_TESTS_CUDA_EMULATION_DEVICE_FUNCTIONS_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "scheduler.h"
#include "settings.h"

// --- loads, stores, fences ---------------------------------------------------------------------------
template <class T> static inline T __ldg(const T *at)
{
    return *at;
}

template <class T> static inline T __ldcs(const T *at)
{
    return *at;
}

template <class T> static inline T __ldcg(const T *at)
{
    return *at;
}

template <class T> static inline void __stcs(T *at, T value)
{
    *at = value;
}

template <class T> static inline void __stcg(T *at, T value)
{
    *at = value;
}

template <class T> static inline void __stwt(T *at, T value)
{
    *at = value;
}

static inline void __threadfence()
{
    cuda_emulation::fence();
}

static inline void __threadfence_block()
{
    cuda_emulation::fence();
}

static inline void __threadfence_system()
{
    cuda_emulation::fence();
}

static inline void __nanosleep(unsigned)
{
    cuda_emulation::spin();
}

// A clock of 1 GHz.
static inline long long clock64()
{
    return cuda_emulation::now_ns();
}

// --- atomics: relaxed, as in CUDA --------------------------------------------------------------------
namespace cuda_emulation
{
template <class T, class Change> static inline T atomic_change(T *at, Change change)
{
    using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    static_assert(sizeof(T) == sizeof(Word), "atomics of 4 and 8 bytes");
    Word before = __atomic_load_n((Word *)at, __ATOMIC_RELAXED), after;
    T value;
    do {
        memcpy(&value, &before, sizeof value);
        T changed = change(value);
        memcpy(&after, &changed, sizeof changed);
    } while (
        !__atomic_compare_exchange_n((Word *)at, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    atomic_hook(at, true, true);
    return value;
}

template <class T> using Same = typename std::common_type<T>::type; // takes no part in the deduction of T
} // namespace cuda_emulation

template <class T> static inline T atomicAdd(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return (T)(old + value); });
}

template <class T> static inline T atomicSub(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return (T)(old - value); });
}

template <class T> static inline T atomicMax(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return old > value ? old : value; });
}

template <class T> static inline T atomicMin(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return old < value ? old : value; });
}

template <class T> static inline T atomicOr(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return (T)(old | value); });
}

template <class T> static inline T atomicAnd(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return (T)(old & value); });
}

template <class T> static inline T atomicExch(T *at, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T) { return value; });
}

template <class T>
static inline T atomicCAS(T *at, cuda_emulation::Same<T> expected, cuda_emulation::Same<T> value)
{
    return cuda_emulation::atomic_change(at, [=](T old) { return old == expected ? value : old; });
}

// --- integers ----------------------------------------------------------------------------------------
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector)
{
    uint64_t bytes = (uint64_t)high << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
    return result;
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
    return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}

static inline int __dp4a(int a, int b, int sum)
{
    for (int i = 0; i < 4; i++)
        sum += (int)(int8_t)(a >> (8 * i)) * (int)(int8_t)(b >> (8 * i));
    return sum;
}

static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}

// --- floating point ----------------------------------------------------------------------------------
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline float __fsub_rn(float a, float b)
{
    return a - b;
}

static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}

static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}

static inline float __frcp_rn(float a)
{
    return 1.0f / a;
}

static inline float __fdividef(float a, float b)
{
    return a / b;
}

static inline float rsqrtf(float a)
{
    return 1.0f / sqrtf(a);
}

// As macros: glibc declares functions of these names without having them.
#define __expf(x) expf(x)
#define __logf(x) logf(x)

static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int __float_as_int(float value)
{
    return (int)__float_as_uint(value);
}

static inline float __int_as_float(int bits)
{
    return __uint_as_float((unsigned)bits);
}

template <class A, class B> static inline std::common_type_t<A, B> min(A a, B b)
{
    return a < b ? a : b;
}

template <class A, class B> static inline std::common_type_t<A, B> max(A a, B b)
{
    return a > b ? a : b;
}

#endif
