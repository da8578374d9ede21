// The description of a model: what a checkpoint's configuration says, independent of ranks and devices.
#ifndef OCT_RUNTIME_MODEL_H
#define OCT_RUNTIME_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/partition.h"
#include "runtime/status.h"

#define OCT_MAX_HEAD_DIM 512

typedef enum oct_rope_convention {
    OCT_ROPE_PAIRS, // rotates (2i, 2i + 1): GGUF files of the llama architecture
    OCT_ROPE_HALVES // rotates (i, i + d/2): Hugging Face's rotate_half; GGUF files of qwen2, qwen3
} oct_rope_convention;

typedef struct oct_model {
    char family[32];       // "llama", "qwen2", "qwen3": which step program is built
    char name[128];        // for people
    int32_t layers;
    int32_t hidden;        // width of the residual stream
    int32_t heads;         // query heads
    int32_t kv_heads;      // divides heads
    int32_t head_dim;      // of q, k and v; a multiple of 32
    int32_t ffn;           // inner width of the FFN
    int32_t vocabulary;    // tokens, rows of the embedding and of the head
    int32_t context;       // longest context that the model was made for, in tokens
    float norm_epsilon;
    float rope_theta;
    int32_t rope_dims;     // rotated dimensions of a head, even, <= head_dim
    oct_rope_convention rope_convention;
    float rope_divisors[OCT_MAX_HEAD_DIM / 2]; // [rope_dims / 2] each frequency theta^(-2i/rope_dims) is divided
                                               // by this (1 without scaling; linear and Llama 3 scaling)
    bool tied;             // the head is the embedding
    bool qkv_bias;
    bool qk_norm;          // RMSNorm of each q and k head before rotation
} oct_model;

// Checks that every number is in its range and that they fit together. Errors: OCT_ERR_FILE naming the field.
oct_status oct_model_check(const oct_model *model);

// JSON text of a description, and back (the checkpoint's configuration). The text is malloc'ed, owned by the
// caller. Errors: OCT_ERR_FILE naming the missing or wrong field.
char *oct_model_to_json(const oct_model *model);
oct_status oct_model_from_json(const char *text, oct_model *model);

// The three partitions of a model.
oct_partition oct_model_attention_partition(const oct_model *model);
oct_partition oct_model_ffn_partition(const oct_model *model);
oct_partition oct_model_vocabulary_partition(const oct_model *model);

// Key-value heads that the query heads [heads.begin, heads.end) need.
oct_run oct_model_kv_run(const oct_model *model, oct_run heads);

// Matrices and vectors of a model, by name. In the order of the file:
//   embedding                       [vocabulary, hidden]           by rows, vocabulary partition
//   layers.N.attention_norm         [hidden]                       vector
//   layers.N.q                      [heads · head_dim, hidden]     by rows, attention partition
//   layers.N.k, layers.N.v          [kv_heads · head_dim, hidden]  by rows, one granule a key-value head
//   layers.N.q_bias, k_bias, v_bias [rows of q, k, v]              vectors (qkv_bias)
//   layers.N.q_norm, k_norm         [head_dim]                     vectors (qk_norm)
//   layers.N.o                      [hidden, heads · head_dim]     along K, attention partition
//   layers.N.ffn_norm               [hidden]                       vector
//   layers.N.gate, layers.N.up      [ffn, hidden]                  by rows, FFN partition
//   layers.N.down                   [hidden, ffn]                  along K, FFN partition
//   output_norm                     [hidden]                       vector
//   head                            [vocabulary, hidden]           by rows, vocabulary partition (unless tied)
typedef enum oct_split { OCT_SPLIT_NONE /* vector */, OCT_SPLIT_ROWS, OCT_SPLIT_COLUMNS } oct_split;

typedef struct oct_tensor_spec {
    char name[64];
    int32_t layer;           // −1 outside the layers
    oct_split split;
    int64_t rows, columns;   // columns = 1 for vectors
    oct_partition partition; // of the rows or the columns; units · unit_size may pass the last row or column
} oct_tensor_spec;

// The tensors of a model in the order of the file; malloc'ed, owned by the caller; *count is set.
// NULL only when memory is exhausted.
oct_tensor_spec *oct_model_tensors(const oct_model *model, int32_t *count);

#endif
