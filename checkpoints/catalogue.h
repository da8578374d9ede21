// From the sections of a checkpoint to the tensors that it describes.
#ifndef OCT_CHECKPOINTS_CATALOGUE_H
#define OCT_CHECKPOINTS_CATALOGUE_H

#include "checkpoints/checkpoint_parts.h"

// Fills model, vocabulary, provenance and tensors of a checkpoint from its sections; everything in them is
// compared with what the model's description implies. Errors: OCT_ERR_FILE. What was filled before a failure
// is freed by oct_checkpoint_close. LOCAL.
oct_status oct_catalogue_read(oct_checkpoint *checkpoint, const oct_blob sections[OCT_SECTION_COUNT]);

#endif
