// What a backend needs of the other ranks: one primitive. Every rank publishes some bytes and, when all have,
// can read everybody's. It serves the reduction (nodes of the tree), the embedding (rows) and the candidates.
// ranks/ provides it (a shared window within a host, MPI between hosts).
#ifndef OCT_KERNELS_EXCHANGE_H
#define OCT_KERNELS_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

typedef struct oct_exchange {
    void *context;
    int32_t ranks, rank;
    size_t capacity; // bytes that one rank can publish at a time

    // Where this rank writes its next contribution: `capacity` bytes, aligned to 64. Any thread may call it
    // between two rounds.
    void *(*slot)(void *context);

    // Main thread: publishes the first bytes_of_rank[rank] bytes of the slot and waits until all ranks have
    // published theirs. Every rank passes the same sizes. COLLECTIVE. Errors: OCT_ERR_LOST.
    oct_status (*round)(void *context, const size_t *bytes_of_rank);

    // After a round, until this rank begins the next one: the contribution of a rank. (Afterwards a faster rank may
    // write the one after that into the same place.) Any thread.
    const void *(*peer)(void *context, int32_t rank);
} oct_exchange;

#endif
