// Behind the vocabulary projection: from a column's logits to its candidates, on the device, by the law of
// runtime/sampling.h and to its bits, and the hash of the residual by which ranks are compared. The host describes the
// columns of a step (a small copy), one kernel makes candidates and hashes; where the law needs the whole vocabulary's
// maximum, another adds the masses when the ranks agree on it.
#ifndef OCT_KERNELS_CUDA_HEAD_H
#define OCT_KERNELS_CUDA_HEAD_H

#include "kernels/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/sampling.h"
#include "runtime/step_program.h"

// A token that has occurred, for the penalties.
typedef struct oct_cuda_penalty {
    int32_t token, outputs; // outputs: how often in the output
} oct_cuda_penalty;

// What is asked of a column; plain data for the device.
typedef struct oct_cuda_sampled_column {
    uint64_t seed, position;
    float inverse_temperature;
    float repetition, presence, frequency; // penalties
    int32_t sampled;                       // 0: nothing is chosen, the logits stay as they are
    int32_t greedy;
    int32_t list_size;       // of the candidates
    int32_t by_temperature;  // masses at the temperature are asked for, and at temperature 1
    int32_t by_unit;
    int32_t bias_begin, bias_end;       // among the step's biases
    int32_t penalty_begin, penalty_end; // among the step's penalties
} oct_cuda_sampled_column;

// What the columns of a step share; counts are entries in use.
typedef struct oct_cuda_adjustments {
    oct_logit_bias *biases; // [bias_capacity]
    oct_cuda_penalty *penalties; // [penalty_capacity]
    int64_t bias_capacity, penalty_capacity;
    int32_t bias_count, penalty_count;
} oct_cuda_adjustments;

// On the host: describes a column (column->sampling may be NULL) and appends what changes the logits of tokens first …
// first + rows − 1 to the adjustments. Errors: OCT_ERR_INTERNAL where they are full. LOCAL.
oct_status oct_cuda_describe_column(const oct_column_sampling *column, int32_t first, int32_t rows,
                                    oct_cuda_adjustments *adjustments, oct_cuda_sampled_column *described);

// Operands of the hash: logit column i is column logit_column[i] of the residual, or none (−1).
typedef struct oct_cuda_residual_hash {
    const int32_t *logit_column; // [columns of the selection]
    const float *residual;       // [][hidden], aligned to 16
    int32_t hidden;              // a multiple of 4
    uint64_t *hashes;            // [columns of the selection] out: of the column's bits, 0 where there is none
} oct_cuda_residual_hash;

// Operands of the selection. A graph keeps the pointers; what they point to changes from step to step.
typedef struct oct_cuda_selection {
    float *logits;  // [columns][stride], tokens first … first + rows − 1; bias and penalties are applied in place
    int64_t stride; // a multiple of 4, and logits are aligned to 16
    int32_t first, rows; // first: a multiple of 4
    int32_t columns;
    const oct_cuda_sampled_column *sampled; // [columns]
    const oct_logit_bias *biases;
    const oct_cuda_penalty *penalties;
    void *scratch;              // oct_cuda_selection_scratch_bytes(), aligned to 16
    uint32_t *arrivals;         // [columns], zero; zero again afterwards
    oct_candidates *candidates; // [columns] out
    float *maxima;              // [columns] out: as oct_sampling_maximum(), of sampled columns
    oct_cuda_residual_hash hash;
} oct_cuda_selection;

size_t oct_cuda_selection_scratch_bytes(int32_t rows, int32_t columns);

// Adjusts the logits of sampled columns and makes their maxima and candidates: as oct_candidates_make() does for all
// rows, but for the masses and the count of broken numbers, which are 0. Writes oct_candidates_bytes(list_size) of
// each. Makes the hashes of all columns. Moves: the logits once in (and where they are adjusted out), scratch,
// candidates, the columns of the residual, hashes. Errors: see kernels.h.
oct_status oct_cuda_select(const oct_cuda_selection *selection, cudaStream_t stream);
uint64_t oct_cuda_select_bytes(const oct_cuda_selection *selection);

// Adds masses and broken numbers to the candidates of the columns that ask for masses: maxima [columns] are the largest
// logits of the whole vocabulary. Moves the logits once. Errors: see kernels.h.
oct_status oct_cuda_add_masses(const oct_cuda_selection *selection, const float *maxima, cudaStream_t stream);

// The step's hash from those of its logit columns. On the host; LOCAL.
uint64_t oct_cuda_join_hashes(const uint64_t *hashes, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
