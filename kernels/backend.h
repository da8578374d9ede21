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

// Runs one step. logits [logit_columns][logit_stride]: this rank's rows of the vocabulary, columns in the order of
// step->logit_column. residual_hash receives a hash of the final residual's bits of the logit columns, which is
// the same on every rank. COLLECTIVE over the exchange. Errors: OCT_ERR_LOST.
oct_status oct_backend_step(oct_backend *backend, const oct_step *step, uint64_t *residual_hash);

// Logits of logit column i after a step: [rows of the vocabulary that this rank holds]; may be written to.
float *oct_backend_logits(oct_backend *backend, int32_t i);

// Runs `work` on every thread of the team, thread 0 being the caller.
void oct_backend_run(oct_backend *backend, void (*work)(void *context, int32_t thread, int32_t threads), void *context);

// Bytes that a step reads: weights of this rank, plus the KV cache for a context of `positions` positions a column.
uint64_t oct_backend_step_bytes(const oct_backend *backend, int32_t columns, int64_t positions);

// Nanoseconds that the last step spent in some of its exchanges (waiting included), and their number; not in all of
// them, because reading the clock takes a good part of the time of a short one.
void oct_backend_exchange_time(const oct_backend *backend, uint64_t *ns, int32_t *rounds);

// The weights as one region: for the bandwidth probe, which must read pages like the weights'.
const void *oct_backend_weights(const oct_backend *backend, size_t *bytes);

#endif
