// The shard of a rank: the step program, which bytes of the checkpoint it needs, and how that compares to the
// other ranks. Loading puts them straight into the backend's memory.
#ifndef OCT_RANKS_SHARD_H
#define OCT_RANKS_SHARD_H

#include "checkpoints/checkpoint.h"
#include "kernels/backend.h"
#include "ranks/world.h"
#include "runtime/step_program.h"

typedef struct oct_shard {
    oct_step_program program;
    const oct_tensor **tensors; // [matrix_count] of the checkpoint
    oct_encoding *encodings;    // [matrix_count]
    size_t *matrix_bytes;       // [matrix_count] this rank's run
    const float **vectors;      // [vector_count] of the checkpoint
    float *rope;                // [context][rope_dims / 2][2] cosines and sines, made by rank 0
    uint64_t bytes;             // of all matrices of this rank
    uint64_t largest_bytes;     // of any rank
    uint64_t model_bytes;       // of all matrices, each once
} oct_shard;

// Plans the shard of world->rank for `context` positions. COLLECTIVE; failures are agreed on. Errors:
// OCT_ERR_FILE (a tensor is missing or has another shape), OCT_ERR_MACHINE (ranks, memory).
oct_status oct_shard_plan(oct_shard *shard, oct_checkpoint *checkpoint, oct_world *world, int32_t context);
void oct_shard_free(oct_shard *shard);

// The largest shard over the average of all ranks: 1 is perfect balance.
double oct_shard_imbalance(const oct_shard *shard, oct_world *world);

// Loads the shard into the backend, up to finish_load(). LOCAL. Errors: OCT_ERR_FILE naming tensor and granule; the
// backend's.
oct_status oct_shard_load(const oct_shard *shard, oct_checkpoint *checkpoint, oct_backend *backend, oct_world *world,
                          int32_t threads, oct_load_report *report);

#endif
