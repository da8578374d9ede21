// A backend executes step programs on one kind of device. It owns the shard's weights, the KV cache and all
// buffers; everything is allocated when it is created. A kind is a table of functions, and all that the layers above
// know of it; kernels/backend.c lists the kinds that are built in. How ranks come to a backend: each offers its device,
// all agree about the offers, each measures, creates, loads and prepares its shard; then come the steps.
#ifndef OCT_KERNELS_BACKEND_H
#define OCT_KERNELS_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/device_exchange.h"
#include "kernels/exchange.h"
#include "runtime/encoding.h"
#include "runtime/status.h"
#include "runtime/step_program.h"

// Each kind puts it at the beginning of its own state.
typedef struct oct_backend_kind oct_backend_kind;
typedef struct oct_backend {
    const oct_backend_kind *kind;
} oct_backend;

// The device of a rank, as it says to the other ranks. Travels as bytes.
typedef struct oct_backend_offer {
    int32_t instructions;  // the most that it has, by the kind: cpu 0 scalar, 1 avx2, 2 avx512; cuda 90, 100, …
    uint8_t identity[16];  // of a device that one rank drives alone; all zero where ranks share theirs
    uint64_t memory_bytes; // that the rank can still fill of the device's own memory; 0: it fills the host's
    bool may_share;        // other ranks may drive the device too
    bool is_expected; // the machine is made for devices of this kind: that a rank has none is worth a word; set also
                      // where there is no offer
} oct_backend_offer;

// Whether two ranks drive one device. LOCAL, pure.
static inline bool oct_backend_same_device(const oct_backend_offer *a, const oct_backend_offer *b)
{
    static const uint8_t none[sizeof a->identity] = {0};
    return memcmp(a->identity, b->identity, sizeof none) == 0 && memcmp(a->identity, none, sizeof none) != 0;
}

// How a backend runs narrow steps; only that of GPUs has the choice.
typedef enum oct_executor {
    OCT_EXECUTOR_GRAPH,     // kernels in a captured graph
    OCT_EXECUTOR_PERSISTENT // one kernel that stays for the whole step
} oct_executor;

// How the CPU backend runs; others pass it over.
typedef struct oct_cpu_options {
    int32_t threads;       // of this rank, the caller's included
    const int32_t *cpus;   // [threads] logical CPU that each thread is pinned to, or NULL: not pinned
    bool oversubscribed;   // waits yield at once
    bool fp32_activations; // inputs of matrices are not rounded
} oct_cpu_options;

typedef struct oct_backend_options {
    int32_t instructions; // of agree()
    int32_t max_columns;  // of a step
    int32_t max_logit_columns;   // of those, columns whose logits are made
    int32_t max_sampled_columns; // of those, columns that candidates are made for
    int32_t context;      // positions of a sequence
    int32_t pages;        // of the KV pool, 64 positions each
    int32_t loaders;      // threads that call place() and accept()
    size_t piece_bytes;   // that they load at a time, at most
    const oct_device_exchange *device_exchange; // NULL: one rank, or the kind has no use for it
    uint64_t patience_ns; // how long a kernel of a device waits for another rank before it gives up; 0: for ever
    oct_backend *companion; // of the same kind; runs by turns with this one and may share what a rank has only once
                            // (threads: as many; a stream); it lives longer. Or NULL
    oct_executor executor;  // of the CUDA backend
    oct_cpu_options cpu;
} oct_backend_options;

// Bytes that a backend would allocate in the memory of oct_backend_offer, by purpose; a dry pass before anything is
// allocated.
typedef struct oct_backend_sizes {
    size_t weights, kv_cache, buffers;
} oct_backend_sizes;

// Where the time of steps goes, by the clock of the main thread (or of the device) and with its waits for the others.
typedef struct oct_operation_times {
    uint64_t ns[OCT_OP_COUNT]; // without the exchange
    uint64_t exchange_ns;
    uint64_t sampling_ns; // behind the last operation; the engine's
} oct_operation_times;

// Ways of touch(): memory is read faster in the one or the other by some processors; a kind may have one way only.
enum { OCT_TOUCH_WAYS = 2 };

// Everything is LOCAL, and for the rank's main thread, unless said otherwise. No function may be NULL.
struct oct_backend_kind {
    const char *name; // "cpu", "cuda"

    // A word for the instructions of an offer ("avx2", "sm_90").
    const char *(*instructions_name)(int32_t instructions);

    // Picks the device of this rank, the host_rank'th of host_size ranks on its host, and describes it; may_share:
    // where there are fewer devices than ranks, one that other ranks have too. The same again when called again, but
    // for what memory is left. Errors: OCT_ERR_MACHINE (no device, or none that fits; offer->is_expected all the same).
    oct_status (*offer)(int32_t host_rank, int32_t host_size, bool may_share, oct_backend_offer *offer);

    // From the offers [ranks] of all ranks: can they work together, and with which *instructions? asked: those that the
    // user wants, −1: the best that all have. Pure. Errors: OCT_ERR_MACHINE, on at least one rank where any has it.
    oct_status (*agree)(const oct_backend_offer *offers, int32_t ranks, int32_t rank, int32_t asked,
                        int32_t *instructions);

    // matrix_bytes [program->matrix_count]: of this rank's run of each matrix.
    void (*measure)(const oct_step_program *program, const size_t *matrix_bytes, const oct_backend_options *options,
                    oct_backend_sizes *sizes);

    // Creates a backend. program, exchange and vectors are borrowed and must outlive it; encodings
    // [program->matrix_count]; vectors [vector_count] are the program's vectors, whole; rope
    // [context][rope_dims / 2][2] is the table of cosines and sines, the same on every rank. The exchange carries what
    // lies in the host's memory. Errors: OCT_ERR_MACHINE (memory, threads, instructions that are not there). COLLECTIVE
    // over the device exchange, where there is one.
    oct_status (*create)(oct_backend **backend, const oct_step_program *program, const oct_encoding *encodings,
                         const size_t *matrix_bytes, const float *const *vectors, const float *rope,
                         const oct_exchange *exchange, const oct_backend_options *options);

    void (*destroy)(oct_backend *backend); // NULL is allowed

    // Loading, by up to options.loaders threads at a time, which have numbers. place() says where bytes [offset, offset
    // + bytes) of this rank's run of matrix i are to be read to: straight into their final place, or into a staging
    // piece that is the thread's until its next place(), which waits for one. bytes <= options.piece_bytes; whole
    // granules, or a part of one larger than that. accept(): they stand there, and match their checksum (that of a
    // granule in parts is known behind the last one; they come from one thread, in ascending order). finish_load(), by
    // the main thread: waits until all is where steps read it. Errors: OCT_ERR_MACHINE.
    oct_status (*place)(oct_backend *backend, int32_t thread, int32_t i, uint64_t offset, size_t bytes, void **to);
    oct_status (*accept)(oct_backend *backend, int32_t thread, int32_t i, uint64_t offset, size_t bytes);
    oct_status (*finish_load)(oct_backend *backend);

    // What is left to be done before the first step, once all ranks have loaded. COLLECTIVE over the exchanges. Errors:
    // OCT_ERR_MACHINE, OCT_ERR_LOST.
    oct_status (*prepare)(oct_backend *backend);

    // Runs one step; *step and what it points to stay as they are until the next one (the page tables: until it
    // returns). residual_hash receives a hash of the final residual's bits of the logit columns, which is the same on
    // every rank. COLLECTIVE over the exchanges. Errors: OCT_ERR_LOST, OCT_ERR_MACHINE (the device has failed).
    oct_status (*step)(oct_backend *backend, const oct_step *step, uint64_t *residual_hash);

    // Copies the logits of logit column i after a step to logits [rows of the vocabulary that this rank holds];
    // adjusted (runtime/sampling.h) where the column is sampled. Errors: OCT_ERR_MACHINE.
    oct_status (*logits)(oct_backend *backend, int32_t i, float *logits);

    // The largest adjusted logit of column i after a step, −infinity where there is no number; of columns whose
    // sampling needs the maximum.
    float (*maximum)(const oct_backend *backend, int32_t i);

    // Makes the candidates of the columns whose sampling needs the maximum; maxima [logit_columns] of the whole
    // vocabulary. The candidates of the other columns were made in the step. Errors: OCT_ERR_MACHINE.
    oct_status (*make_candidates)(oct_backend *backend, const float *maxima);

    // This rank's candidates of a sampled logit column i, as oct_candidates_make() gives them for all of its rows:
    // writes oct_candidates_bytes(oct_sampling_list_size(…)) bytes.
    void (*candidates)(const oct_backend *backend, int32_t i, oct_candidates *candidates);

    // Bytes that a step reads: weights of this rank, plus the KV cache for a context of `positions` positions a column.
    uint64_t (*step_bytes)(const oct_backend *backend, int32_t columns, int64_t positions);

    // Adds the bytes of weights that a step of one column reads on this rank, by operation, to bytes [OCT_OP_COUNT].
    void (*operation_bytes)(const oct_backend *backend, uint64_t *bytes);

    // Nanoseconds that the last step spent in some of its exchanges (waiting included), and their number; not in all of
    // them, because reading the clock takes a good part of the time of a short one.
    void (*exchange_time)(const oct_backend *backend, uint64_t *ns, int32_t *rounds);

    // From now on steps add their times to *times (owned by the caller, who clears it); NULL: no longer.
    void (*time_operations)(oct_backend *backend, oct_operation_times *times);

    // Reads once, with all that steps read with, weights that a step reads, up to weight_bytes of them, and as much of
    // the KV cache as a column behind `positions` positions reads: what the memory needs for a step that computes
    // nothing. way: 0 … OCT_TOUCH_WAYS − 1. Returns when it is done. Errors: OCT_ERR_MACHINE.
    oct_status (*touch)(oct_backend *backend, size_t weight_bytes, int64_t positions, int32_t way);
};

// The kinds that are built in, the one to be preferred first; NULL behind the last.
const oct_backend_kind *oct_backend_kind_at(int32_t i);

// The kind called `name`, or NULL where it is not built in.
const oct_backend_kind *oct_backend_find(const char *name);

extern const oct_backend_kind oct_cpu_backend_kind;
extern const oct_backend_kind oct_cuda_backend_kind; // where OCT_HAVE_CUDA

#endif
