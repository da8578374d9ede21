// OCT_OP_EMBED on the device: the rank that holds a token's row decodes it, a gather brings the rows of all ranks to
// each, and each takes the owner's: a copy, never a sum. A single rank decodes straight into the residual.
#ifndef OCT_KERNELS_CUDA_EMBEDDING_H
#define OCT_KERNELS_CUDA_EMBEDDING_H

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/step.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/encoding.h"

// The rows of the step's tokens that this rank holds: rows [columns][hidden] fp32, as oct_strip_decode_row() decodes
// what the device keeps (bf16 of f16 and f32). Rows of other ranks' tokens stay as they are; empty columns become zero.
typedef struct oct_cuda_embedding {
    oct_cuda_step step;
    const void *weights;   // in the order of layout.h: the tiles of this rank
    oct_encoding encoding; // of the checkpoint
    oct_run tiles;         // of 16 tokens
    int32_t hidden;
    float *rows;
} oct_cuda_embedding;

// Moves oct_cuda_embed_bytes(). Errors: see kernels.h.
oct_status oct_cuda_embed(const oct_cuda_embedding *embedding, cudaStream_t stream);
uint64_t oct_cuda_embed_bytes(const oct_cuda_embedding *embedding);

// residual [columns][hidden]: each column's row from its token's owner; empty columns become zero.
typedef struct oct_cuda_row_choice {
    oct_cuda_step step;
    int32_t hidden; // a multiple of 4
    int32_t ranks;
    int32_t first_token[OCT_MAX_RANKS + 1];   // of each rank, and behind the last
    const float *rows_of_rank[OCT_MAX_RANKS]; // [columns][hidden] each, aligned to 16
    float *residual;                          // aligned to 16
} oct_cuda_row_choice;

// Which tokens are whose. On the host; LOCAL.
void oct_cuda_set_token_owners(oct_cuda_row_choice *choice, const oct_step_program *program);

// Moves columns · hidden · 8 bytes. Errors: see kernels.h.
oct_status oct_cuda_choose_rows(const oct_cuda_row_choice *choice, cudaStream_t stream);
uint64_t oct_cuda_choose_rows_bytes(const oct_cuda_row_choice *choice);

#ifdef __cplusplus
}
#endif

#endif
