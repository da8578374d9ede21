// Commands that one process can do alone: under a launcher rank 0 does them, the others wait and leave with
// the same exit code.
#ifndef OCT_LAUNCH_RANK_ZERO_H
#define OCT_LAUNCH_RANK_ZERO_H

#include "runtime/status.h"

// Runs work(context) once: in this process where it is alone (MPI is not started then), else in rank 0.
// COLLECTIVE over the launch. Returns the exit code.
int oct_rank_zero_run(oct_status (*work)(void *context), void *context);

// Leaves with a failure that every rank has met alike, such as a wrong command line: under a launcher the
// ranks meet first, or the launcher would end rank 0 before it has said why. COLLECTIVE over the launch.
// Returns the exit code.
int oct_rank_zero_leave(oct_status status);

// Threads that this process may use well for reading or encoding: the processors that it may run on, up to 16.
// LOCAL.
int oct_file_threads(void);

#endif
