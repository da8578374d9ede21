// Inside the CUDA backend: its state, and what its files share. backend.c creates it, backend_memory.c lays its memory
// out, backend_load.c fills it with weights, backend_walk.c turns a step program into launches, backend_step.c runs
// steps, choice.c chooses the device.
#ifndef OCT_KERNELS_CUDA_BACKEND_STATE_H
#define OCT_KERNELS_CUDA_BACKEND_STATE_H

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/peers.h"
#include "kernels/cuda/persistent.h"
#include "kernels/cuda/projection.h"
#include "kernels/cuda/step.h"

// A matrix of the shard on the device.
typedef struct oct_cuda_shard_matrix {
    uint8_t *weights;      // on the device, in its order
    size_t bytes;          // there
    oct_encoding encoding; // of the checkpoint
    int64_t rows;          // that this rank holds
    oct_cuda_plan plan;
} oct_cuda_shard_matrix;

// What a thread that loads has for itself. Its pieces are used by turns: while one is read into, the other is on its
// way.
enum { OCT_CUDA_PIECES = 2 };
typedef struct oct_cuda_loader {
    uint8_t *piece[OCT_CUDA_PIECES]; // pinned, [piece_bytes]
    cudaEvent_t sent[OCT_CUDA_PIECES];
    uint8_t *raw; // on the device: bytes as the checkpoint has them, whole strips at the front
    size_t held;  // of a strip that is not complete yet
    int32_t turn;
    cudaStream_t stream;
} oct_cuda_loader;

// The results of the logit columns of a step; the same on the host and on the device, copied in one piece.
typedef struct oct_cuda_results {
    uint64_t *hashes; // [logit_columns]
    oct_candidates *candidates;
    float *maxima;
    size_t bytes; // of all
} oct_cuda_results;

// The parts of the results of so many columns at `memory`, aligned to 16. LOCAL, pure.
oct_cuda_results oct_cuda_results_place(void *memory, int32_t logit_columns);

// A piece of a step: columns that go through the program together.
typedef struct oct_cuda_piece {
    int32_t columns, logit_columns;         // that launches are made for
    oct_cuda_step step;                     // on the device
    const oct_cuda_sampled_column *sampled; // on the device, [logit_columns]
    float *logits;                          // [logit_columns][logits_width]
    oct_cuda_results results;               // on the device, where those of its first column are
} oct_cuda_piece;

enum { OCT_CUDA_GRAPHS = 5 }; // of 1, 2, 4, 8 and 16 columns

// Pieces of a step that the host launches ahead of the GPU: one runs while the next is launched.
enum { OCT_CUDA_PIECES_AHEAD = 2 };

typedef struct oct_cuda_backend {
    oct_backend base;
    const oct_step_program *program;
    const oct_device_exchange *exchange; // NULL: one rank
    oct_backend_options options;
    int number; // of the device
    oct_cuda_device device;
    cudaStream_t stream;
    cudaEvent_t piece_ends[OCT_CUDA_PIECES_AHEAD];
    bool is_stuck;         // a wait has failed: the stream may never end, and calls that wait for it would not either
    int32_t piece_columns; // of a step that are run together, at most
    int32_t pieces;        // of the widest step

    oct_cuda_shard_matrix *matrices; // [matrix_count]
    oct_cuda_loader *loaders;        // [options.loaders]

    uint8_t *weights, *kv_cache, *buffers, *pinned, *pinned_staging, *staging;
    size_t weights_bytes, kv_cache_bytes, buffers_bytes, pinned_bytes, staging_bytes, pinned_staging_bytes;
    oct_cuda_peers peers;              // where kernels exchange by themselves
    size_t two_shot_bytes;             // nodes of a rank that are larger than this go in two shots
    const oct_exchange *host_exchange; // of small things
    oct_device_memory nodes, gathered; // where they do not: what this rank says, and what all have said

    // Buffers on the device.
    float **vectors; // host array, [vector_count]
    float *rope;
    float *squares;                            // of the residual where kernels exchange, by group
    float *residual, *qkv, *attention, *inner; // [piece_columns][…], as in runtime/step_program.h
    float *logits;                             // [max_logit_columns][logits_width]
    uint16_t *queries;
    void *prepared; // the input of a projection that is too large for each block
    float *states;
    uint32_t *arrivals;
    size_t arrivals_bytes;
    uint32_t *touched; // of touch()
    void *selection_scratch;
    uint32_t *selection_arrivals; // [max_logit_columns]
    uint8_t *descriptor; // the number of a piece, its sampled columns and its step
    oct_logit_bias *biases;
    oct_cuda_penalty *penalties;
    uint8_t *records;     // of the persistent executor: [OCT_CUDA_GRAPHS][record_capacity]
    int32_t record_capacity;
    oct_cuda_grid_words words; // of the persistent executor; one part of them is pinned
    uint8_t *second_pass; // sampled columns of the whole step, then the maxima of the whole vocabulary
    uint8_t *results;

    // Pinned.
    uint8_t *host_descriptors; // [pieces][descriptor_bytes]
    oct_cuda_adjustments adjustments;
    oct_cuda_sampled_column *sampled; // [max_logit_columns] of the whole step
    float *host_maxima;               // behind them: sent with them
    uint8_t *host_results;
    size_t descriptor_bytes; // of the largest piece
    uint32_t piece_number;   // of the last piece, the same on all ranks

    cudaGraphExec_t graphs[OCT_CUDA_GRAPHS];     // NULL where steps are never so wide, or
    oct_cuda_program programs[OCT_CUDA_GRAPHS];  // is recorded for the persistent kernel (count > 0)

    // Of the last step.
    const oct_step *step;
    int32_t result_columns;   // that its results lie in memory for: those of the graph, where it was one
    oct_cuda_results of_step; // on the host

    // Timing: marks[i] is recorded behind what marked[i] says.
    oct_operation_times *times; // of time_operations(), or NULL
    cudaEvent_t *marks;         // [mark_capacity]
    int8_t *marked;             // an oct_operation_kind, or OCT_OP_COUNT: the exchange
    int32_t mark_count, mark_capacity;
    uint64_t exchange_ns; // of the last step where it was timed
    int32_t exchange_rounds;
} oct_cuda_backend;

static inline oct_cuda_backend *oct_cuda_backend_of(const oct_backend *backend)
{
    return (oct_cuda_backend *)(uintptr_t)backend;
}

// Fills in what follows from program, encodings and options: plans, sizes, piece columns. The device must be known.
void oct_cuda_describe(oct_cuda_backend *backend, const oct_encoding *encodings);

// Bytes of this rank's run of matrix i on the device.
size_t oct_cuda_matrix_bytes(const oct_program_matrix *matrix, oct_encoding encoding);

// Columns of a step that go through the program together, at most. LOCAL, pure.
int32_t oct_cuda_piece_columns(const oct_backend_options *options);

// Counts the bytes of all memory (…_bytes); allocates it and hands it out. free: all of it, also after a failure.
void oct_cuda_memory_count(oct_cuda_backend *backend);
oct_status oct_cuda_memory_allocate(oct_cuda_backend *backend);
void oct_cuda_memory_free(oct_cuda_backend *backend);
void oct_cuda_staging_free(oct_cuda_backend *backend);

// In front of a descriptor: its number. Then the bytes of the sampled columns, in front of its step.
enum { OCT_CUDA_NUMBER_BYTES = 16 };
size_t oct_cuda_sampled_bytes(int32_t logit_columns);

// The KV cache and the heads of this rank as kernels see them.
oct_cuda_cache oct_cuda_cache_of(const oct_cuda_backend *backend);

// Memory of the exchange: its bytes for so many columns; allocates it, COLLECTIVE.
size_t oct_cuda_exchange_bytes(const oct_step_program *program, const oct_device_exchange *exchange, int32_t columns);
oct_status oct_cuda_exchange_allocate(oct_cuda_backend *backend);

// Whether kernels exchange by themselves. Otherwise what follows gathers.
bool oct_cuda_kernels_exchange(const oct_cuda_backend *backend);

// Several ranks: where the embedding writes its rows; from there to the residual of all. COLLECTIVE.
float *oct_cuda_embedded_rows(const oct_cuda_backend *backend);
oct_status oct_cuda_share_rows(oct_cuda_backend *backend, const oct_cuda_piece *piece);

// The reduction behind a projection along K: as part of its kernel; or by a gather of what it has written. COLLECTIVE.
oct_status oct_cuda_plan_exchange(const oct_cuda_backend *backend, const oct_operation *operation, int32_t columns,
                                  oct_cuda_reduction *reduction);
oct_status oct_cuda_gather_nodes(oct_cuda_backend *backend, const oct_operation *operation, int32_t columns);

// Tries reductions of one column and of many, in one shot and two, and chooses from which size on they go in two; says
// what they cost. COLLECTIVE; before steps are prepared. Errors: OCT_ERR_MACHINE, OCT_ERR_LOST; a rank whose
// device fails while others try leaves at once.
oct_status oct_cuda_try_reductions(oct_cuda_backend *backend);

// Says that what was launched since the last mark belongs to an operation, or (OCT_OP_COUNT) to the exchange.
oct_status oct_cuda_mark(oct_cuda_backend *backend, int kind);

// Launches the whole program for a piece in the backend's stream. Can be captured.
oct_status oct_cuda_walk(oct_cuda_backend *backend, const oct_cuda_piece *piece);

// The selection of candidates for the columns of a piece of the last step, and the hash of their residual.
oct_cuda_selection oct_cuda_selection_of(const oct_cuda_backend *backend, const oct_cuda_piece *piece);

// Tells the other ranks that this one waits: for its own GPU, whose kernels give up by themselves what does not come
// from another rank; or for the others, where it is the GPU that waits for gathers. Until oct_cuda_wait() has waited.
void oct_cuda_begin_wait(const oct_cuda_backend *backend);

// Waits for the stream, and looks after the other ranks meanwhile. Errors: OCT_ERR_MACHINE, OCT_ERR_LOST.
oct_status oct_cuda_wait(oct_cuda_backend *backend, const char *doing);

// Functions of oct_backend_kind that stand in other files than backend.c.
oct_status oct_cuda_place_piece(oct_backend *backend, int32_t thread, int32_t i, uint64_t offset, size_t bytes,
                                void **to);
oct_status oct_cuda_accept_piece(oct_backend *backend, int32_t thread, int32_t i, uint64_t offset, size_t bytes);
oct_status oct_cuda_finish_load(oct_backend *backend);
oct_status oct_cuda_prepare_steps(oct_backend *backend);
oct_status oct_cuda_run_step(oct_backend *backend, const oct_step *step, uint64_t *residual_hash);
oct_status oct_cuda_logits(oct_backend *backend, int32_t i, float *logits);
float oct_cuda_maximum(const oct_backend *backend, int32_t i);
oct_status oct_cuda_make_candidates(oct_backend *backend, const float *maxima);
void oct_cuda_candidates(const oct_backend *backend, int32_t i, oct_candidates *candidates);
uint64_t oct_cuda_step_weights_bytes(const oct_backend *backend, int32_t columns, int64_t positions);
void oct_cuda_operation_bytes(const oct_backend *backend, uint64_t *bytes);
oct_status oct_cuda_touch(oct_backend *backend, size_t weight_bytes, int64_t positions, int32_t way);

#endif
