// Inside the engine: what its files share.
#ifndef OCT_RANKS_ENGINE_STATE_H
#define OCT_RANKS_ENGINE_STATE_H

#include "kernels/backend.h"
#include "ranks/engine.h"
#include "ranks/placement.h"
#include "ranks/shard.h"
#include "runtime/history.h"
#include "runtime/page_table.h"

// A sequence.
typedef struct oct_engine_slot {
    oct_sampling sampling;
    oct_history history; // only kept up where the sampling parameters need it
    int32_t length;      // tokens in the KV cache
    int32_t *tokens;     // [context] those that the sequence was begun with, and whatever else is in the KV cache
    int32_t begun_count; // of those
    int32_t ahead; // rank 0: columns of the step that is being counted, otherwise 0
} oct_engine_slot;

struct oct_engine {
    oct_world *world;
    oct_checkpoint *checkpoint;
    oct_shard shard;
    oct_placement placement;
    oct_exchange exchange;
    oct_device_exchange own_device_exchange;    // context NULL: none
    bool shares_devices;                        // some ranks of the job drive one device
    const oct_device_exchange *device_exchange; // its own, its companion's, or NULL: one rank, or no use for it
    oct_control *control;
    const oct_backend_kind *kind;
    oct_backend_offer offer; // of this rank; where ranks share a device, its part of the memory
    int32_t instructions;    // that all ranks have agreed on
    oct_backend *backend;
    oct_engine_figures figures;
    bool shares_placement; // with its companion, whose the lists are
    uint64_t later_bytes;  // KV cache and buffers of the largest rank and its companion: they count as free memory
                           // until they are used
    uint64_t probe_bytes;  // that all ranks read in one pass of the bandwidth probe
    int32_t touch_way;     // that was fastest in the last probe
    oct_operation_times *times; // rank 0: where steps add their times, or NULL

    oct_engine_slot *slots;    // [figures.slots]
    oct_page_table page_table; // of all slots
    oct_control_sequence *beginning; // rank 0: what is sent, with room for [context] tokens and all cuts
    oct_control_cut *cuts;           // rank 0: [OCT_CONTROL_CUTS * slots] that wait for the next message
    int32_t cut_count;

    // One step; arrays of [figures.step_columns].
    oct_control_step *descriptor; // rank 0: what is sent, with room for all cuts
    oct_control_column *chunk;    // rank 0: a piece of a prompt
    int32_t *tokens, *positions, *logit_column;
    const int32_t **pages;
    oct_column_sampling *samplings;
    oct_step step; // of those arrays, as the backend has it
    uint64_t residual_hash;
    bool broken; // rank 0: a step has failed

    // Sampling.
    float *maxima;   // [step_columns] of the whole vocabulary
    bool *undecided; // rank 0: [step_columns] logit columns of which the candidates do not prove enough
    float *gathered; // rank 0: [vocabulary] all logits of one column
    void *scratch;   // rank 0: oct_sampling_scratch_bytes(vocabulary)
};

// Opening. The kind of backend and its instructions, the first kind that every rank has where none is asked for.
// COLLECTIVE. Errors: OCT_ERR_MACHINE, agreed on.
oct_status oct_engine_choose_backend(oct_engine *engine, const oct_engine_options *options);

// Opens the exchange between the devices where they have memory of their own, or takes the companion's (of one
// communicator, gathers never overlap). COLLECTIVE. Errors: OCT_ERR_MACHINE, agreed on.
oct_status oct_engine_join_devices(oct_engine *engine, const oct_engine_options *options);
void oct_engine_part_devices(oct_engine *engine); // COLLECTIVE, when the backend is gone

// Pages of the KV cache (figures.kv_pages), then whether the memory holds everything. COLLECTIVE; a failure is not yet
// agreed on. Errors: OCT_ERR_MACHINE.
oct_status oct_engine_size_memory(oct_engine *engine, const oct_engine_options *options);

// Creates the backend. COLLECTIVE; a failure is not yet agreed on. Errors: its own.
oct_status oct_engine_create_backend(oct_engine *engine, const oct_engine_options *options);

// What every rank does for a step that rank 0 has described, up to its logits.
oct_status oct_engine_run_step(oct_engine *engine, const oct_control_step *step);

// What follows: the candidates of all sampled columns travel in one round, then the logits of the columns that want
// them. COLLECTIVE. On rank 0 choices are made, as far as the candidates decide them (`undecided`), and `receive` is
// called; elsewhere they are NULL.
oct_status oct_engine_take_results(oct_engine *engine, oct_choice *choices, oct_receive_logits receive, void *context);

// Rank 0: the choices that are still open, from all logits.
oct_status oct_engine_decide_rest(oct_engine *engine, oct_choice *choices);

// Gathers all logits of one logit column in engine->gathered of rank 0. COLLECTIVE.
oct_status oct_engine_gather(oct_engine *engine, int32_t column);

// The bandwidth probe and the touch of oct_engine_touch(). COLLECTIVE; every rank gets the same figure.
oct_status oct_engine_run_probe(oct_engine *engine, double *bytes_per_s);
oct_status oct_engine_run_touch(oct_engine *engine, int64_t positions, double *seconds);

// Bytes of this rank's weights that one pass of the bandwidth probe reads: enough to leave every cache behind.
size_t oct_engine_probe_bytes(const oct_engine *engine);

#endif
