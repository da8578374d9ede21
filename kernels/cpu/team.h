// The thread team of the CPU backend: pinned threads that wait for work, run it together with the caller as
// thread 0, and meet at spin barriers. Waits spin for a bounded time and then yield; idle threads sleep.
#ifndef OCT_KERNELS_CPU_TEAM_H
#define OCT_KERNELS_CPU_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/status.h"

typedef struct oct_team oct_team;
typedef void (*oct_team_work)(void *context, int32_t thread, int32_t threads);

// Creates threads − 1 threads (1024 at most), pinned to cpus [1 … threads − 1] (NULL: not pinned); the caller is pinned
// to cpus[0] by its first run. Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_team_create(oct_team **team, int32_t threads, const int32_t *cpus, bool oversubscribed);
void oct_team_destroy(oct_team *team);

// Runs work on all threads; returns when all are done.
void oct_team_run(oct_team *team, oct_team_work work, void *context);

// Meets all threads of the team; called by each of them inside work, thread 0 being the caller of oct_team_run().
void oct_team_barrier(oct_team *team);

#endif
