// Inside the CPU backend: its state, and the operations that the executor walks through.
#ifndef OCT_KERNELS_CPU_EXECUTOR_H
#define OCT_KERNELS_CPU_EXECUTOR_H

#include <stdatomic.h>

#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/team.h"

// A matrix of the shard, ready for the kernels: one strip after another, in each its granules (a matrix split by rows
// has all of its K as one). In the file of a matrix split along K a granule has its strips together; here a thread
// walks whole strips, long streams of memory, and the granules' sums meet in its registers and first-level cache.
typedef struct oct_cpu_matrix {
    uint8_t *data;
    oct_encoding encoding;
    oct_activation_form form;
    oct_dot_function dot;
    int64_t rows;        // rows that this rank holds (split by rows), or all (split along K)
    int32_t strips;      // tiles of those rows
    size_t strip_bytes;  // of all granules
    const oct_column_run *granules; // [granule_count] of this rank
    int32_t granule_count;
    bool is_dealt;       // the file has its strips granule by granule: they are rearranged when they are loaded
} oct_cpu_matrix;

// What one thread needs for itself.
typedef struct oct_cpu_scratch {
    oct_activations input;  // of one column: each thread prepares its own
    oct_activations shared; // of several: the arrays are the team's
    float *row;            // [widest input] a normalised column
    float *tiles;          // dot products of a few strips: gate and up, or sums of a projection along K
    float *states;         // attention states of one key-value head's queries, all splits
} oct_cpu_scratch;

typedef struct oct_cpu_backend {
    oct_backend base;
    const oct_step_program *program;
    const oct_cpu_kernels *kernels;
    const oct_exchange *exchange;
    oct_backend_options options;
    oct_team *team;

    oct_cpu_matrix *matrices;     // [matrix_count]
    oct_column_run *granules;     // of all matrices
    uint8_t *staging;             // while weights are loaded: [options.loaders][options.piece_bytes], else NULL
    const float *const *vectors;  // [vector_count]
    const float *rope;            // [context][rope_dims / 2][2]
    uint8_t *weights;
    size_t weights_bytes;

    uint16_t *kv_cache;           // [pages][layers][kv_heads] of K and V: a short sequence touches little memory
    size_t kv_cache_bytes;
    size_t page_elements;         // of one key-value head: 2 · 64 · head_dim

    uint8_t *buffers;             // everything below
    size_t buffers_bytes;
    float *residual;              // [max_columns][hidden]
    float *qkv;                   // [max_columns][qkv_width]
    float *attention;             // [max_columns][attention_width]
    float *inner;                 // [max_columns][inner_width]
    float *logits;                // [max_logit_columns][logits_width]
    oct_candidates *candidates;   // [max_logit_columns][threads] of each thread's rows
    float *maxima;                // [max_logit_columns][threads] likewise
    float *states;                // [SPLIT_PARALLEL_COLUMNS][heads][splits][2 + head_dim]
    oct_cpu_scratch *scratch;     // [threads]
    int32_t max_splits;
    float attention_scale;        // of the scores: head_dim^-0.5

    // Of the step in progress.
    const oct_step *step;
    atomic_int failed;            // an oct_status
    size_t round_bytes[OCT_MAX_RANKS];
    uint64_t exchange_ns;         // of the rounds that were timed, and their number
    int32_t exchange_rounds;
    oct_operation_times *times;   // of time_operations(), or NULL
    uint32_t team_rounds;         // so far
} oct_cpu_backend;

static inline oct_cpu_backend *oct_cpu_backend_of(const oct_backend *backend)
{
    return (oct_cpu_backend *)(uintptr_t)backend;
}

// Columns up to which attention is divided by splits as well as by heads.
enum { OCT_SPLIT_PARALLEL_COLUMNS = 16 };

// Each operation is run by every thread of the team; it ends with a barrier where the next one reads what other
// threads wrote. Returns false when the step has failed: all threads leave together.
typedef bool (*oct_cpu_operation)(oct_cpu_backend *backend, const oct_operation *operation, int32_t thread,
                                  int32_t threads);

bool oct_cpu_embed(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_qkv(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_rope_cache(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_attention(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_output(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_gate_up(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_down(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);
bool oct_cpu_head(oct_cpu_backend *, const oct_operation *, int32_t thread, int32_t threads);

// Functions of oct_backend_kind that stand in other files than backend.c.
oct_status oct_cpu_place_piece(oct_backend *backend, int32_t thread, int32_t i, uint64_t offset, size_t bytes,
                               void **to);
oct_status oct_cpu_accept_piece(oct_backend *backend, int32_t thread, int32_t i, uint64_t offset, size_t bytes);
oct_status oct_cpu_finish_load(oct_backend *backend);
oct_status oct_cpu_logits(oct_backend *backend, int32_t i, float *logits);
float oct_cpu_maximum(const oct_backend *backend, int32_t i);
oct_status oct_cpu_make_candidates(oct_backend *backend, const float *maxima);
void oct_cpu_candidates(const oct_backend *backend, int32_t i, oct_candidates *candidates);
uint64_t oct_cpu_step_bytes(const oct_backend *backend, int32_t columns, int64_t positions);
void oct_cpu_operation_bytes(const oct_backend *backend, uint64_t *bytes);
oct_status oct_cpu_touch(oct_backend *backend, size_t weight_bytes, int64_t positions, int32_t way);

// The part of `total` that a thread works on.
static inline oct_run oct_thread_run(int64_t total, int32_t thread, int32_t threads)
{
    return (oct_run){(int32_t)(total * thread / threads), (int32_t)(total * (thread + 1) / threads)};
}

// Strips whose results are held at a time: few enough for the first-level cache, enough for the kernels to walk
// several of them side by side.
enum { OCT_STRIP_COLUMNS = 128, OCT_LEAST_STRIPS = OCT_STRIP_COLUMNS / OCT_PANEL_COLUMNS };
static inline int32_t oct_cpu_strips_at_a_time(int32_t columns)
{
    const int32_t strips = OCT_STRIP_COLUMNS / columns;
    return strips < OCT_LEAST_STRIPS ? OCT_LEAST_STRIPS : strips;
}

// A wide step of a large model can spend longer than the deadline in one operation: from so many columns on, its parts
// bump the progress counter. (All threads may bump: a lost count does no harm.)
enum { OCT_SHOWN_COLUMNS = 16 };

// Products of the strips [strip, strip + strips) of a matrix split by rows with all columns of input:
// out [columns][out_stride]. next: what this thread reads afterwards, or NULL.
void oct_cpu_run_dot(const oct_cpu_matrix *matrix, int32_t strip, int32_t strips, const oct_activations *input,
                     const uint8_t *next, float *out, size_t out_stride);

// The first weights that a thread reads in the operations behind this one, or NULL: kernels fetch them while the team
// meets.
const uint8_t *oct_cpu_next_weights(const oct_cpu_backend *backend, const oct_operation *operation, int32_t thread,
                                    int32_t threads);

// Meets the team, lets thread 0 hold an exchange round of bytes_of_rank (backend->round_bytes), meets again.
bool oct_cpu_exchange(oct_cpu_backend *backend, int32_t thread);

// How the reduction of a projection along K goes. Where MPI carries it, the rows are cut into parts, the same on every
// rank, so that one is on its way while the next is computed; a part lies in the exchange's slot as
// [nodes][columns][rows of the part].
typedef struct oct_reduction {
    const oct_tree_finish *finish;
    int64_t hidden;
    int32_t parts;
    oct_run part[OCT_EXCHANGE_PARTS]; // in strips of 16 rows
    oct_run mine[OCT_EXCHANGE_PARTS]; // those of them that this thread computes, and adds to the residual
} oct_reduction;

// All of them are called by every thread, only where there are several ranks, in this order: for each part its nodes
// are written and published; at the end oct_cpu_reduce waits for the other ranks and adds to the residual what this
// thread has computed. A failure is left in backend->failed; the team meets afterwards.
void oct_cpu_plan_reduction(const oct_cpu_backend *backend, const oct_tree_finish *finish, int64_t hidden,
                            int32_t thread, int32_t threads, oct_reduction *reduction);
float *oct_cpu_part_nodes(const oct_cpu_backend *backend, const oct_reduction *reduction, int32_t part, int32_t thread);
void oct_cpu_publish_part(oct_cpu_backend *backend, const oct_reduction *reduction, int32_t part, int32_t thread);
void oct_cpu_reduce(oct_cpu_backend *backend, const oct_reduction *reduction, int32_t thread);

// Prepares the input of matrices in the forms of `forms`: columns of x [][stride], `size` elements each, through
// an RMSNorm where norm != NULL. With one column each thread makes its own copy and nobody waits; with more the
// team shares the work and meets. `selected` names the columns of x, or NULL: the first `columns`.
const oct_activations *oct_cpu_prepare(oct_cpu_backend *backend, const float *x, int64_t stride, int64_t size,
                                       const float *norm, const int32_t *selected, int32_t columns, int forms,
                                       int32_t thread, int32_t threads);

#endif
