// The step descriptor as it lies in device memory: everything that changes from step to step. The host writes a copy of
// it in pinned memory and sends its first bytes; launches name the device's copy, whose addresses never change, so that
// they can be captured in a graph. A graph is captured for a number of columns; a step with fewer leaves the others
// empty: they are zero wherever the kernels of this folder write them, and nothing else depends on them.
#ifndef OCT_KERNELS_CUDA_STEP_H
#define OCT_KERNELS_CUDA_STEP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/step_program.h"

// Neighbouring columns of one sequence, for which attention reads keys and values once. Every column is in one run.
typedef struct oct_cuda_run {
    int32_t column, columns; // the first one, and how many; 0 behind the last run
    int32_t positions;       // of the last column, and one more; 0: an empty column
    int32_t pages;           // where the page ids of the sequence begin in oct_cuda_step.pages; 0 of the first run
    int32_t fresh;           // the last of these positions that columns of this step have, of this run or in front of it
} oct_cuda_run;

typedef struct oct_cuda_step {
    int32_t columns, logit_columns; // that launches are made for
    oct_cuda_run *runs;             // [columns]
    int32_t *tokens;                // [columns] −1: an empty column
    int32_t *positions;             // [columns] absolute position in its sequence, −1: an empty column
    int32_t *page_lists;            // [columns] where the page ids of its sequence begin in pages
    int32_t *logit_column;          // [logit_columns] which columns need logits, −1: none
    int32_t *pages;                 // page ids by position / 64, sequence after sequence
} oct_cuda_step;

// Bytes of a descriptor for so many columns of sequences of up to `context` positions. Kernels may read the page ids of
// a whole split before they know how many there are. LOCAL.
size_t oct_cuda_step_bytes(int32_t columns, int32_t logit_columns, int32_t context);

// The parts of a descriptor at `memory`, aligned to 16: on the host and on the device alike. LOCAL.
oct_cuda_step oct_cuda_step_place(void *memory, int32_t columns, int32_t logit_columns);

// How long runs are at most: for sequences of up to `positions` positions, and for longer ones.
typedef struct oct_cuda_run_limits {
    int32_t positions;
    int32_t columns_up_to, columns_beyond;
} oct_cuda_run_limits;

// Writes a step into a descriptor on the host, whose columns are no fewer than the step's; for the limits see
// oct_cuda_run_limits_of(). Returns how many bytes from the beginning of the descriptor the device needs. LOCAL.
size_t oct_cuda_step_write(const oct_cuda_step *to, const oct_step *step, const oct_cuda_run_limits *limits);

#ifdef __cplusplus
}
#endif

#endif
