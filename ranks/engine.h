// The engine: a model loaded over all ranks of the job, and the loop that decodes with it. Rank 0 drives: it sends
// what to do over the control channel and does it itself; the other ranks follow in oct_engine_serve().
#ifndef OCT_RANKS_ENGINE_H
#define OCT_RANKS_ENGINE_H

#include "checkpoints/checkpoint.h"
#include "kernels/backend.h"
#include "ranks/control.h"
#include "ranks/exchange.h"
#include "ranks/world.h"
#include "runtime/sampling.h"

typedef struct oct_engine oct_engine;

typedef struct oct_engine_options {
    const char *backend;   // "cpu", "cuda"; NULL: the first kind that every rank has a device for
    int32_t threads;       // per rank; 0: the physical cores of the rank's part of its host
    int32_t instructions;  // as the backend numbers them (cpu: 0 scalar, 1 avx2, 2 avx512); −1: the best of every rank
    bool share_devices;    // ranks may drive one device where there are fewer devices than ranks
    oct_executor executor; // cuda: of narrow steps
    bool fp32_activations; // cpu: inputs of matrices are not rounded (comparisons with other programs)
    int32_t context;       // positions of a sequence; 0: the model's, at most 8192
    int32_t prefill_chunk; // tokens of a prompt in one step; 0: 128
    int32_t slots;         // sequences at a time, each of up to `context` positions; 0: 1
    int32_t kv_tokens;     // room of all sequences together, in whole pages; 0: that all slots need, less where the
                           // memory does not hold it, but at least that of one
    int32_t step_columns;  // that a step must have room for, whatever the chunk, and that may all want a token; 0: one
                           // a slot
    bool all_logits;       // every column of a step may want logits; otherwise not more than may want a token
    oct_exchange_path exchange;
    oct_control_path control;
    oct_engine *companion; // of the same ranks, open longer than this one, with which it takes turns: both run on the
                           // same threads, and there must be memory for both. Or NULL
    void (*when_open)(void *context); // every rank, when all have opened the file and before it is loaded; or NULL
    void *when_open_context;
} oct_engine_options;

// What was decided and measured; the same on every rank unless said otherwise.
typedef struct oct_engine_figures {
    const char *backend; // "cpu", "cuda"
    int32_t threads;
    const char *instructions;
    const char *exchange; // "memory", "mpi" or "none"
    const char *control;  // "ucx", "mpi" or "none"
    int32_t context, prefill_chunk, slots;
    int32_t kv_pages;     // of all sequences together, 64 tokens each
    int32_t step_columns; // of one step, at most
    int32_t sampled_columns; // of those, that want a token
    int32_t logit_columns;   // of those, that want a token or logits
    double shard_imbalance;
    double load_s;             // of the slowest rank
    uint64_t load_bytes;       // of all ranks
    uint64_t weight_bytes_per_step; // of all ranks, a step of one column
    uint64_t kv_bytes_per_position; // of all ranks, a column and an attended position
    uint64_t operation_bytes[OCT_OP_COUNT]; // weights of all ranks, a step of one column
    uint64_t exchange_ns;      // this rank's last step
    int32_t exchange_rounds;
} oct_engine_figures;

// Opens the checkpoint and loads it. COLLECTIVE over the world; failures are agreed on and printed. Errors:
// OCT_ERR_FILE, OCT_ERR_MACHINE.
oct_status oct_engine_open(oct_engine **engine, oct_world *world, const char *path, const oct_engine_options *options);
void oct_engine_close(oct_engine *engine); // COLLECTIVE over the world; engine may be NULL (on all ranks)

const oct_model *oct_engine_model(const oct_engine *engine);
const oct_vocabulary *oct_engine_vocabulary(const oct_engine *engine);
const oct_engine_figures *oct_engine_read_figures(const oct_engine *engine);
// The encoding that most of the model's bytes have.
oct_encoding oct_engine_main_encoding(const oct_engine *engine);

// Ranks other than 0: does what rank 0 says until it says finish, or passes on to another engine of the same ranks
// (*finished false). Errors: whatever a step gives; rank 0 waits inside the step, so leave by oct_world_abort().
oct_status oct_engine_serve(oct_engine *engine, bool *finished);

// The rest is for rank 0. Errors of all: OCT_ERR_LOST, OCT_ERR_DISAGREE (a rank computed other numbers; the message
// has both): leave by oct_world_abort().

// Forgets the sequence of a slot and begins another with these sampling parameters (checked by the caller). tokens
// [count], at most a context, NULL and 0 for none: with which it will begin, the first prompt_count of them prompt, the
// rest output of a sequence that is taken up again. Where other sequences that were begun so have computed whole pages
// of 64 of them (running ones of what they were begun with, those that are over of all that they had), the new one
// shares those and begins with them: oct_engine_length() says how many it has, always less than count. The caller puts
// exactly the other tokens behind them, and never cuts the sequence inside a page of them, only behind them or to
// nothing. A sequence shares what is computed when it begins: begin it right before its first step.
oct_status oct_engine_begin_sequence(oct_engine *engine, int32_t slot, const oct_sampling *sampling,
                                     const int32_t *tokens, int32_t count, int32_t prompt_count);

// Pages of the KV cache that no running sequence holds. LOCAL.
int32_t oct_engine_free_pages(const oct_engine *engine);

// How many of them a sequence that begins with tokens [count] would take to have them all computed. LOCAL.
int32_t oct_engine_pages_wanted(const oct_engine *engine, const int32_t *tokens, int32_t count);

// True where the free pages suffice for a step of these columns. LOCAL; takes time for the columns alone.
bool oct_engine_fits(oct_engine *engine, const oct_control_column *columns, int32_t count);

// One step: puts each column's token behind the sequence of its slot (several for one slot stand there in their order).
// choices [columns that want a token]: the tokens after them, in the order of the columns; token -1 where the logits
// that it is chosen from are not numbers (the ranks stay in step and can go on). A column that wants logits:
// `receive` is called for each, in order, with its position and the logits [vocabulary] of the token after it. At most
// step_columns of oct_engine_figures; the caller sees to it that sequences stay within the context. One more error:
// OCT_ERR_MACHINE where it does not fit (oct_engine_fits()); nothing has been sent or changed then, the caller can free
// a slot and go on.
typedef void (*oct_receive_logits)(void *context, int32_t position, const float *logits);
oct_status oct_engine_step(oct_engine *engine, const oct_control_column *columns, int32_t count, oct_choice *choices,
                           oct_receive_logits receive, void *context);

// Puts `count` tokens behind the sequence of a slot, in steps of at most prefill_chunk. `prompt` says that they are
// prompt (a sampled token that comes back is not). Want a token: *choice is the token after the last. Want logits: of
// every column, as above. More errors: that of a step that does not fit, and OCT_ERR_FILE where the logits that a token
// is chosen from are not numbers; the ranks are in step and can go on with another sequence.
oct_status oct_engine_forward(oct_engine *engine, int32_t slot, const int32_t *tokens, int32_t count, bool prompt,
                              oct_want want, oct_choice *choice, oct_receive_logits receive, void *context);

// Cuts the sequence of a slot to its first `length` tokens (rejected drafts; 0: it is over, and what others can share
// of it is kept until the pages are needed). No effect where it is not longer. The other ranks hear of it with the next
// step or beginning of a sequence; for each slot there are at most OCT_CONTROL_CUTS cuts between two of those.
void oct_engine_truncate(oct_engine *engine, int32_t slot, int32_t length);

// True once a step has failed on rank 0: the others may be inside it, so the job can only end by oct_world_abort().
bool oct_engine_is_broken(const oct_engine *engine);

// Tokens of a slot's sequence so far.
int32_t oct_engine_length(const oct_engine *engine, int32_t slot);

// OCT_ERR_FILE for a choice whose token is -1, behind so many tokens of a sequence. LOCAL.
oct_status oct_engine_check_choice(const oct_choice *choice, int32_t length);

// The read bandwidth of all ranks together, in bytes a second: the best of a few passes over the weights by the
// same threads, which read them as one stream each and as several. COLLECTIVE through the control channel.
oct_status oct_engine_probe_bandwidth(oct_engine *engine, double *bytes_per_s);

// Reads once, with all threads of all ranks, what a decode step of one column behind `positions` positions reads, in
// the way that was fastest in the last probe (there must have been one), and computes nothing: the least that such a
// step can take. COLLECTIVE through the control channel.
oct_status oct_engine_touch(oct_engine *engine, int64_t positions, double *seconds);

// From now on steps add where rank 0's time goes to *times (owned by the caller, who clears it); NULL: no longer.
// LOCAL.
void oct_engine_time_operations(oct_engine *engine, oct_operation_times *times);

// Tells the other ranks that nothing happens until the next call (waiting for a person).
oct_status oct_engine_idle(oct_engine *engine);

// The other ranks go on with another engine (two models on the same ranks take turns).
oct_status oct_engine_pass(oct_engine *engine);

// Ends the other ranks' oct_engine_serve().
oct_status oct_engine_finish(oct_engine *engine);

#endif
