// The configuration of a checkpoint: the JSON text that holds the model's description, the scalars of its
// vocabulary and its provenance; and the vocabulary's lists as sections.
#ifndef OCT_CHECKPOINTS_CONFIG_H
#define OCT_CHECKPOINTS_CONFIG_H

#include "checkpoints/sections.h"
#include "runtime/model.h"
#include "runtime/vocabulary.h"

// Fills the configuration and the vocabulary's sections (owned by the caller). `provenance` is the text of a
// JSON object, to which importer and encoding are added. Errors: OCT_ERR_FILE. LOCAL.
oct_status oct_config_write(const oct_model *model, const oct_vocabulary *vocabulary, const char *provenance,
                            const char *encoding, oct_blob sections[OCT_SECTION_COUNT]);

// Reads them back and checks them; `provenance` is malloc'ed JSON text. On failure nothing is set.
// Errors: OCT_ERR_FILE: damaged, or of a newer format. LOCAL.
oct_status oct_config_read(const oct_blob sections[OCT_SECTION_COUNT], oct_model *model,
                           oct_vocabulary *vocabulary, char **provenance);

#endif
