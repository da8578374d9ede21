// One CUDA thread is one fiber; all fibers of a process run in one thread of the system, and change only where a
// CUDA thread waits. This is what kernels reach through the functions of CUDA C++ (device_functions.h,
// warp_functions.h), through the emulated instructions and through the PTX interpreter.
#ifndef OCT_TESTS_CUDA_EMULATION_SCHEDULER_H
#define OCT_TESTS_CUDA_EMULATION_SCHEDULER_H

#include <cstddef>
#include <cstdint>
#include <functional>

#include <cuda_runtime_api.h>

// Marks a function that plays the hardware: ThreadSanitizer must not take its accesses for the calling thread's.
#if defined(__SANITIZE_THREAD__)
#define CUDA_EMULATION_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CUDA_EMULATION_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#endif
#endif
#ifndef CUDA_EMULATION_NO_TSAN
#define CUDA_EMULATION_NO_TSAN
#endif

// Last parameters of every function that can wait: where the kernel called it.
#define CUDA_EMULATION_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

extern uint3 threadIdx, blockIdx; // of the running thread: rewritten at every change of fibers
extern dim3 blockDim, gridDim;    // of the running grid
static constexpr int warpSize = 32;

namespace cuda_emulation
{
struct Warp;
struct Block;
struct Grid;

// A cp.async that has been issued and not yet waited for.
struct AsynchronousCopy {
    void *to;
    const void *from;
    unsigned bytes, valid_bytes; // what lies behind the valid ones becomes 0
    unsigned group;
};

enum { ASYNCHRONOUS_COPIES_MAX = 64, FENCED_READS_MAX = 4 };

struct Thread {
    uint3 index; // threadIdx
    unsigned lane;
    Warp *warp;
    Block *block;
    void *payload; // operands of the warp collective that it waits in
    // Where it waits, for messages.
    const char *file;
    int line;
    // The fiber.
    unsigned state;
    int slot;
    void *stack_pointer, *sanitizer_fiber, *fake_stack;
    // Fences order what came before them with the atomics after them, and atomics before them with what follows.
    bool fenced;
    int reads;
    void *read[FENCED_READS_MAX];
    // Of a chained kernel, and has not waited for those in front of it; those that do, in the order of their coming.
    bool early;
    Thread *next_waiting;
    int copies;
    unsigned copy_group;
    AsynchronousCopy copy[ASYNCHRONOUS_COPIES_MAX];
};

// The running thread. Outside kernels it is a thread without a warp.
extern Thread *cur;

// Ends the process with code 86 and a message: what, in which thread, and where all threads of the grid wait.
[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

// For what the host calls: ends the process (die) where it is another thread of the host than the first that called.
void check_host_thread();

// Waits in barrier `id` (0…15) of the block until `count` threads have come; 0 is all that have not left the
// kernel, and then all must wait at the same place of the source.
void block_barrier(const char *operation, int id, unsigned count, const char *file, int line);

// Waits until all lanes of `mask` that have not left the kernel have come with the same mask and the same
// `operation` (compared as a pointer). The last one calls combine(lanes, mask), where lanes[i] is null for a lane
// that takes no part, and payload its operands; without combine it is a barrier that orders memory. Returns the
// lanes that took part.
unsigned warp_collective(unsigned mask, const void *operation, void *payload,
                         void (*combine)(Thread **lanes, unsigned mask), const char *file, int line);

// Waits until all threads of a cooperative launch have come.
void grid_barrier(const char *file, int line);

// griddepcontrol.wait: from here on a thread of a chained kernel may touch what kernels in front of it write or read
// (chained_launches.h). It goes on when all others wait, here or elsewhere.
void wait_for_predecessors(const char *file, int line);

// To be called where a copy starts that lands later: ends the process where the calling thread may not yet ask for
// this memory.
void early_copy_check(const void *from, size_t bytes);

// To be called by every load that a polling loop can be made of: lets the other threads run.
void spin();

// Memory of the block: zeroed never, poisoned with NaN, `bytes` long and not a byte more.
void *shared(const void *tag, size_t bytes, size_t alignment);
void *dyn_shared(size_t *bytes = nullptr);

// The order of memory as CUDA's model has it: a fence before a relaxed write releases, a fence after a relaxed
// read acquires. atomic_hook() follows every atomic access.
void fence();
void atomic_hook(void *at, bool reads, bool writes);
// Order that the hardware makes by itself (barriers in memory).
void hb_release(void *at);
void hb_acquire(void *at);

// Bulk copies in flight. They are not ordered with anything and land when a thread waits for their barrier.
struct BulkCopy {
    void *to;
    const void *from;
    uint32_t bytes;
    uint64_t *barrier;
};
void bulk_copy_start(const BulkCopy &copy);
// A copy lands, and then has landed: it reads what has been asked for, whoever lets it.
bool landing_begins();
void landing_ends(bool was_hidden);
bool bulk_copy_take(const uint64_t *barrier, BulkCopy *copy); // any that will arrive at the barrier

// Queues a kernel, or any work, on a stream; the last one after *chain too, which it then becomes (NCCL's calls
// run in the order of their issue whatever their streams).
struct Chain;
cudaError_t submit_kernel(const cudaLaunchConfig_t *configuration, const void *function, std::function<void()> body);
cudaError_t submit(cudaStream_t stream, std::function<void()> body, Chain *chain = nullptr);

// Called for every launch that is accepted, captured ones too, where it is not null.
extern void (*launch_watcher)(const void *function, dim3 blocks, dim3 threads, size_t dynamic_bytes);

// Defined where the PTX interpreter is linked (ptx_registry.h). ptx_body() is called for every launch, with the
// compiled kernel in *body, and puts its PTX in that place; ptx_run() runs every grid, by grid_run().
void ptx_body(const void *function, void **arguments, const size_t *bytes, size_t count, std::function<void()> *body)
    __attribute__((weak));
void ptx_run(Grid *grid) __attribute__((weak));

// What has happened since the start of the process.
struct Statistics {
    uint64_t threads, switches, barriers, collectives, blocks, launches;
    uint64_t bulk_bytes; // that bulk copies have read
};
extern Statistics statistics;
} // namespace cuda_emulation

// The addresses behind a multicast address, one per rank; returns how many. An error where no window holds it.
extern "C" int cuda_emulation_multicast_peers(const void *multicast, void **peers);

#endif
