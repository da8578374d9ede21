// emulated_instructions.h - every instruction that CUDA C++ has no spelling for, emulated.
#ifndef OCT_TESTS_EMULATED_INSTRUCTIONS_H
#define OCT_TESTS_EMULATED_INSTRUCTIONS_H
#include <cuda_bf16.h>
#include "cuda_emulation.h"
#ifndef DEVFN
#define DEVFN static __device__ __forceinline__
#endif
// The same five butterfly steps in the same order, as one rendezvous instead of five.
CUDA_EMULATION_NO_TSAN static inline void warp_sum_combine(cuda_emulation::Thread** lane, unsigned) {
    float v[32], n[32]; for (int i = 0; i < 32; i++) v[i] = lane[i] ? *(float*)lane[i]->payload : __uint_as_float(~0u);
    for (int o = 16; o; o >>= 1) { for (int i = 0; i < 32; i++) n[i] = v[i] + v[i ^ o]; for (int i = 0; i < 32; i++) v[i] = n[i]; }
    for (int i = 0; i < 32; i++) if (lane[i]) *(float*)lane[i]->payload = v[i]; }
DEVFN float warp_sum(float v, CUDA_EMULATION_HERE) { static const char op[] = "warp_sum"; cuda_emulation::warp_collective(~0u, op, &v, warp_sum_combine, f_, l_); return v; }
DEVFN void align_check(const void* p, unsigned n) { if ((uintptr_t)p % n) cuda_emulation::die("misaligned %u-byte access at %p", n, p); }
DEVFN uint4 ld_nc_v4(const void* p) { align_check(p, 16); return *(const uint4*)p; }
DEVFN uint32_t ld_acquire_gpu(const uint32_t* p) { cuda_emulation::spin(); return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
DEVFN uint32_t ld_acquire_sys(const uint32_t* p) { return ld_acquire_gpu(p); }
DEVFN void st_release_gpu(uint32_t* p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); cuda_emulation::atomic_hook(p, false, true); }
DEVFN void st_release_sys(uint32_t* p, uint32_t v) { st_release_gpu(p, v); }
DEVFN uint32_t atom_add_acq_rel_gpu(uint32_t* p, uint32_t v) { uint32_t o = __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); cuda_emulation::atomic_hook(p, false, true); return o; }
DEVFN float ex2(float x) { return exp2f(x); }
DEVFN void cp_async16(void* dst, const void* src, uint32_t valid) {       // lands at the wait, poison until then
    align_check(dst, 16); align_check(src, 16); cuda_emulation::Thread* t = cuda_emulation::cur;
    if (t->nasync == 64) cuda_emulation::die("more than 64 cp.async in flight in one thread");
    t->async[t->nasync++] = {dst, src, 16, valid, t->agroup}; for (int i = 0; i < 16; i++) ((unsigned char*)dst)[i] = 0xff; }
DEVFN void cp_async_commit() { cuda_emulation::cur->agroup++; }
template <int N> DEVFN void cp_async_wait() {
    cuda_emulation::Thread* t = cuda_emulation::cur; int k = 0;
    for (int i = 0; i < t->nasync; i++) { auto& a = t->async[i];
        if (a.group + N < t->agroup) for (unsigned b = 0; b < a.bytes; b++) ((unsigned char*)a.dst)[b] = b < a.valid ? ((const unsigned char*)a.src)[b] : 0;
        else t->async[k++] = a; }
    t->nasync = k; }
struct LdMat { const void* row; uint32_t r[4]; };
CUDA_EMULATION_NO_TSAN static inline void ldmatrix_combine(cuda_emulation::Thread** lane, unsigned) {
    for (int l = 0; l < 32; l++) for (int m = 0; m < 4; m++)
        ((LdMat*)lane[l]->payload)->r[m] = ((const uint32_t*)((LdMat*)lane[m * 8 + l / 4]->payload)->row)[l % 4]; }
DEVFN void ldmatrix_x4(uint32_t r[4], const void* row, CUDA_EMULATION_HERE) {
    align_check(row, 16); LdMat s{row, {}}; static const char op[] = "ldmatrix"; unsigned touch = 0;
    for (int i = 0; i < 4; i++) touch += ((const volatile uint32_t*)row)[i];   // so that ASan and TSan see the read
    cuda_emulation::warp_collective(~0u, op, &s, ldmatrix_combine, f_, l_); (void)touch;
    for (int i = 0; i < 4; i++) r[i] = s.r[i]; }
struct Mma { const uint32_t *a, *b; float* d; };
CUDA_EMULATION_NO_TSAN static inline void mma_combine(cuda_emulation::Thread** lane, unsigned) {
    float A[16][16], B[16][8];
    auto half = [](uint32_t v, int h) { return __uint_as_float(h ? v & 0xffff0000u : v << 16); };
    for (int l = 0; l < 32; l++) { Mma* m = (Mma*)lane[l]->payload; int g = l >> 2, t = l & 3;
        for (int h = 0; h < 2; h++) {
            A[g][t * 2 + h] = half(m->a[0], h); A[g + 8][t * 2 + h] = half(m->a[1], h); A[g][t * 2 + 8 + h] = half(m->a[2], h); A[g + 8][t * 2 + 8 + h] = half(m->a[3], h);
            B[t * 2 + h][g] = half(m->b[0], h); B[t * 2 + 8 + h][g] = half(m->b[1], h); } }
    for (int l = 0; l < 32; l++) { Mma* m = (Mma*)lane[l]->payload; int g = l >> 2, t = l & 3;
        for (int i = 0; i < 4; i++) { float s = m->d[i]; for (int k = 0; k < 16; k++) s += A[g + (i >> 1) * 8][k] * B[k][t * 2 + (i & 1)]; m->d[i] = s; } } }
DEVFN void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], CUDA_EMULATION_HERE) {
    Mma s{a, b, d}; static const char op[] = "mma.sync"; cuda_emulation::warp_collective(~0u, op, &s, mma_combine, f_, l_); }
// mbarrier word: phase(1) | pending(20) | expected(20) | tx(23, biased)
struct MBar { uint64_t tx : 23, expected : 20, pending : 20, phase : 1; };
enum { TX0 = 1 << 22 };
DEVFN MBar& mb(uint64_t* b) { return *(MBar*)b; }
CUDA_EMULATION_NO_TSAN static inline void mb_step(uint64_t* p, int arrive, int tx) {
    MBar& b = mb(p); if (arrive && !b.pending) cuda_emulation::die("mbarrier: more arrivals than expected"); b.pending -= arrive; b.tx += tx;
    if (!b.pending && b.tx == TX0) { b.pending = b.expected; b.phase ^= 1; } cuda_emulation::atomic_hook(p, false, true); }
struct Bulk { void* dst; const void* src; uint32_t bytes; uint64_t* bar; };
static Bulk bulk_[256]; static int nbulk_;
CUDA_EMULATION_NO_TSAN static inline int bulk_take(uint64_t* bar, Bulk* out) { for (int i = 0; i < nbulk_; i++) if (bulk_[i].bar == bar) { *out = bulk_[i]; bulk_[i] = bulk_[--nbulk_]; return 1; } return 0; }
CUDA_EMULATION_NO_TSAN static inline bool mb_phase(uint64_t* p, uint32_t parity) { return mb(p).phase != (parity & 1); }
CUDA_EMULATION_NO_TSAN static inline void mbar_init_(uint64_t* b, uint32_t n) { MBar v; v.tx = TX0; v.expected = v.pending = n; v.phase = 0; mb(b) = v; }
DEVFN void mbar_init(uint64_t* b, uint32_t n) { mbar_init_(b, n); }
DEVFN void mbar_fence_init() {}
DEVFN void mbar_arrive(uint64_t* b) { cuda_emulation::hb_release(b); mb_step(b, 1, 0); }
DEVFN void mbar_arrive_tx(uint64_t* b, uint32_t n) { cuda_emulation::hb_release(b); mb_step(b, 1, (int)n); }
DEVFN void mbar_wait(uint64_t* b, uint32_t parity) {
    Bulk c; while (!mb_phase(b, parity)) { cuda_emulation::spin();
        if (!mb_phase(b, parity) && bulk_take(b, &c)) {                  // a copy lands only when somebody waits for it
            cuda_emulation::hb_acquire(b); for (uint32_t i = 0; i < c.bytes / 8; i++) ((uint64_t*)c.dst)[i] = ((const uint64_t*)c.src)[i];
            cuda_emulation::hb_release(b); mb_step(b, 0, -(int)c.bytes); } }
    cuda_emulation::hb_acquire(b); }
CUDA_EMULATION_NO_TSAN static inline void cp_bulk(void* dst, const void* src, uint32_t n, uint64_t* bar) {
    align_check(dst, 16); align_check(src, 16); if (n % 16) cuda_emulation::die("cp.async.bulk size %u", n); if (nbulk_ == 256) cuda_emulation::die("bulk queue full");
    for (uint32_t i = 0; i < n; i++) ((volatile unsigned char*)dst)[i] = 0xff;
    cuda_emulation::hb_release(bar); bulk_[nbulk_++] = {dst, src, n, bar}; }
// multicast addresses: cuda_emulation maps one window to the peers' copies
extern "C" int cuda_emulation_multicast_peers(const void* mc, void** peer);
DEVFN uint4 mm_ld_reduce_bf16x8(const void* p) {
    void* q[64]; int n = cuda_emulation_multicast_peers(p, q); float s[8] = {}; uint4 r; uint32_t* o = (uint32_t*)&r;
    for (int i = 0; i < n; i++) for (int k = 0; k < 4; k++) { uint32_t v = ((uint32_t*)q[i])[k]; s[2 * k] += __uint_as_float(v << 16); s[2 * k + 1] += __uint_as_float(v & 0xffff0000u); }
    for (int k = 0; k < 4; k++) { __nv_bfloat162 h = __floats2bfloat162_rn(s[2 * k], s[2 * k + 1]); memcpy(&o[k], &h, 4); }
    return r; }
DEVFN void mm_st_v4(void* p, uint4 v) { void* q[64]; int n = cuda_emulation_multicast_peers(p, q); for (int i = 0; i < n; i++) *(uint4*)q[i] = v; }
#endif
