// What a backend needs of the other ranks: one primitive. Every rank publishes some bytes and, when all have,
// can read everybody's. It serves the reduction (nodes of the tree), the embedding (rows) and the candidates.
// ranks/ provides it (a shared window within a host, MPI between hosts).
#ifndef OCT_KERNELS_EXCHANGE_H
#define OCT_KERNELS_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

enum { OCT_EXCHANGE_PARTS = 4 }; // of one round

// A round is held by the main thread alone (`round`, or in parts) or by all threads of the team (`team_round`); in the
// same order on every rank. Between two rounds the team meets.
typedef struct oct_exchange {
    void *context;
    int32_t ranks, rank;
    size_t capacity; // bytes that one rank can publish at a time

    // Where this rank writes its next contribution: `capacity` bytes, aligned to 64. For the calling thread of the
    // team, between two rounds.
    void *(*slot)(void *context, int32_t thread);

    // Main thread: publishes the first bytes_of_rank[rank] bytes of the slot and waits until all ranks have
    // published theirs. Every rank passes the same sizes. COLLECTIVE. Errors: OCT_ERR_LOST.
    oct_status (*round)(void *context, const size_t *bytes_of_rank);

    // The same in parts, at most OCT_EXCHANGE_PARTS: begin_part publishes bytes [offset_of_rank[rank], +
    // bytes_of_rank[rank]) of the slot and comes back at once, so that the rest can be computed meanwhile;
    // finish_parts waits for all of them and ends the round. NULL where team_round is there.
    oct_status (*begin_part)(void *context, const size_t *offset_of_rank, const size_t *bytes_of_rank);
    oct_status (*finish_parts)(void *context);

    // Every thread of the team: publishes what this thread wrote to the slot and waits until the same thread of every
    // other rank has published its part (all threads of a rank that has another number of them). Nobody waits for the
    // slowest thread. COLLECTIVE over the ranks' threads. Errors: OCT_ERR_LOST. NULL where only the main thread can
    // hold a round.
    oct_status (*team_round)(void *context, int32_t thread);

    // After a round, until this rank begins the next one: the contribution of a rank, for the calling thread of the
    // team. (Afterwards a faster rank may write the one after that into the same place.)
    const void *(*peer)(void *context, int32_t thread, int32_t rank);
} oct_exchange;

#endif
