// The named shapes and the vocabulary of synthetic models. For synthetic.c.
#ifndef OCT_CHECKPOINTS_SYNTHETIC_H
#define OCT_CHECKPOINTS_SYNTHETIC_H

#include "runtime/model.h"
#include "runtime/vocabulary.h"

// The model of a shape's name. Errors: OCT_ERR_USAGE naming a shape that may have been meant. LOCAL.
oct_status oct_synthetic_model(const char *shape, oct_model *model);

// A working byte-level vocabulary of `count` tokens (at least 300): the 256 bytes, some English merges, the
// ChatML tokens and filler words. Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_synthetic_vocabulary(int32_t count, oct_vocabulary *vocabulary);

#endif
