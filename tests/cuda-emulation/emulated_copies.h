// cp.async, mbarrier and cp.async.bulk, emulated. PTX ISA 8.8, 9.7.9.25 (asynchronous copies), 9.7.13.15 (mbarrier).
//
// A copy lands as late as the program allows: a cp.async at the wait for its group, a bulk copy when a thread
// waits for the barrier that it arrives at. Until then its destination is poison, so that reading it too
// early gives NaN.
#ifndef OCT_TESTS_CUDA_EMULATION_EMULATED_COPIES_H
#define OCT_TESTS_CUDA_EMULATION_EMULATED_COPIES_H

#include "cuda_emulation.h"

namespace cuda_emulation
{
static inline void check_alignment(const void *at, unsigned bytes)
{
    if ((uintptr_t)at % bytes)
        die("misaligned access of %u bytes at %p", bytes, at);
}
} // namespace cuda_emulation

// --- cp.async ----------------------------------------------------------------------------------------
// 16 bytes from global to shared memory, of which the first `valid_bytes` are read and the others become 0.
static inline void cp_async16(void *to, const void *from, uint32_t valid_bytes)
{
    cuda_emulation::check_alignment(to, 16);
    cuda_emulation::check_alignment(from, 16);
    cuda_emulation::Thread *thread = cuda_emulation::cur;
    if (thread->copies == cuda_emulation::ASYNCHRONOUS_COPIES_MAX)
        cuda_emulation::die("more than %d cp.async in flight in one thread", thread->copies);
    thread->copy[thread->copies++] = {to, from, 16, valid_bytes, thread->copy_group};
    cuda_emulation::early_copy_check(from, valid_bytes);
    memset(to, 0xff, 16);
}

static inline void cp_async_commit()
{
    cuda_emulation::cur->copy_group++;
}

// Waits until at most `groups` of the thread's last groups are still in flight. The others land here, byte by
// byte, as accesses of this thread.
static inline void cp_async_wait_group(unsigned groups)
{
    cuda_emulation::Thread *thread = cuda_emulation::cur;
    const bool was_hidden = cuda_emulation::landing_begins();
    int left = 0;
    for (int i = 0; i < thread->copies; i++) {
        cuda_emulation::AsynchronousCopy copy = thread->copy[i];
        if (copy.group + groups >= thread->copy_group) {
            thread->copy[left++] = copy;
            continue;
        }
        for (unsigned byte = 0; byte < copy.bytes; byte++)
            ((unsigned char *)copy.to)[byte] =
                byte < copy.valid_bytes ? ((const unsigned char *)copy.from)[byte] : (unsigned char)0;
    }
    cuda_emulation::landing_ends(was_hidden);
    thread->copies = left;
}

template <int GROUPS> static inline void cp_async_wait()
{
    cp_async_wait_group(GROUPS);
}

// --- mbarrier ----------------------------------------------------------------------------------------
namespace cuda_emulation
{
// The word in shared memory. Bytes still expected can go below 0 for a while: biased.
struct __attribute__((may_alias)) MemoryBarrier {
    uint64_t expected_bytes : 23, arrivals : 20, pending : 20, phase : 1;
};
enum { NO_BYTES = 1 << 22 };

CUDA_EMULATION_NO_TSAN static inline MemoryBarrier *memory_barrier(uint64_t *word)
{
    if (*word == ~(uint64_t)0)
        die("an mbarrier is used that nobody has initialised");
    return (MemoryBarrier *)word;
}

CUDA_EMULATION_NO_TSAN static inline void memory_barrier_init(uint64_t *word, uint32_t arrivals)
{
    MemoryBarrier barrier;
    barrier.expected_bytes = NO_BYTES;
    barrier.arrivals = barrier.pending = arrivals;
    barrier.phase = 0;
    *(MemoryBarrier *)word = barrier;
}

// `arrivals` threads arrive, `bytes` more are expected; the last arrival with nothing expected ends the phase.
CUDA_EMULATION_NO_TSAN static inline void memory_barrier_step(uint64_t *word, unsigned arrivals,
                                                              int64_t bytes)
{
    MemoryBarrier *barrier = memory_barrier(word);
    if (arrivals > barrier->pending)
        die("more arrivals at an mbarrier than it expects in a phase: %u", (unsigned)barrier->arrivals);
    barrier->pending -= arrivals;
    barrier->expected_bytes += (uint64_t)bytes;
    if (!barrier->pending && barrier->expected_bytes == NO_BYTES) {
        barrier->pending = barrier->arrivals;
        barrier->phase ^= 1;
    }
    atomic_hook(word, false, true);
}

CUDA_EMULATION_NO_TSAN static inline bool memory_barrier_passed(uint64_t *word, uint32_t parity)
{
    return memory_barrier(word)->phase != (parity & 1);
}

static inline void bulk_copy_land(const BulkCopy &copy)
{
    const bool was_hidden = landing_begins();
    hb_acquire(copy.barrier);
    for (uint32_t i = 0; i < copy.bytes / 8; i++)
        ((uint64_t *)copy.to)[i] = ((const uint64_t *)copy.from)[i];
    hb_release(copy.barrier);
    landing_ends(was_hidden);
    memory_barrier_step(copy.barrier, 0, -(int64_t)copy.bytes);
}
} // namespace cuda_emulation

static inline void mbar_init(uint64_t *barrier, uint32_t arrivals)
{
    cuda_emulation::memory_barrier_init(barrier, arrivals);
}

// fence.mbarrier_init: nothing here sees memory late.
static inline void mbar_fence_init() {}

static inline void mbar_arrive(uint64_t *barrier)
{
    cuda_emulation::hb_release(barrier);
    cuda_emulation::memory_barrier_step(barrier, 1, 0);
}

static inline void mbar_arrive_tx(uint64_t *barrier, uint32_t bytes)
{
    cuda_emulation::hb_release(barrier);
    cuda_emulation::memory_barrier_step(barrier, 1, bytes);
}

// Waits for the end of the phase with the parity.
static inline void mbar_wait(uint64_t *barrier, uint32_t parity)
{
    cuda_emulation::BulkCopy copy;
    while (!cuda_emulation::memory_barrier_passed(barrier, parity)) {
        cuda_emulation::spin();
        if (!cuda_emulation::memory_barrier_passed(barrier, parity) &&
            cuda_emulation::bulk_copy_take(barrier, &copy))
            cuda_emulation::bulk_copy_land(copy);
    }
    cuda_emulation::hb_acquire(barrier);
}

// --- cp.async.bulk -----------------------------------------------------------------------------------
// `bytes`, a multiple of 16, from global to shared memory; they arrive at the barrier.
CUDA_EMULATION_NO_TSAN static inline void cp_bulk(void *to, const void *from, uint32_t bytes,
                                                  uint64_t *barrier)
{
    cuda_emulation::check_alignment(to, 16);
    cuda_emulation::check_alignment(from, 16);
    if (bytes % 16)
        cuda_emulation::die("a bulk copy of %u bytes: they must be a multiple of 16", bytes);
    for (uint32_t i = 0; i < bytes; i++)
        ((volatile unsigned char *)to)[i] = 0xff;
    cuda_emulation::bulk_copy_start({to, from, bytes, barrier});
}

#endif
