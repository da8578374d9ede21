// Memory that all ranks of a host see.
//
// One anonymous file per allocation, N bytes a rank, mapped by every rank of the host. It has no name (or
// loses it before the call returns), so nothing is left behind however the ranks die.
#ifndef OCT_RANKS_HOST_MEMORY_H
#define OCT_RANKS_HOST_MEMORY_H

#include <stddef.h>

#include "ranks/world.h"

typedef struct oct_host_memory {
    unsigned char *base;   // mapping of this process; the ranks' parts follow each other
    size_t bytes_per_rank; // as asked for, rounded up to whole pages
    size_t bytes;          // of the whole mapping
} oct_host_memory;

// Allocates `bytes_per_rank` zeroed bytes for every rank of the host. COLLECTIVE over all ranks of the job,
// same size everywhere. Page aligned; its room is really taken, no SIGBUS later. Failures are agreed on
// (every rank returns the same status, rank 0 has said why): OCT_ERR_MACHINE where there is no room.
oct_status oct_host_memory_allocate(oct_host_memory *memory, oct_world *world, size_t bytes_per_rank);

// The part of rank `host_rank` (0 … world->host_size - 1) of this host.
static inline void *oct_host_memory_part(const oct_host_memory *memory, int host_rank)
{
    return memory->base + (size_t)host_rank * memory->bytes_per_rank;
}

// Unmaps it. LOCAL; other ranks keep theirs. Does nothing for a zeroed struct.
void oct_host_memory_free(oct_host_memory *memory);

#endif
