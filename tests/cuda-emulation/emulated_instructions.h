// The instructions that CUDA C++ has no spelling for, emulated: what kernels/cuda/instructions.h is to nvcc.
// "Parallel Thread Execution ISA", 8.8, tells what each does; names follow its mnemonics.
#ifndef OCT_TESTS_CUDA_EMULATION_EMULATED_INSTRUCTIONS_H
#define OCT_TESTS_CUDA_EMULATION_EMULATED_INSTRUCTIONS_H

#include <cuda_bf16.h>

#include "cuda_emulation.h"
#include "emulated_copies.h"
#include "emulated_matrix.h"

// --- loads, stores, atomics --------------------------------------------------------------------------
// ld.global.nc: 16 bytes of read-only memory that will not be needed again.
static inline uint4 ld_nc_v4(const void *at)
{
    cuda_emulation::check_alignment(at, 16);
    return *(const uint4 *)at;
}

static inline uint32_t ld_acquire_gpu(const uint32_t *at)
{
    cuda_emulation::spin();
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static inline uint32_t ld_acquire_sys(const uint32_t *at)
{
    return ld_acquire_gpu(at);
}

static inline void st_release_gpu(uint32_t *at, uint32_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
    cuda_emulation::atomic_hook(at, false, true);
}

static inline void st_release_sys(uint32_t *at, uint32_t value)
{
    st_release_gpu(at, value);
}

static inline uint32_t atom_add_acq_rel_gpu(uint32_t *at, uint32_t value)
{
    uint32_t before = __atomic_fetch_add(at, value, __ATOMIC_ACQ_REL);
    cuda_emulation::atomic_hook(at, false, true);
    return before;
}

// %globaltimer: nanoseconds.
static inline uint64_t globaltimer()
{
    return (uint64_t)cuda_emulation::now_ns();
}

// griddepcontrol: emulated kernels begin when those in front of them in the stream have ended, and until it waits no
// thread of a chained one may touch what others may not have done yet.
static inline void launch_dependents()
{
}

static inline void wait_for_predecessors(CUDA_EMULATION_HERE)
{
    cuda_emulation::wait_for_predecessors(file, line);
}

static inline void prefetch_l2(const void *)
{
}

// --- arithmetic --------------------------------------------------------------------------------------
// ex2.approx.ftz: the device's result differs from this one in its last bits.
static inline float ex2(float x)
{
    return exp2f(x);
}

// The sum over a warp by five exchanges with the lanes 16, 8, 4, 2, 1 away; here as one rendezvous, in the same order.
CUDA_EMULATION_NO_TSAN static inline void warp_sum_combine(cuda_emulation::Thread **lanes, unsigned)
{
    float sum[32], next[32];
    for (int i = 0; i < 32; i++)
        sum[i] = lanes[i] ? *(float *)lanes[i]->payload : __uint_as_float(~0u);
    for (int distance = 16; distance; distance /= 2) {
        for (int i = 0; i < 32; i++)
            next[i] = sum[i] + sum[i ^ distance];
        memcpy(sum, next, sizeof sum);
    }
    for (int i = 0; i < 32; i++)
        if (lanes[i])
            *(float *)lanes[i]->payload = sum[i];
}

static inline float warp_sum(float value, CUDA_EMULATION_HERE)
{
    static const char operation[] = "warp_sum";
    cuda_emulation::warp_collective(~0u, operation, &value, warp_sum_combine, file, line);
    return value;
}

// --- multicast (NVLink SHARP) ------------------------------------------------------------------------
// multimem.ld_reduce.add.acc::f32 of eight bf16: the sum over all ranks' copies, here in the order of ranks.
static inline uint4 mm_ld_reduce_bf16x8(const void *multicast)
{
    void *peers[64];
    int count = cuda_emulation_multicast_peers(multicast, peers);
    float sum[8] = {};
    for (int rank = 0; rank < count; rank++)
        for (int i = 0; i < 4; i++) {
            uint32_t pair = ((uint32_t *)peers[rank])[i];
            sum[2 * i] += __uint_as_float(pair << 16);
            sum[2 * i + 1] += __uint_as_float(pair & 0xffff0000u);
        }
    uint32_t result[4];
    for (int i = 0; i < 4; i++) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(sum[2 * i], sum[2 * i + 1]);
        memcpy(&result[i], &pair, sizeof pair);
    }
    return make_uint4(result[0], result[1], result[2], result[3]);
}

// multimem.st: to all ranks' copies.
static inline void mm_st_v4(void *multicast, uint4 value)
{
    void *peers[64];
    int count = cuda_emulation_multicast_peers(multicast, peers);
    for (int rank = 0; rank < count; rank++)
        *(uint4 *)peers[rank] = value;
}

#endif
