// Is this launch fit? Checks that need no MPI call, so that they can come before MPI_Init.
#ifndef OCT_RANKS_LAUNCH_CHECK_H
#define OCT_RANKS_LAUNCH_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/status.h"

// What a launcher's environment variables say about this process.
typedef struct oct_launch {
    const char *launcher; // "Open MPI", "Slurm", "PMI", or NULL where no launcher is seen
    const char *variable; // the variable that tells the number of processes
    int rank;             // 0 where unknown
    int size;             // 1 where unknown
    int local_size;       // processes on this host; 0 where unknown
    bool has_pmix;        // the launcher offers PMIx, which Open MPI needs
    bool has_pmi;         // the launcher offers PMI, which MPICH needs (some know PMIx, too)
} oct_launch;

// Reads the environment of this process. LOCAL.
oct_launch oct_launch_read(void);

// Before MPI_Init: can this MPI (its MPI_Get_library_version text) find the other processes? LOCAL, pure.
// OCT_ERR_MACHINE with the mend: `srun` without PMIx, or the launcher of another MPI; MPI_Init would abort or
// start many processes that each believe to be alone.
oct_status oct_launch_check_start(const oct_launch *launch, const char *mpi_library);

// After MPI_Init: does MPI agree with the launcher about the number of processes, and are there not too many?
// LOCAL, pure. OCT_ERR_MACHINE with the mend.
oct_status oct_launch_check_size(const oct_launch *launch, int mpi_size, const char *mpi_library);

// Is there room in /dev/shm for what MPI itself puts there (Open MPI: 4 MiB a process)? LOCAL, pure.
oct_status oct_launch_check_shm(uint64_t free_bytes, int local_size, const char *host);

// Free bytes of /dev/shm; UINT64_MAX where there is none. LOCAL.
uint64_t oct_shm_free_bytes(void);

// Do the ranks of this host fit into its memory? `bytes_per_rank` of weights, cache and buffers for the
// largest of `ranks` ranks, `available_bytes` from oct_memory_available_bytes(). LOCAL, pure.
// OCT_ERR_MACHINE.
oct_status oct_launch_check_memory(uint64_t bytes_per_rank, int ranks, uint64_t available_bytes,
                                   const char *host);

// What this host can still give: the smaller of MemAvailable and what is left of the limits of the process's
// cgroups (v1 and v2; page cache that can be dropped counts as left). LOCAL. UINT64_MAX where nothing tells.
uint64_t oct_memory_available_bytes(void);

#endif
