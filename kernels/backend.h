// A backend executes step programs on one kind of device. It owns the shard's weights, the KV cache and all
// buffers; everything is allocated when it is created.
#ifndef OCT_KERNELS_BACKEND_H
#define OCT_KERNELS_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/exchange.h"
#include "runtime/encoding.h"
#include "runtime/status.h"
#include "runtime/step_program.h"

typedef struct oct_backend oct_backend;

// How the CPU backend runs.
typedef struct oct_backend_options {
    int32_t threads;         // of this rank, the caller's included
    const int32_t *cpus;     // [threads] logical CPU that each thread is pinned to, or NULL: not pinned
    bool oversubscribed;     // waits yield at once
    int32_t instructions;    // 0 scalar, 1 avx2, 2 avx512: agreed on by all ranks
    bool fp32_activations;   // inputs of matrices are not rounded
    int32_t max_columns;     // of a step
    int32_t max_logit_columns;
    int32_t context;         // positions of a sequence
    int32_t pages;           // of the KV pool, 64 positions each
    oct_backend *companion;  // runs by turns with this one, as many threads, which both share; it lives longer. Or NULL
} oct_backend_options;

// Bytes that a backend would allocate, by purpose; a dry pass before anything is allocated.
typedef struct oct_backend_sizes {
    size_t weights, kv_cache, buffers;
} oct_backend_sizes;

// encodings [program->matrix_count], matrix_bytes [program->matrix_count]: of this rank's run of each matrix.
void oct_backend_measure(const oct_step_program *program, const size_t *matrix_bytes,
                         const oct_backend_options *options, oct_backend_sizes *sizes);

// Creates a backend. program, exchange and vectors are borrowed and must outlive it; vectors [vector_count] are the
// program's vectors, whole; rope [context][rope_dims / 2][2] is the table of cosines and sines, the same on every
// rank. Errors: OCT_ERR_MACHINE (memory, threads, an instruction set that is not there). LOCAL.
oct_status oct_backend_create(oct_backend **backend, const oct_step_program *program, const oct_encoding *encodings,
                              const size_t *matrix_bytes, const float *const *vectors, const float *rope,
                              const oct_exchange *exchange, const oct_backend_options *options);
void oct_backend_destroy(oct_backend *backend);

// Where the loader puts matrix i: matrix_bytes[i] bytes, aligned to 64.
void *oct_backend_matrix(oct_backend *backend, int32_t i);

// Runs one step; *step and what it points to stay as they are until the next one (the page tables: until it returns).
// residual_hash receives a hash of the final residual's bits of the logit columns, which is the same on every rank.
// COLLECTIVE over the exchange. Errors: OCT_ERR_LOST.
oct_status oct_backend_step(oct_backend *backend, const oct_step *step, uint64_t *residual_hash);

// Logits of logit column i after a step: [rows of the vocabulary that this rank holds]; adjusted (runtime/sampling.h)
// where the column is sampled.
const float *oct_backend_logits(const oct_backend *backend, int32_t i);

// The largest adjusted logit of column i after a step, −infinity where there is no number; of columns whose sampling
// needs the maximum.
float oct_backend_maximum(const oct_backend *backend, int32_t i);

// Makes the candidates of the columns whose sampling needs the maximum; maxima [logit_columns] of the whole vocabulary.
// The candidates of the other columns were made in the step.
void oct_backend_make_candidates(oct_backend *backend, const float *maxima);

// This rank's candidates of a sampled logit column i, as oct_candidates_make() gives them for all of its rows: writes
// oct_candidates_bytes(oct_sampling_list_size(…)) bytes.
void oct_backend_candidates(const oct_backend *backend, int32_t i, oct_candidates *candidates);

// Bytes that a step reads: weights of this rank, plus the KV cache for a context of `positions` positions a column.
uint64_t oct_backend_step_bytes(const oct_backend *backend, int32_t columns, int64_t positions);

// Adds the bytes of weights that a step of one column reads on this rank, by operation, to bytes [OCT_OP_COUNT].
void oct_backend_operation_bytes(const oct_backend *backend, uint64_t *bytes);

// Nanoseconds that the last step spent in some of its exchanges (waiting included), and their number; not in all of
// them, because reading the clock takes a good part of the time of a short one.
void oct_backend_exchange_time(const oct_backend *backend, uint64_t *ns, int32_t *rounds);

// Where the time of steps goes, by the clock of thread 0 and with its waits for the other threads.
typedef struct oct_operation_times {
    uint64_t ns[OCT_OP_COUNT]; // without the exchange
    uint64_t exchange_ns;
    uint64_t sampling_ns; // behind the last operation; the engine's
} oct_operation_times;

// From now on steps add their times to *times (owned by the caller, who clears it); NULL: no longer.
void oct_backend_time_operations(oct_backend *backend, oct_operation_times *times);

// Reads once, by all threads, weights that a step reads, up to weight_bytes of them, and as much of the KV cache as a
// column behind `positions` positions reads: what the memory needs for a step that computes nothing. streams as in
// oct_read_touch() (runtime/bandwidth.h).
void oct_backend_touch(oct_backend *backend, size_t weight_bytes, int64_t positions, int32_t streams);

#endif
