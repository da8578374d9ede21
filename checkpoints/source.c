// The end of a source, whatever its kind.
#include "checkpoints/source.h"

#include <stdlib.h>

void oct_source_close(oct_source *source)
{
    if (source->state)
        source->release(source);
    oct_vocabulary_free(&source->vocabulary);
    free(source->provenance);
    free(source->specs);
    free(source->tensors);
    *source = (oct_source){0};
}
