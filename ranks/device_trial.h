// What an exchange between devices costs, tried before the first step. In builds with CUDA only.
#ifndef OCT_RANKS_DEVICE_TRIAL_H
#define OCT_RANKS_DEVICE_TRIAL_H

#include <cuda_runtime_api.h>

#include "kernels/device_exchange.h"
#include "ranks/world.h"

// Microseconds of an exchange of a column, the slowest rank's, and from which size on two shots are faster.
typedef struct oct_device_trial {
    double gather_us, one_shot_us, two_shots_us; // the last two: 0 where kernels cannot exchange
    int32_t hidden;                              // of the column
    size_t two_shot_bytes;
} oct_device_trial;

// Tries gathers, and where exchange->abort is there reductions inside kernels, of one column and more, in a stream of
// its own. COLLECTIVE; a failure is this rank's and not yet agreed on, but no rank waits for another then. Errors:
// OCT_ERR_MACHINE. Where a rank is lost the process ends (exit 5).
oct_status oct_device_trial_run(const oct_device_exchange *exchange, oct_world *world, cudaStream_t stream,
                                oct_device_trial *trial);

#endif
