// What a backend with devices of their own needs of the other ranks: memory that gathers move, and gathers that are
// enqueued on a stream, so that they can be captured in a graph with the kernels around them. Nothing here waits (but
// see `waits`), and no host thread stands between two ranks while a graph runs. ranks/ provides it (NCCL); a stream is
// whatever the backend and ranks/ both mean by one (cudaStream_t). Tokens, candidates and other small things of the
// host travel by oct_exchange instead.
#ifndef OCT_KERNELS_DEVICE_EXCHANGE_H
#define OCT_KERNELS_DEVICE_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/partition.h"
#include "runtime/status.h"

// Memory of this rank's device. Where `symmetric`, kernels of this rank may read and write that of the other ranks at
// of_rank[…] (and order it with release and acquire at system scope): reductions inside kernels need no gather then.
typedef struct oct_device_memory {
    void *own;                    // = of_rank[own rank]
    void *of_rank[OCT_MAX_RANKS]; // [ranks]; NULL but for the own where not symmetric
    size_t bytes;
    bool symmetric;
} oct_device_memory;

// A word in the host's memory that kernels which wait for other ranks look at: WAITS: they wait; LEAVES, said by the
// host (a peer is lost): they leave without what they waited for; GAVE_UP + rank, said by a kernel: it has left because
// what it waited for from that rank did not come in time.
enum { OCT_DEVICE_WAITS = 0, OCT_DEVICE_LEAVES = 1, OCT_DEVICE_GAVE_UP = 2 };

typedef struct oct_device_exchange {
    void *context;
    int32_t ranks, rank;
    bool waits; // gather() waits for the stream and for the other ranks, and cannot be captured

    // Where memory is symmetric and kernels shall exchange by themselves (kernels/cuda/peers.h); abort and leave are
    // NULL where they cannot. The word is never written by the backend's host.
    uint32_t *abort; // as above, pinned, at this address for the device too

    // Allocates memory for gathers, aligned to 256, zeroed. COLLECTIVE, the same bytes on every rank, in the same
    // order; never while a stream is captured. The exchange owns it and frees it when it is closed. Errors:
    // OCT_ERR_MACHINE.
    oct_status (*allocate)(void *context, size_t bytes, oct_device_memory *memory);

    // Enqueues on the stream: every rank's `bytes` at from go to to [ranks][bytes] on every rank, in order of rank.
    // Both lie in memory of allocate(), `from` not in what is written; what the stream does before is seen, what it
    // does afterwards sees all of it, and may overwrite `from`. May be captured; when captured nothing is sent.
    // COLLECTIVE, the same sizes in the same order on every rank; fastest where `from` and `to` lie at the same places
    // of the same memory on every rank. Graphs that hold it are destroyed before the exchange is closed. Errors:
    // OCT_ERR_MACHINE, OCT_ERR_LOST.
    oct_status (*gather)(void *context, void *stream, const void *from, void *to, size_t bytes);

    // Polled by the main thread while it waits for the stream; yields the core, and tells the other ranks that this one
    // waits (for its own device where kernels exchange by themselves, otherwise for them), until
    // oct_progress_wait_end() (runtime/progress.h), which the caller calls when the stream has ended.
    // Errors: OCT_ERR_LOST where a peer is gone or a kernel has given up on it, OCT_ERR_MACHINE where the exchange has
    // failed; the stream may never end then, and the process leaves without another call to the device.
    oct_status (*check)(void *context);

    // Ends this process, and with it the job, with this status and the failure that was kept: where the device has
    // failed while kernels of other ranks wait for it, whom nothing else would tell before their patience ends. LOCAL;
    // does not return.
    void (*leave)(void *context, oct_status status);
} oct_device_exchange;

#endif
