// cuda_emulation.h - run CUDA C++ kernel source on the CPU, one fiber per CUDA thread.
// Use:  g++ -std=c++17 -x c++ -Icuemu -I$CUDA/include -include cuda_emulation.h kernel.cu cuda_emulation.cpp
// Types and host prototypes come from NVIDIA's own headers; cuda_emulation.cpp defines the
// runtime functions, so it is linked in place of libcudart.
#pragma once
#define OCT_CUDA_EMULATED 1
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#undef __shared__
#define __shared__ static /* legal only while one block is resident; prefer SHARED() */

#if defined(__SANITIZE_THREAD__)
#define CUDA_EMULATION_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CUDA_EMULATION_TSAN 1
#endif
#endif
#ifdef CUDA_EMULATION_TSAN
#define CUDA_EMULATION_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define CUDA_EMULATION_NO_TSAN
#endif

namespace cuda_emulation {
struct Warp; struct Block; struct Grid;
struct Thread {                 // one CUDA thread
    uint3 tid; unsigned lane;
    Warp* warp; Block* blk;
    void* payload;              // argument block of the warp collective it waits in
    void* sp;                   // saved stack pointer
    unsigned mask, state; const void* op; const char* file; int line;
    bool fenced; int nread; void* reads[4];   // fence bookkeeping for TSan
    int slot; void *tsan, *fake;
    int nasync; unsigned agroup; struct Async { void* dst; const void* src; unsigned bytes, valid, group; } async[64];  // cp.async
};
extern Thread* cur;

// Scheduler entry points (cuda_emulation.cpp).
void block_barrier(const char* op, int id, unsigned count, const char* f, int l);
unsigned warp_collective(unsigned mask, const void* op, void* payload,
                         void (*combine)(Thread** lane, unsigned mask), const char* f, int l);
void grid_barrier(const char* f, int l);
void spin();                                    // call inside every polling loop
void* shared(const void* tag, size_t bytes, size_t align);
void* dyn_shared(size_t* bytes = nullptr);
[[noreturn]] void die(const char* fmt, ...);
cudaError_t submit_kernel(const cudaLaunchConfig_t* c, const void* fn, std::function<void()> body);
cudaError_t submit(cudaStream_t s, std::function<void()> body);   // generic stream operation
void fence();
void hb_release(void* p); void hb_acquire(void* p);   // happens-before edges for TSan
void atomic_hook(void* p, bool rd, bool wr);
bool ptx_body(const void* fn, void** args, const size_t* sizes, size_t n, std::function<void()>* body) __attribute__((weak));
struct SharedTag { char c; };
}
#define CUDA_EMULATION_HERE const char *f_ = __builtin_FILE(), int l_ = __builtin_LINE()

extern uint3 threadIdx, blockIdx;   // plain globals, rewritten at every fiber switch
extern dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

// Per-block shared memory. Under nvcc: #define SHARED(T, n) __shared__ T n
#define SHARED(T, n) static cuda_emulation::SharedTag n##_tag; \
    T& n = *(T*)cuda_emulation::shared(&n##_tag, sizeof(T), alignof(T) > 16 ? alignof(T) : 16)
#define DYN_SHARED(T, n) T* n = (T*)cuda_emulation::dyn_shared()

// ---- barriers and warp collectives -----------------------------------------
static inline void __syncthreads(CUDA_EMULATION_HERE) { cuda_emulation::block_barrier("__syncthreads", 0, 0, f_, l_); }
static inline void __barrier_sync_count(unsigned id, unsigned n, CUDA_EMULATION_HERE) { cuda_emulation::block_barrier("bar.sync", id, n, f_, l_); }
static inline void __syncwarp(unsigned m = ~0u, CUDA_EMULATION_HERE) { cuda_emulation::warp_collective(m, "__syncwarp", nullptr, nullptr, f_, l_); }
namespace cuda_emulation {
template <class T> struct Shfl { T val, out; int kind, arg, width; };
template <class T> CUDA_EMULATION_NO_TSAN void shfl_combine(Thread** lane, unsigned mask) {
    for (unsigned i = 0; i < 32; i++) if (lane[i]) {
        Shfl<T>& s = *(Shfl<T>*)lane[i]->payload;
        int w = s.width, base = (int)i & ~(w - 1), src;
        if (s.kind == 0) src = base + (s.arg & (w - 1));
        else if (s.kind == 1) src = ((int)i & (w - 1)) + s.arg < w ? (int)i + s.arg : (int)i;   // down
        else if (s.kind == 2) src = ((int)i & (w - 1)) - s.arg >= 0 ? (int)i - s.arg : (int)i;  // up
        else { src = (int)i ^ s.arg; if (src >= base + w) src = (int)i; }                      // xor
        if (lane[src]) s.out = ((Shfl<T>*)lane[src]->payload)->val;
        else { unsigned char* p = (unsigned char*)&s.out; for (size_t k = 0; k < sizeof(T); k++) p[k] = 0xff; }
    }
}
template <class T> static inline T shfl(unsigned m, T v, int kind, int arg, int w, const char* f, int l) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "shuffle type");
    Shfl<T> s{v, v, kind, arg, w}; static const char op[] = "__shfl_sync";
    warp_collective(m, op, &s, shfl_combine<T>, f, l); return s.out;
}
struct Vote { unsigned v, out; int kind; };
CUDA_EMULATION_NO_TSAN static inline void vote_combine(Thread** lane, unsigned) {
    unsigned b = 0, act = 0, add = 0, mx = 0, mn = ~0u, orr = 0;
    for (int i = 0; i < 32; i++) if (lane[i]) { unsigned v = ((Vote*)lane[i]->payload)->v; act |= 1u << i;
        b |= (v ? 1u : 0) << i; add += v; orr |= v; if (v > mx) mx = v; if (v < mn) mn = v; }
    for (int i = 0; i < 32; i++) if (lane[i]) { Vote& s = *(Vote*)lane[i]->payload;
        switch (s.kind) { case 0: s.out = b; break; case 1: s.out = b == act; break; case 2: s.out = b != 0; break;
        case 3: s.out = add; break; case 4: s.out = mx; break; case 5: s.out = mn; break; case 6: s.out = orr; break;
        case 7: { unsigned r = 0; for (int j = 0; j < 32; j++) if (lane[j] && ((Vote*)lane[j]->payload)->v == s.v) r |= 1u << j; s.out = r; } } }
}
static inline unsigned vote(unsigned m, unsigned v, int k, const char* f, int l) {
    Vote s{v, 0, k}; static const char op[] = "vote/redux"; warp_collective(m, op, &s, vote_combine, f, l); return s.out; }
}
template <class T> static inline T __shfl_sync(unsigned m, T v, int src, int w = 32, CUDA_EMULATION_HERE) { return cuda_emulation::shfl(m, v, 0, src, w, f_, l_); }
template <class T> static inline T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, CUDA_EMULATION_HERE) { return cuda_emulation::shfl(m, v, 1, (int)d, w, f_, l_); }
template <class T> static inline T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, CUDA_EMULATION_HERE) { return cuda_emulation::shfl(m, v, 2, (int)d, w, f_, l_); }
template <class T> static inline T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, CUDA_EMULATION_HERE) { return cuda_emulation::shfl(m, v, 3, x, w, f_, l_); }
static inline unsigned __ballot_sync(unsigned m, int p, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, p != 0, 0, f_, l_); }
static inline int __all_sync(unsigned m, int p, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, p != 0, 1, f_, l_); }
static inline int __any_sync(unsigned m, int p, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, p != 0, 2, f_, l_); }
static inline unsigned __reduce_add_sync(unsigned m, unsigned v, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, v, 3, f_, l_); }
static inline unsigned __reduce_max_sync(unsigned m, unsigned v, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, v, 4, f_, l_); }
static inline unsigned __reduce_min_sync(unsigned m, unsigned v, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, v, 5, f_, l_); }
static inline unsigned __reduce_or_sync(unsigned m, unsigned v, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, v, 6, f_, l_); }
static inline unsigned __match_any_sync(unsigned m, unsigned v, CUDA_EMULATION_HERE) { return cuda_emulation::vote(m, v, 7, f_, l_); }
[[noreturn]] static inline unsigned __activemask() { cuda_emulation::die("__activemask() has no emulation"); }

// ---- memory ----------------------------------------------------------------
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, T v) { *p = v; }
template <class T> static inline void __stcg(T* p, T v) { *p = v; }
template <class T> static inline void __stwt(T* p, T v) { *p = v; }
static inline void __threadfence() { cuda_emulation::fence(); }
static inline void __threadfence_block() { cuda_emulation::fence(); }
static inline void __threadfence_system() { cuda_emulation::fence(); }
static inline void __nanosleep(unsigned) { cuda_emulation::spin(); }
namespace cuda_emulation {
template <class T, class F> static inline T rmw(T* p, F f) {
    using U = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>; static_assert(sizeof(T) == sizeof(U), "");
    U o = __atomic_load_n((U*)p, __ATOMIC_RELAXED), n; T t;
    do { memcpy(&t, &o, sizeof t); T r = f(t); memcpy(&n, &r, sizeof n); }
    while (!__atomic_compare_exchange_n((U*)p, &o, n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    atomic_hook(p, true, true); return t;
}
template <class T> using same = typename std::common_type<T>::type;
}
template <class T> static inline T atomicAdd(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return (T)(o + v); }); }
template <class T> static inline T atomicSub(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return (T)(o - v); }); }
template <class T> static inline T atomicMax(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return o > v ? o : v; }); }
template <class T> static inline T atomicMin(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return o < v ? o : v; }); }
template <class T> static inline T atomicOr(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return (T)(o | v); }); }
template <class T> static inline T atomicAnd(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return (T)(o & v); }); }
template <class T> static inline T atomicExch(T* p, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T) { return v; }); }
template <class T> static inline T atomicCAS(T* p, cuda_emulation::same<T> c, cuda_emulation::same<T> v) { return cuda_emulation::rmw(p, [=](T o) { return o == c ? v : o; }); }

// ---- arithmetic ------------------------------------------------------------
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
    uint64_t v = (uint64_t)b << 32 | a; unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned)(v >> (8 * ((s >> (4 * i)) & 7)) & 0xff) << (8 * i);
    return r; }
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) { return (unsigned)(((uint64_t)hi << 32 | lo) >> (s & 31)); }
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += (int)(int8_t)(a >> (8 * i)) * (int)(int8_t)(b >> (8 * i));
    return c; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
#define __expf(a) expf(a)     /* glibc declares these names without exporting them */
#define __logf(a) logf(a)
static inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
static inline int __float_as_int(float f) { int u; memcpy(&u, &f, 4); return u; }
static inline float __int_as_float(int u) { float f; memcpy(&f, &u, 4); return f; }
static inline long long clock64() { return 0; }
template <class A, class B> static inline std::common_type_t<A, B> min(A a, B b) { return a < b ? a : b; }
template <class A, class B> static inline std::common_type_t<A, B> max(A a, B b) { return a > b ? a : b; }

// ---- launch: same spelling as cuda_runtime.h, so no <<<>>> in the sources ----
template <class... P, class... A>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* c, void (*k)(P...), A&&... a) {
    std::tuple<std::decay_t<P>...> args(std::forward<A>(a)...);
    std::function<void()> body;
    if (cuda_emulation::ptx_body) { size_t z[] = {sizeof(std::decay_t<P>)...};       // linked with ptxrun.cpp: run nvcc's PTX
        if (std::apply([&](auto&... v) { void* q[] = {(void*)&v...}; return cuda_emulation::ptx_body((const void*)k, q, z, sizeof...(P), &body); }, args)) return cuda_emulation::submit_kernel(c, (const void*)k, body); }
    return cuda_emulation::submit_kernel(c, (const void*)k, [k, args]() { std::apply(k, args); });
}
template <class F> static inline cudaError_t cudaFuncSetAttribute(F* f, cudaFuncAttribute a, int v) { return cudaFuncSetAttribute((const void*)f, a, v); }
template <class F> static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, F f, int bs, size_t sm) { return cudaOccupancyMaxActiveBlocksPerMultiprocessor(n, (const void*)f, bs, sm); }
template <class T> static inline cudaError_t cudaMemcpyToSymbol(T& s, const void* p, size_t n, size_t off = 0) { memcpy((char*)&s + off, p, n); return cudaSuccess; }
template <class T> static inline cudaError_t cudaMalloc(T** p, size_t n) { return cudaMalloc((void**)p, n); }
