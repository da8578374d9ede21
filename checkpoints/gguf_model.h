// What a GGUF file's metadata says about the model and its vocabulary. For gguf_source.c.
#ifndef OCT_CHECKPOINTS_GGUF_MODEL_H
#define OCT_CHECKPOINTS_GGUF_MODEL_H

#include "checkpoints/gguf.h"
#include "runtime/model.h"
#include "runtime/vocabulary.h"

// Fills a model's description from metadata and the presence of tensors. Errors: OCT_ERR_FILE naming the key.
oct_status oct_gguf_read_model(const oct_gguf *gguf, oct_model *model);

// Fills a vocabulary (owned by the caller; zeroed on failure). Errors: OCT_ERR_FILE naming the key.
oct_status oct_gguf_read_vocabulary(const oct_gguf *gguf, oct_vocabulary *vocabulary);

#endif
