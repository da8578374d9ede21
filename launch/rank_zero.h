// Commands that one process can do alone: under a launcher rank 0 does them, the others wait and leave with
// the same exit code.
#ifndef OCT_LAUNCH_RANK_ZERO_H
#define OCT_LAUNCH_RANK_ZERO_H

#include "runtime/status.h"

// Runs work(context) once: in this process where it is alone (MPI is not started then), else in rank 0.
// COLLECTIVE over the launch. Returns the exit code.
int oct_rank_zero_run(oct_status (*work)(void *context), void *context);

// Threads that this process may use well for reading: the processors that it may run on, up to 16. LOCAL.
int oct_reading_threads(void);

#endif
