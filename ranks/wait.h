// Waiting for other ranks: every loop that waits uses this, so that a lost peer always ends it.
//
//     oct_wait wait = oct_wait_begin(peer);
//     while (!arrived && (status = oct_wait_poll(&wait)) == OCT_OK)
//         ;
//     oct_wait_end(&wait);
//
// A poll spins for a bounded time, then lets everything move that is attached and yields the core (at once where the
// ranks are oversubscribed; while the job is idle it sleeps a little). What a spin costs others: 4 ranks on 2 cores
// that only spin need 4000 µs for a reduction that takes 3 µs with sched_yield. Nothing is written while the wait is
// short. Any thread of a rank may wait: the rank counts as waiting as long as one does.
#ifndef OCT_RANKS_WAIT_H
#define OCT_RANKS_WAIT_H

#include <mpi.h>
#include <stdatomic.h>
#include <stdint.h>

#include "runtime/progress.h"
#include "runtime/spin.h"
#include "runtime/status.h"

typedef struct oct_wait {
    uint32_t polls;
    int from;  // world rank waited for, -1: any
    bool told; // the progress page says that this rank waits
} oct_wait;

// How often a poll spins before it yields (about OCT_SPIN_NS); 0 yields at once. Set by oct_wait_configure().
extern _Atomic uint32_t oct_wait_spins;

// Chooses how waits behave: yield at once where more threads run than cores are there. LOCAL.
void oct_wait_configure(bool oversubscribed);

// Begins to wait for world rank `from` (-1: any or all). LOCAL, any thread.
static inline oct_wait oct_wait_begin(int from)
{
    return (oct_wait){.polls = 0, .from = from, .told = false};
}

// The part of a poll beyond the spin.
oct_status oct_wait_slow(oct_wait *wait);

// One turn of a wait loop. OCT_ERR_LOST once the monitor has found a rank or host lost (the kept failure says
// which): go to oct_world_abort() without another MPI call, within one second.
static inline oct_status oct_wait_poll(oct_wait *wait)
{
    if (wait->polls++ < atomic_load_explicit(&oct_wait_spins, memory_order_relaxed)) {
        oct_spin_pause();
        return OCT_OK;
    }
    return oct_wait_slow(wait);
}

// Ends the wait (what was waited for has come, or the wait is given up).
static inline void oct_wait_end(oct_wait *wait)
{
    if (wait->told)
        oct_progress_wait_end();
}

// Waits for an MPI request with the above. OCT_ERR_LOST as above, or where MPI reports an error.
oct_status oct_wait_request(MPI_Request *request, int from);

// The same for a message to be received; *arrived says what came.
oct_status oct_wait_arrival(MPI_Request *request, int from, MPI_Status *arrived);

// Something that only moves while it is asked to: MPI, a UCX worker. Once attached, it is asked in the slow part of
// every wait of the thread that attached it (no other thread may touch it), whatever that wait is for.
typedef struct oct_wait_mover {
    oct_status (*move)(void *context); // OCT_ERR_LOST (kept) where it finds that a rank is lost: the wait ends with it
    void *context;
    struct oct_wait_mover *next;
} oct_wait_mover;

// LOCAL; `mover` stays the caller's and must live until it is detached, by the same thread.
void oct_wait_attach(oct_wait_mover *mover);
void oct_wait_detach(oct_wait_mover *mover);

#endif
