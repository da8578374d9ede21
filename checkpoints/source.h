// Where a checkpoint's contents come from while it is written: a GGUF file, random numbers, …. The writer
// asks for one tile at a time, so that no source ever holds a whole model in memory.
#ifndef OCT_CHECKPOINTS_SOURCE_H
#define OCT_CHECKPOINTS_SOURCE_H

#include <stdint.h>

#include "checkpoints/tile.h"
#include "runtime/model.h"
#include "runtime/vocabulary.h"

// What is known of a tensor before it is read.
typedef struct oct_source_tensor {
    oct_encoding encoding; // that holds it exactly; of matrices
    char type[32];         // the source's own name of its type, for people
} oct_source_tensor;

typedef struct oct_source {
    oct_model model;
    oct_vocabulary vocabulary;  // owned
    char *provenance;           // JSON object text: what it was made from; owned
    oct_tensor_spec *specs;     // [count] tensors of the model, owned
    oct_source_tensor *tensors; // [count] likewise, owned
    int32_t count;
    void *state; // of the functions below, freed by `release`

    // Fills the fp32 values of vector `index` [specs[index].rows].
    oct_status (*read_vector)(struct oct_source *source, int32_t index, float *out);
    // Fills rows [16 tile, 16 tile + 16) of matrix `index`, in its own encoding; rows behind the last are
    // zero.
    oct_status (*read_tile)(struct oct_source *source, int32_t index, int64_t tile, oct_tile *out);
    // Instead of read_tile, where not NULL: writes the packed strip of a tile over [first, last) in
    // `encoding`.
    void (*make_strip)(struct oct_source *source, int32_t index, int64_t tile, oct_encoding encoding,
                       int64_t first, int64_t last, uint8_t *strip);
    void (*release)(struct oct_source *source);
} oct_source;

// Opens a GGUF file as a source. Errors: OCT_ERR_FILE naming the key or tensor that is missing or wrong.
// LOCAL.
oct_status oct_source_open_gguf(oct_source *source, const char *path);

// Random weights in a named shape: seeded by the shape, multiplied by `scale`. With `scale` 1 activations
// keep their size from layer to layer. Errors: OCT_ERR_USAGE for an unknown name. LOCAL.
oct_status oct_source_open_synthetic(oct_source *source, const char *shape, double scale);
// The names of the shapes, NULL behind the last, and a few words about number i. LOCAL.
const char *const *oct_synthetic_shapes(void);
const char *oct_synthetic_summary(int i);

// Frees what a source owns; a zeroed source is allowed. LOCAL.
void oct_source_close(oct_source *source);

#endif
