// Inside the engine: what its files share.
#ifndef OCT_RANKS_ENGINE_STATE_H
#define OCT_RANKS_ENGINE_STATE_H

#include "kernels/backend.h"
#include "ranks/engine.h"
#include "ranks/placement.h"
#include "ranks/shard.h"
#include "runtime/history.h"
#include "runtime/page_table.h"

struct oct_engine {
    oct_world *world;
    oct_checkpoint *checkpoint;
    oct_shard shard;
    oct_placement placement;
    oct_exchange exchange;
    oct_control *control;
    oct_backend *backend;
    oct_engine_figures figures;
    uint64_t probe_bytes;  // that all ranks read in one pass of the bandwidth probe
    int32_t touch_streams; // of a thread, as was fastest in the last probe
    oct_operation_times *times; // rank 0: where steps add their times, or NULL

    // The sequence.
    oct_sampling sampling;
    oct_history history; // only kept up where the sampling parameters need it
    int32_t length;      // tokens in the KV cache
    oct_page_table page_table; // one slot

    // One step.
    oct_control_step *descriptor; // rank 0: what is sent
    int32_t *positions;           // [prefill_chunk]
    int32_t *all_columns;         // [prefill_chunk] 0, 1, 2, …
    const int32_t **pages;        // [prefill_chunk]
    uint64_t residual_hash;
    bool broken;      // rank 0: a step has failed
    bool not_numbers; // rank 0: the last column sampled had NaN or infinite logits

    // Sampling.
    int32_t first_token, own_tokens; // this rank's rows of the vocabulary
    oct_candidates *candidates;      // [threads + 1] of parts of the shard, and joined
    float *parts_maximum;            // [threads]
    float *gathered;                 // rank 0: [vocabulary] all logits of one column
    void *scratch;                   // rank 0: oct_sampling_scratch_bytes(vocabulary)
};

// What every rank does for a step that rank 0 has described. choice is only written on rank 0.
oct_status oct_engine_run_step(oct_engine *engine, const oct_control_step *step);

// The candidates protocol of runtime/sampling.h for the last column of the step. COLLECTIVE. On rank 0 *choice and
// *decided are set, or not_numbers where nothing can be chosen.
oct_status oct_engine_sample(oct_engine *engine, oct_choice *choice, oct_decision *decided);

// Gathers the logits of logit columns [0, columns) on rank 0 and hands them to `receive` in order (rank 0 only;
// `first_position` is the position of column 0). COLLECTIVE.
oct_status oct_engine_gather(oct_engine *engine, int32_t columns, int32_t first_position, oct_receive_logits receive,
                             void *context);

// The bandwidth probe and the touch of oct_engine_touch(). COLLECTIVE; every rank gets the same figure.
oct_status oct_engine_run_probe(oct_engine *engine, double *bytes_per_s);
oct_status oct_engine_run_touch(oct_engine *engine, int64_t positions, double *seconds);

// Bytes of this rank's weights that one pass of the bandwidth probe reads: enough to leave every cache behind.
size_t oct_engine_probe_bytes(const oct_engine *engine);

#endif
