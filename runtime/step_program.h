// Step programs: the fixed list of fused operations of one step, for one rank's shard of a model. A family
// writes its program once, when the model is loaded; a backend executes it with the same list for every step.
// What changes from step to step is data: the step descriptor.
#ifndef OCT_RUNTIME_STEP_PROGRAM_H
#define OCT_RUNTIME_STEP_PROGRAM_H

#include <stdint.h>

#include "runtime/model.h"
#include "runtime/partition.h"
#include "runtime/sampling.h"
#include "runtime/status.h"

// Buffers of a step, [columns][width]: `residual` is the replicated residual stream (hidden wide); `qkv` this
// rank's projected heads [q | k | v]; `attention` its attention outputs (heads · head_dim); `inner` its part of
// the FFN's inner activations; `logits` its rows of the vocabulary.
typedef enum oct_operation_kind {
    OCT_OP_EMBED,      // matrix 0: token rows → residual, through the exchange
    OCT_OP_QKV,        // vector 0 (norm), matrices q, k, v: residual → qkv
    OCT_OP_ROPE_CACHE, // vectors q_bias, k_bias, v_bias, q_norm, k_norm: bias, head norm, rotation of qkv; k and v
                       // → KV cache
    OCT_OP_ATTENTION,  // qkv, KV cache → attention; directly behind its OCT_OP_ROPE_CACHE, which backends may fuse
    OCT_OP_OUTPUT,     // matrix 0 along K: attention → nodes of the reduction tree, exchange, + residual
    OCT_OP_GATE_UP,    // vector 0 (norm), matrices gate, up: residual → silu(gate) · up in inner
    OCT_OP_DOWN,       // matrix 0 along K: inner → nodes of the reduction tree, exchange, + residual
    OCT_OP_HEAD,       // vector 0 (norm), matrix 0: residual of the columns that ask for it → logits
    OCT_OP_COUNT
} oct_operation_kind;

// A word for people and scripts ("gate_up").
const char *oct_operation_name(oct_operation_kind kind);

#define OCT_OPERATION_MATRICES 3
#define OCT_OPERATION_VECTORS 5

typedef struct oct_operation {
    oct_operation_kind kind;
    int32_t layer;                             // −1 outside the layers
    int32_t matrices[OCT_OPERATION_MATRICES];  // indices into the program's matrices; −1: none
    int32_t vectors[OCT_OPERATION_VECTORS];    // indices into the program's vectors; −1: none
} oct_operation;

// A matrix of the shard: which granules of which tensor.
typedef struct oct_program_matrix {
    oct_tensor_spec spec;
    oct_run granules; // of spec.partition
    oct_run units;    // the same in units
    int64_t rows;     // that this rank holds: those of its units (split by rows), or all (split along K)
} oct_program_matrix;

// The columns of granule g of a matrix that is split along K.
typedef struct oct_column_run {
    int64_t begin, end;
} oct_column_run;
oct_column_run oct_program_granule_columns(const oct_program_matrix *matrix, int32_t g);

typedef struct oct_program_vector {
    char name[64];
    int64_t size;
} oct_program_vector;

typedef struct oct_step_program {
    oct_model model;
    int32_t ranks, rank;
    oct_run heads, kv_heads; // of this rank
    oct_run ffn_units;       // of 32 inner columns
    oct_run vocabulary_tiles;
    int64_t qkv_width, attention_width, inner_width; // of this rank's buffers, in elements a column
    int64_t logits_width;                            // whole tiles
    oct_tree_schedule attention_tree, ffn_tree; // this rank's leaves
    oct_tree_finish attention_finish, ffn_finish;
    int32_t operation_count, matrix_count, vector_count;
    oct_operation *operations;
    oct_program_matrix *matrices;
    oct_program_vector *vectors;
    oct_tensor_spec *specs; // [spec_count] every tensor of the model
    int32_t spec_count;
} oct_step_program;

// Writes the program of `rank` among `ranks`. The program owns its arrays. Errors: OCT_ERR_FILE for a family
// that is not known (the message names those that are), OCT_ERR_MACHINE for more than OCT_MAX_RANKS ranks.
oct_status oct_step_program_build(oct_step_program *program, const oct_model *model, int32_t ranks, int32_t rank);
void oct_step_program_free(oct_step_program *program);

// For the files that write programs: each adds to the program and returns the index (of a matrix that is there
// already, the same index). A matrix is cut by its partition; keys and values follow the query heads instead.
int32_t oct_program_add_matrix(oct_step_program *program, const char *format, int32_t layer);
int32_t oct_program_add_key_value(oct_step_program *program, const char *format, int32_t layer);
int32_t oct_program_add_vector(oct_step_program *program, const char *format, int32_t layer);
oct_operation *oct_program_add(oct_step_program *program, oct_operation_kind kind, int32_t layer);

// How the token behind a column is chosen; the history holds later columns of the step too.
typedef struct oct_column_sampling {
    const oct_sampling *sampling; // NULL: nothing is chosen, the logits stay as they are
    const oct_history *history;
    int32_t history_length; // tokens of it that stand before the one to be chosen
    uint64_t position;      // of the token to be chosen
} oct_column_sampling;

// One step: which tokens go through the model. Built by the coordinator, the same on every rank. Columns of a sequence
// stand side by side, at positions that follow each other.
typedef struct oct_step {
    int32_t columns;
    const int32_t *tokens;       // [columns]
    const int32_t *positions;    // [columns] absolute position in its sequence
    const int32_t *const *pages; // [columns] page ids of the column's sequence, by position / 64
    int32_t logit_columns;
    const int32_t *logit_column; // [logit_columns] which columns need logits, ascending
    const oct_column_sampling *samplings; // [logit_columns], or NULL: nothing is chosen
} oct_step;

#endif
