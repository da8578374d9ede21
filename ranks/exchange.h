// The exchange between the ranks of a tensor-parallel group (kernels/exchange.h): through memory that the ranks
// of a host share, or by MPI where the group spans hosts.
#ifndef OCT_RANKS_EXCHANGE_H
#define OCT_RANKS_EXCHANGE_H

#include "kernels/exchange.h"
#include "ranks/world.h"

typedef enum oct_exchange_path {
    OCT_EXCHANGE_AUTO,   // shared memory within one host, MPI otherwise
    OCT_EXCHANGE_MEMORY,
    OCT_EXCHANGE_MPI
} oct_exchange_path;

// Room for `capacity` bytes a rank and round, for a team of `threads` threads on this rank. COLLECTIVE over the world;
// failures are agreed on. Errors: OCT_ERR_MACHINE (no room; shared memory asked for on several hosts).
oct_status oct_exchange_open(oct_exchange *exchange, oct_world *world, size_t capacity, int32_t threads,
                             oct_exchange_path path);
void oct_exchange_close(oct_exchange *exchange);

#endif
