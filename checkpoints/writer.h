// Writing a checkpoint from a source, tensor by tensor: to NAME.part, synced, renamed when it is whole.
#ifndef OCT_CHECKPOINTS_WRITER_H
#define OCT_CHECKPOINTS_WRITER_H

#include <stdint.h>

#include "checkpoints/source.h"

typedef struct oct_write_options {
    // oct_encoding of all matrices (bf16, f16, f32, q8, q4 or q2_k), or −1: as the source has them, or OCT_Q2: q2_k or
    // q2, as oct_two_bits_choose() has it.
    int encoding;
    int threads;  // that encode, at least 1 (0 counts as 1)
    // Called after each tensor, may be NULL: bytes of tensors written so far, of all of them.
    void (*progress)(void *context, uint64_t bytes, uint64_t total);
    void *context;
} oct_write_options;

typedef struct oct_write_report {
    uint64_t tensor_bytes; // of matrices
    uint64_t weights;      // in matrices
    uint64_t file_bytes;
    double seconds;
} oct_write_report;

// Writes `path`. Memory: one encoded matrix, and two tiles a thread. On failure nothing stands under `path` that was
// not there before, and NAME.part is removed. Two writes of the same source give the same bytes, whatever the
// threads. `report` may be NULL. Errors: OCT_ERR_FILE (cannot write, no space, source damaged), OCT_ERR_MACHINE.
// LOCAL.
oct_status oct_checkpoint_write(oct_source *source, const char *path, const oct_write_options *options,
                                oct_write_report *report);

#endif
