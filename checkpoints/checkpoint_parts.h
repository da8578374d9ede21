// What the files behind checkpoint.h share: the open checkpoint.
#ifndef OCT_CHECKPOINTS_CHECKPOINT_PARTS_H
#define OCT_CHECKPOINTS_CHECKPOINT_PARTS_H

#include "checkpoints/checkpoint.h"
#include "checkpoints/sections.h"

struct oct_checkpoint {
    char *path;
    int fd; // of every rank, for tensor data
    uint64_t file_bytes;
    oct_model model;
    oct_vocabulary vocabulary;
    char *provenance;
    oct_tensor *matrices; // [matrix_count]
    int32_t matrix_count;
    oct_tensor_spec *specs; // [spec_count] all tensors
    int32_t spec_count;
    uint64_t *vector_first; // [spec_count] first number of each vector in `vectors`
    float *vectors;
    uint64_t *granule_bytes; // of all matrices: granules + 1 entries each
    uint64_t *checksums;     // of all matrices
};

#endif
