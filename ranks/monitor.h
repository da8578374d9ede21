// The monitor: ends a job in which a rank is stuck.
//
// Each rank has a thread that every 100 ms shows a copy of the rank's progress page, with a heartbeat, to the
// ranks of its host (ranks/host_memory.h) and judges theirs (ranks/watch.h). It makes no MPI call. A verdict
// is printed once a host, oct_wait_poll() then returns OCT_ERR_LOST, and a process that has not left by
// itself one second later is ended with exit code 5.
//
// Between hosts there is no channel of its own yet: a host whose ranks all wait in vain for the deadline plus
// two seconds ends the job without being able to name the rank.
#ifndef OCT_RANKS_MONITOR_H
#define OCT_RANKS_MONITOR_H

#include "ranks/world.h"

// Starts the monitor of this rank with world->options. COLLECTIVE over all ranks; failures are agreed on.
oct_status oct_monitor_start(oct_world *world);

// Stops and frees it. LOCAL; after this the other ranks no longer expect anything of this one.
void oct_monitor_stop(oct_world *world);

// True once a verdict has been found, on any rank of the host.
bool oct_monitor_found_loss(void);

// A word that becomes 1 when a verdict has been found, whatever the main thread is doing then: for those who wait and
// cannot ask (kernels on a device). NULL: none any more. LOCAL, main thread; one word a process.
void oct_monitor_attach_word(_Atomic uint32_t *word);

// True for the first caller of the host's ranks, which then speaks for the host. LOCAL.
bool oct_monitor_may_speak(struct oct_monitor *monitor);

#endif
