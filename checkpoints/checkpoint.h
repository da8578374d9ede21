// Reading a checkpoint: one HDF5 file that holds configuration, tokenizer, chat template, provenance and
// tensors. One rank reads the catalogue and broadcasts it; tensor data is read by each rank on its own.
#ifndef OCT_CHECKPOINTS_CHECKPOINT_H
#define OCT_CHECKPOINTS_CHECKPOINT_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/encoding.h"
#include "runtime/model.h"
#include "runtime/status.h"
#include "runtime/vocabulary.h"

typedef struct oct_checkpoint oct_checkpoint;

// One matrix of the catalogue.
typedef struct oct_tensor {
    oct_tensor_spec spec;
    oct_encoding encoding;
    char source[32];               // what it was imported from, for example "Q4_1"; for people
    uint64_t file_offset;          // of granule 0, in bytes
    const uint64_t *granule_bytes; // [granules + 1] offsets of the granules from file_offset
    const uint64_t *checksums;     // [granules] XXH3-64 of each granule's bytes
} oct_tensor;

// Opens `path`. COLLECTIVE over `communicator`: rank 0 reads and checks the catalogue, the others get it by
// broadcast; then every rank opens the file for reading. On failure every rank returns the same status and
// only the rank that found it has a failure text. MPI_COMM_NULL: this process alone, MPI not needed. Errors:
// OCT_ERR_FILE (missing, no checkpoint, damaged, truncated, newer format).
oct_status oct_checkpoint_open(oct_checkpoint **checkpoint, const char *path, MPI_Comm communicator);

// Closes the file and frees everything. LOCAL. NULL is allowed.
void oct_checkpoint_close(oct_checkpoint *checkpoint);

// What the file describes; owned by the checkpoint.
const oct_model *oct_checkpoint_model(const oct_checkpoint *checkpoint);
const oct_vocabulary *oct_checkpoint_vocabulary(const oct_checkpoint *checkpoint);

// The matrix called `name`, or NULL.
const oct_tensor *oct_checkpoint_matrix(const oct_checkpoint *checkpoint, const char *name);
// All matrices in the order of the file.
const oct_tensor *oct_checkpoint_matrices(const oct_checkpoint *checkpoint, int32_t *count);

// Provenance as the text of a JSON object (source, its size and checksum, importer); the path; the bytes of
// the file. Owned by the checkpoint.
const char *oct_checkpoint_provenance(const oct_checkpoint *checkpoint);
const char *oct_checkpoint_path(const oct_checkpoint *checkpoint);
uint64_t oct_checkpoint_file_bytes(const oct_checkpoint *checkpoint);

// The fp32 values of the vector called `name` ([spec.rows], whole, on every rank), or NULL where the model
// has none of that name. Owned by the checkpoint; its checksum was verified when the file was opened.
const float *oct_checkpoint_vector(const oct_checkpoint *checkpoint, const char *name);

// Bytes of the granules [run.begin, run.end) of a matrix: one run in the file.
static inline uint64_t oct_tensor_run_bytes(const oct_tensor *tensor, oct_run run)
{
    return tensor->granule_bytes[run.end] - tensor->granule_bytes[run.begin];
}

// One piece of work for oct_checkpoint_load: granules of a matrix.
typedef struct oct_load_item {
    const oct_tensor *tensor;
    oct_run run; // granules
} oct_load_item;

// Bytes that are read and checked at a time, at most: few enough that source and destination stay in the second-level
// cache for the checksum.
enum { OCT_LOAD_PIECE_BYTES = 256 << 10 };

// Where the bytes go. place() and accept() are called by all loading threads at once, which have the numbers 0 …
// threads − 1; statuses that they return end the load.
typedef struct oct_load_target {
    void *context;

    // Sets *to to where bytes [offset, offset + bytes) of an item's run are to be read to, at most
    // OCT_LOAD_PIECE_BYTES: straight into their final place, or into memory that is the thread's until its next
    // place(). They are whole granules, or a part of one that is larger.
    oct_status (*place)(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes, void **to);

    // They stand there, and match their checksum; of a granule in parts it is known only behind the last one. (The
    // parts come from one thread, in ascending order.) NULL: nothing is to be done.
    oct_status (*accept)(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes);

    // Called once, by the thread that loads, when everything has been accepted: waits for what accept() has only begun.
    // NULL: nothing is.
    oct_status (*finish)(void *context);
} oct_load_target;

typedef struct oct_load_report {
    uint64_t bytes;
    double seconds;
} oct_load_report;

// Reads all items [count] into the target (NULL: nowhere, they are only verified) and verifies every granule's checksum
// on the way, with `threads` threads of this process, 1 to OCT_LOAD_THREADS. `progress` (may be NULL) is called now and
// then from the calling thread or others with the bytes read so far. LOCAL. Errors: OCT_ERR_FILE naming tensor and
// granule (damaged, truncated, unreadable); the target's.
enum { OCT_LOAD_THREADS = 256 };
oct_status oct_checkpoint_load(oct_checkpoint *checkpoint, const oct_load_item *items, int32_t count,
                               const oct_load_target *target, int threads,
                               void (*progress)(void *context, uint64_t bytes), void *context,
                               oct_load_report *report);

// Reads and verifies everything: every granule's checksum, and that HDF5's own description of each dataset
// agrees with the catalogue, so that other programs see the same bytes. `threads` and `report` as in
// oct_checkpoint_load. LOCAL. Errors: OCT_ERR_FILE naming what is damaged.
oct_status oct_checkpoint_verify(oct_checkpoint *checkpoint, int threads, oct_load_report *report);

#endif
