// Every instruction that CUDA C++ has no spelling for, as PTX (PTX ISA 8.8; the section is named beside each). The
// emulation brings the same functions in emulated_instructions.h. Names follow the mnemonics.
#ifndef OCT_KERNELS_CUDA_INSTRUCTIONS_H
#define OCT_KERNELS_CUDA_INSTRUCTIONS_H

#include <stdint.h>

#ifdef OCT_CUDA_EMULATED
#include "emulated_instructions.h"
#else

// The sum over a warp by a butterfly: lanes 16 apart first, 1 apart last. Every lane gets the same bits.
OCT_DEVICE float warp_sum(float value)
{
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        value += __shfl_xor_sync(OCT_WARP_MASK, value, offset);
    return value;
}

OCT_DEVICE uint32_t smem_u32(const void *shared)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// 16 bytes of weights that nobody writes, read once: not kept in L1 (9.7.9.8, ld).
OCT_DEVICE uint4 ld_nc_v4(const void *global)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(global));
    return v;
}

// Loads and stores that order memory, for flags between blocks (gpu) and between devices and the host (sys) (9.7.9.8,
// 9.7.9.11, 9.7.13.5).
OCT_DEVICE uint32_t ld_acquire_gpu(const uint32_t *global)
{
    uint32_t v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(global) : "memory");
    return v;
}

OCT_DEVICE uint32_t ld_acquire_sys(const uint32_t *global)
{
    uint32_t v;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(global) : "memory");
    return v;
}

OCT_DEVICE void st_release_gpu(uint32_t *global, uint32_t value)
{
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(global), "r"(value) : "memory");
}

OCT_DEVICE void st_release_sys(uint32_t *global, uint32_t value)
{
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(global), "r"(value) : "memory");
}

OCT_DEVICE uint32_t atom_add_acq_rel_gpu(uint32_t *global, uint32_t value)
{
    uint32_t before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(global), "r"(value)
                 : "memory");
    return before;
}

// A clock of nanoseconds, the same on all multiprocessors; it may stand still for a microsecond (10, special
// registers).
OCT_DEVICE uint64_t globaltimer(void)
{
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

// 16 bytes from global to shared memory, of which `valid` are read and the rest are zero (9.7.9.25.3, cp.async).
OCT_DEVICE void cp_async16(void *shared, const void *global, uint32_t valid)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(smem_u32(shared)), "l"(global),
                 "r"(valid)
                 : "memory");
}

OCT_DEVICE void cp_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> OCT_DEVICE void cp_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four 8×8 matrices of 16-bit values; lane 8 m + i gives the address of row i of matrix m (9.7.14.5.15, ldmatrix).
OCT_DEVICE void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_u32(row))
                 : "memory");
}

// d [16][8] += a [16][16] · b [16][8], bf16 and fp32 (9.7.14.5.8). With g = lane / 4, t = lane % 4, low half first:
//   a[0]: row g, columns 2t, 2t + 1         a[1]: row g + 8, the same
//   a[2]: row g, columns 2t + 8, 2t + 9     a[3]: row g + 8, the same
//   b[0]: column g, rows 2t, 2t + 1    b[1]: column g, rows 2t + 8, 2t + 9
//   d[0], d[1]: row g, columns 2t, 2t + 1    d[2], d[3]: row g + 8, the same
OCT_DEVICE void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// mbarriers in shared memory (9.7.13.15): `arrivals` a phase; a wait for parity p returns when the phase p is over.
OCT_DEVICE void mbar_init(uint64_t *barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(smem_u32(barrier)), "r"(arrivals) : "memory");
}

OCT_DEVICE void mbar_fence_init(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

OCT_DEVICE void mbar_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(smem_u32(barrier)) : "memory");
}

// Arrives, and expects so many bytes of bulk copies in this phase.
OCT_DEVICE void mbar_arrive_tx(uint64_t *barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(smem_u32(barrier)), "r"(bytes) : "memory");
}

OCT_DEVICE void mbar_wait(uint64_t *barrier, uint32_t parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
                 "@done bra over;\n"
                 "bra again;\n"
                 "over:\n"
                 "}" ::"r"(smem_u32(barrier)),
                 "r"(parity)
                 : "memory");
}

// A bulk copy to shared memory that reports to a barrier; addresses and size are multiples of 16 (9.7.9.25.4).
OCT_DEVICE void cp_bulk(void *shared, const void *global, uint32_t bytes, uint64_t *barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     smem_u32(shared)),
                 "l"(global), "r"(bytes), "r"(smem_u32(barrier))
                 : "memory");
}

// Asks for the 128 bytes around `at` in the L2 cache (9.7.9.15).
OCT_DEVICE void prefetch_l2(const void *at)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}

// Of kernels that are launched as dependents of the one in front of them (9.7.13.13, griddepcontrol): allows those
// behind this one to begin when all its blocks have said so or ended; waits until those in front have ended, and
// their memory is seen. Without such a launch neither does anything.
OCT_DEVICE void launch_dependents(void)
{
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

OCT_DEVICE void wait_for_predecessors(void)
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Multicast memory of NVLink switches: the fp32 sum of eight bf16 of every device; a store to every device (9.7.9.13).
OCT_DEVICE uint4 mm_ld_reduce_bf16x8(const void *multicast)
{
    uint4 v;
    asm volatile("multimem.ld_reduce.relaxed.sys.global.add.acc::f32.v4.bf16x2 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(multicast)
                 : "memory");
    return v;
}

OCT_DEVICE void mm_st_v4(void *multicast, uint4 v)
{
    asm volatile("multimem.st.relaxed.sys.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(multicast), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

#endif

// a + b of two pairs of bf16 whose sums are exact: so no rounding, and none of the differences in it, is seen
// (9.7.4.2, fma with bf16x2: the factor is 1).
OCT_DEVICE uint32_t add_exact_bf16x2(uint32_t a, uint32_t b)
{
#ifdef OCT_CUDA_EMULATED
    const float low = __uint_as_float(a << 16) + __uint_as_float(b << 16);
    const float high = __uint_as_float(a & 0xffff0000u) + __uint_as_float(b & 0xffff0000u);
    return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);
#else
    uint32_t sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b));
    return sum;
#endif
}

// bits & mask | more, in one instruction: ptxas makes two of it where mask and more are constants (9.7.8.6, lop3; 0xea
// is the table of a & b | c).
OCT_DEVICE uint32_t and_or(uint32_t bits, uint32_t mask, uint32_t more)
{
#ifdef OCT_CUDA_EMULATED
    return (bits & mask) | more;
#else
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(bits), "r"(mask), "r"(more));
    return result;
#endif
}

// Two fp32 as a pair of bf16, the first in the low half (9.7.9.21, cvt).
OCT_DEVICE uint32_t to_bf16x2(float low, float high)
{
#ifdef OCT_CUDA_EMULATED
    const float values[2] = {low, high};
    uint32_t pair = 0;
    for (int i = 0; i < 2; i++) {
        const uint32_t bits = __float_as_uint(values[i]);
        const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        pair |= ((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded) << 16 * i;
    }
    return pair;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

// An f16 as fp32: exact (9.7.9.21, cvt).
OCT_DEVICE float from_f16(uint32_t half)
{
#ifdef OCT_CUDA_EMULATED
    const uint32_t exponent = half >> 10 & 31u, mantissa = half & 0x3ffu;
    const float denormal = static_cast<float>(mantissa) * 0x1p-24f;
    const uint32_t bits = exponent == 31u  ? 0x7f800000u | mantissa << 13
                          : exponent != 0u ? (exponent + 112u) << 23 | mantissa << 13
                                           : __float_as_uint(denormal);
    return __uint_as_float((half & 0x8000u) << 16 | bits);
#else
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<uint16_t>(half)));
    return value;
#endif
}

#endif
