// The job: who the ranks are, on which hosts, how they agree and how they leave.
//
// Only the main thread of a rank calls these. A failure that one rank sees in a collective phase (start-up,
// load) is agreed on before anyone leaves (oct_world_agree); once a peer may be gone nobody calls MPI any
// more (oct_world_abort).
#ifndef OCT_RANKS_WORLD_H
#define OCT_RANKS_WORLD_H

#include <mpi.h>
#include <stddef.h>

#include "ranks/wait.h"
#include "runtime/progress.h"
#include "runtime/status.h"

typedef struct oct_world_options {
    double deadline_s;       // no progress for so long while decoding ends the job; 0: never
    double start_deadline_s; // the same in start-up and load
} oct_world_options;

// The options for `--deadline SECONDS`: where it was not given 10 s while decoding and 600 s before; a given
// value holds for every phase.
oct_world_options oct_world_options_default(void);
oct_world_options oct_world_options_deadline(double seconds);

struct oct_monitor;

typedef struct oct_world {
    MPI_Comm all;       // every rank of the job (a duplicate of MPI_COMM_WORLD, errors return)
    MPI_Comm host;      // the ranks of this host, in order of their world rank
    int rank, size;     // in `all`
    int host_rank;      // in `host`
    int host_size;      // ranks of this host
    int host_index;     // which host this is, in order of the hosts' lowest ranks
    int host_count;     // hosts of the job
    int *host_of_rank;  // [size] host index of a world rank
    int *ranks_of_host; // [host_size] world rank of a rank of this host
    char (*host_names)[OCT_HOST_NAME_BYTES]; // [host_count]
    oct_world_options options;
    struct oct_monitor *monitor;
    oct_wait_mover mpi_mover; // every wait lets MPI move
} oct_world;

// Starts MPI (MPI_THREAD_FUNNELED, checked), fills `world`, starts the monitor. COLLECTIVE over all
// processes of the launch; call once a process. Sets who speaks: ranks other than 0 become OCT_QUIET.
// A failure has been agreed on and printed: leave with oct_world_finish() and the status as exit code.
// OCT_ERR_MACHINE: the launch is unfit (see ranks/launch_check.h); OCT_ERR_USAGE: a malformed OCTET_FAULT.
oct_status oct_world_init(oct_world *world, const oct_world_options *options);

// How long a kernel of a device waits while decoding before it gives up by itself: a little longer than the deadline,
// since the monitor can say more of a rank that is stuck; 0: for ever. LOCAL, pure.
uint64_t oct_world_patience_ns(const oct_world *world);

// Makes the ranks agree on the worst status of any of them. COLLECTIVE over `all`. Each rank gives its own
// status (its text is the kept failure, oct_failure_text()); every rank gets the worst one, and rank 0 prints
// its text once, with the rank and the host where it began (the lowest of several); the kept failure is then
// cleared. One 8-byte allreduce where all is well. Where a peer is lost meanwhile the process ends (exit 5).
oct_status oct_world_agree(oct_world *world, oct_status status);

// Reduces `count` values over all ranks, in place. COLLECTIVE over `all`; it polls, so that the monitor sees who
// waits, unlike a blocking call of MPI. Where a peer is lost meanwhile the process ends (exit 5).
void oct_world_allreduce(oct_world *world, void *values, int count, MPI_Datatype type, MPI_Op operation);

// Leaves the job in good order: waits for every rank, ends MPI and the monitor, frees what `world` owns.
// COLLECTIVE; works after a failed oct_world_init() too. Host memory must be freed before.
void oct_world_finish(oct_world *world);

// Ends this process at once with `status` as exit code, without a call to MPI: for when peers may be gone or
// do not listen. Rescues (below), prints the kept failure once a host, says goodbye to the guard, flushes stdout. The
// launcher then ends the other ranks. LOCAL; `world` may be NULL.
_Noreturn void oct_world_abort(oct_world *world, oct_status status);

// What a process that ends before its time still has to do: oct_world_abort() and the monitor call rescue(context)
// first, each on its own thread and one at a time; it makes no MPI call and comes back within a second. NULL: nothing
// any more; that waits for a call that is under way. LOCAL; oct_world_rescue() is for the monitor.
void oct_world_set_rescue(void (*rescue)(void *context), void *context);
void oct_world_rescue(void);

// Name and version of the MPI library, on one line, into text [bytes]. LOCAL; allowed before oct_world_init().
void oct_world_mpi_library(char *text, size_t bytes);

#endif
