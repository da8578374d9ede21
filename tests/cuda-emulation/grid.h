// What the scheduler, the barriers and collectives, and shared memory know together of a running grid.
#ifndef OCT_TESTS_CUDA_EMULATION_GRID_H
#define OCT_TESTS_CUDA_EMULATION_GRID_H

#include <memory>

#include "scheduler.h"

namespace cuda_emulation
{
enum { WARP_LANES = 32, BLOCK_THREADS_MAX = 1024, BLOCK_WARPS_MAX = 32 };
enum { COLLECTIVES_MAX = 8, BARRIERS_MAX = 16, SHARED_OBJECTS_MAX = 16, SHARED_ALIGNMENT = 1024 };
enum { THREAD_READY, THREAD_WAITS, THREAD_DONE };

// Barriers and collectives are used again and again: ThreadSanitizer gets one address for the even uses and one for
// the odd ones, or a thread that is early for the next use would order those that are late in leaving this one.
struct Order {
    unsigned uses;
    char address[2];
};

// A warp collective that some lanes wait in.
struct Collective {
    unsigned mask, arrived; // mask 0: free
    const void *operation;
    void (*combine)(Thread **lanes, unsigned mask);
    Order order;
};

struct Warp {
    Thread *lane[WARP_LANES]; // null: never there, or has left the kernel
    unsigned live;
    Collective collective[COLLECTIVES_MAX];
};

struct Barrier {
    int arrived;
    const char *file; // of the first that came
    int line;
    Thread *waits[BLOCK_THREADS_MAX];
    Order order;
};

struct SharedObject {
    const void *tag;
    void *at;
    size_t bytes;
};

struct Block {
    uint3 index; // blockIdx
    Grid *grid;
    int live, threads;
    Barrier *barrier[BARRIERS_MAX];
    Warp warp[BLOCK_WARPS_MAX];
    Thread *thread[BLOCK_THREADS_MAX];
    int shared_objects;
    SharedObject shared_object[SHARED_OBJECTS_MAX];
    void *dynamic; // dynamic shared memory
};

struct Front;

struct Grid {
    const void *function; // the compiled kernel
    dim3 blocks, threads;
    size_t dynamic_bytes;
    bool cooperative, chained;
    std::shared_ptr<Front> front; // chained_launches.h; null: nobody watches
    std::function<void()> body;
    size_t live_blocks;
    // The grid barrier.
    size_t arrived;
    Thread **waits;
    Order order;
    char start, end; // addresses that order the launch before and the host after all threads
};

// scheduler.cpp
void grid_run(Grid *grid);                    // to its end
void thread_wait(const char *file, int line); // the running thread, until another one makes it ready
void thread_make_ready(Thread *thread);
void thread_yield_at_random(); // the last to come to a barrier is not always the first to go on
void progress_note();          // something has changed that a polling thread may wait for
void report_waiting_threads();

// collectives.cpp
Barrier *barrier_create();
void barrier_destroy(Barrier *barrier);
void block_leave(Thread *thread); // the thread leaves the kernel: who waits for it alone goes on

// shared_memory.cpp
void *memory_never_used(size_t bytes); // for ThreadSanitizer, which remembers what happened at an address
void *shared_memory_create(size_t bytes);
void shared_memory_destroy(void *at, size_t bytes);
} // namespace cuda_emulation

#endif
