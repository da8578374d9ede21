// The slow part of waiting, what moves meanwhile, and waiting for MPI requests.
#include "ranks/wait.h"

#include <sched.h>
#include <time.h>

#include "ranks/monitor.h"

enum { IDLE_YIELDS = 20000, IDLE_SLEEP_NS = 200000 };

_Atomic uint32_t oct_wait_spins; // 0 in start-up, when nobody knows yet how many threads share a core

static _Thread_local oct_wait_mover *movers; // of this thread

void oct_wait_attach(oct_wait_mover *mover)
{
    mover->next = movers;
    movers = mover;
}

void oct_wait_detach(oct_wait_mover *mover)
{
    oct_wait_mover **link = &movers;
    while (*link != NULL && *link != mover)
        link = &(*link)->next;
    if (*link != NULL)
        *link = mover->next;
}

void oct_wait_configure(bool oversubscribed)
{
    atomic_store(&oct_wait_spins, oversubscribed ? 0 : oct_spins(OCT_SPIN_NS));
}

oct_status oct_wait_slow(oct_wait *wait)
{
    oct_progress_wait_begin(wait->from); // again each time: another thread's wait may have ended meanwhile
    wait->told = true;
    if (oct_monitor_found_loss())
        return OCT_ERR_LOST;
    for (const oct_wait_mover *mover = movers; mover != NULL; mover = mover->next) {
        const oct_status status = mover->move(mover->context);
        if (status != OCT_OK)
            return status;
    }
    int phase = atomic_load_explicit(&oct_progress_page->phase, memory_order_relaxed);
    if (phase == OCT_PHASE_IDLE && wait->polls > IDLE_YIELDS) {
        wait->polls = IDLE_YIELDS;
        nanosleep(&(struct timespec){.tv_nsec = IDLE_SLEEP_NS}, NULL);
    } else {
        sched_yield();
    }
    return OCT_OK;
}

oct_status oct_wait_request(MPI_Request *request, int from)
{
    return oct_wait_arrival(request, from, MPI_STATUS_IGNORE);
}

oct_status oct_wait_arrival(MPI_Request *request, int from, MPI_Status *arrived)
{
    oct_wait wait = oct_wait_begin(from);
    oct_status status = OCT_OK;
    int done = 0;
    while (status == OCT_OK) {
        int code = MPI_Test(request, &done, arrived);
        if (code != MPI_SUCCESS) {
            char text[MPI_MAX_ERROR_STRING] = "";
            int length = 0;
            MPI_Error_string(code, text, &length);
            status = oct_fail(OCT_ERR_LOST, "MPI failed while waiting for other ranks: %s", text);
        } else if (done) {
            break;
        } else {
            status = oct_wait_poll(&wait);
        }
    }
    oct_wait_end(&wait);
    return status;
}
