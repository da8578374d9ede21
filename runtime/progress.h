// What a rank is doing, on a page that outlives it.
//
// Every process keeps one oct_progress current with a few relaxed stores. Under a guard (launch/guard.h)
// the page was mapped before the fork, so that the guard can say where its rank died; the monitor
// (ranks/monitor.h) shows a copy of it to the other ranks of the host every 100 ms. Without a guard it is
// ordinary memory of the process. All functions here may be called from any thread at any time; phase and
// step belong to the main thread.
#ifndef OCT_RUNTIME_PROGRESS_H
#define OCT_RUNTIME_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

// The phases of a rank's life. IDLE (nothing asked of the job) and DONE have no deadline.
typedef enum oct_phase {
    OCT_PHASE_INIT,
    OCT_PHASE_OPEN,
    OCT_PHASE_LOAD,
    OCT_PHASE_PREFILL,
    OCT_PHASE_DECODE,
    OCT_PHASE_FINISH,
    OCT_PHASE_IDLE,
    OCT_PHASE_DONE,
    OCT_PHASE_COUNT
} oct_phase;

// In place of a rank: its own device, whose kernels end by themselves when they wait for another rank for too long.
enum { OCT_WAITS_FOR_DEVICE = -2 };

enum { OCT_HOST_NAME_BYTES = 64, OCT_LEFTOVERS = 2, OCT_LEFTOVERS_BYTES = 192 };

typedef struct oct_progress {
    _Alignas(128) _Atomic uint64_t count; // grows with every read, operation and step
    _Atomic int64_t step;                 // step or position within the phase; -1 where there is none yet
    _Atomic int32_t phase;                // oct_phase
    _Atomic int32_t waiting;              // 1 while a thread of it waits for other ranks
    _Atomic int32_t waiting_for;          // world rank that it waits for, -1: any or all; OCT_WAITS_FOR_DEVICE
    _Atomic int32_t rank;                 // world rank, -1 until known
    _Atomic int32_t size;                 // ranks of the job, 0 until known
    _Atomic int32_t goodbye;              // 0, or 1 + the exit code that the rank announced
    _Atomic int32_t monitored;            // 1 from when the monitor watches the rank
    _Atomic int32_t start_deadline_ms;    // longest time to come under the monitor's eyes, 0: any
    char host[OCT_HOST_NAME_BYTES];       // written once, before `size` is set (release)
    char leftovers[OCT_LEFTOVERS][OCT_LEFTOVERS_BYTES]; // path prefixes of files that die with the job, or ""
} oct_progress;

// The page of this process; never NULL.
extern oct_progress *oct_progress_page;

// A second place for step and phase, which the other ranks of the host see at once (the monitor copies the
// rest every 100 ms; a rank that is stopped cannot); never NULL.
typedef struct oct_progress_place {
    _Atomic int64_t step;
    _Atomic int32_t phase;
} oct_progress_place;

extern oct_progress_place *oct_progress_mirror;

// Makes `place` the mirror, with the present step and phase; NULL: none any more. Main thread.
void oct_progress_reflect(oct_progress_place *place);

// Maps a page that a forked child shares with its parent and makes it this process's page.
// LOCAL. Where the mapping fails the private page stays and false comes back.
bool oct_progress_share(void);

// Says who this process is: world rank, ranks of the job, host name (cut to fit).
void oct_progress_identify(int rank, int size, const char *host);

// Announces that the process is about to exit with `code` on purpose.
void oct_progress_goodbye(int code);

// One word for a phase ("decode"), and the phase of a word or -1.
const char *oct_phase_name(int phase);
int oct_phase_parse(const char *name);

// Monotonic clock in nanoseconds.
int64_t oct_now_ns(void);

// Something was finished: a read, an operation, a chunk. Costs one relaxed load and store (one writer, the
// main thread; a bump lost between two threads does no harm).
static inline void oct_progress_bump(void)
{
    oct_progress *page = oct_progress_page;
    uint64_t count = atomic_load_explicit(&page->count, memory_order_relaxed);
    atomic_store_explicit(&page->count, count + 1, memory_order_relaxed);
}

// A new step (position, tensor, token) within the phase; counts as progress.
static inline void oct_progress_step(int64_t step)
{
    atomic_store_explicit(&oct_progress_page->step, step, memory_order_relaxed);
    atomic_store_explicit(&oct_progress_mirror->step, step, memory_order_relaxed);
    oct_progress_bump();
}

// A new phase, at step 0; counts as progress.
static inline void oct_progress_phase(oct_phase phase)
{
    atomic_store_explicit(&oct_progress_page->phase, (int32_t)phase, memory_order_relaxed);
    atomic_store_explicit(&oct_progress_mirror->phase, (int32_t)phase, memory_order_relaxed);
    oct_progress_step(0);
}

// A thread begins or ends waiting for rank `from` (-1: any; OCT_WAITS_FOR_DEVICE). Wait loops use ranks/wait.h, which
// calls these; call them directly only around a blocking call that waits for other ranks.
static inline void oct_progress_wait_begin(int from)
{
    atomic_store_explicit(&oct_progress_page->waiting_for, from, memory_order_relaxed);
    atomic_store_explicit(&oct_progress_page->waiting, 1, memory_order_relaxed);
}

static inline void oct_progress_wait_end(void)
{
    atomic_store_explicit(&oct_progress_page->waiting, 0, memory_order_relaxed);
    oct_progress_bump();
}

#endif
