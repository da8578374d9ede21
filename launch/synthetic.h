// Random weights in a named shape, as `import` writes them and `bench` runs them.
#ifndef OCT_LAUNCH_SYNTHETIC_H
#define OCT_LAUNCH_SYNTHETIC_H

#include <limits.h>

#include "checkpoints/source.h"
#include "launch/options.h"
#include "ranks/world.h"

// Opens the shape of --synthetic as a source. Errors: OCT_ERR_USAGE naming a shape that may have been meant;
// OCT_ERR_MACHINE. LOCAL.
oct_status oct_synthetic_open(const oct_options *options, oct_source *source);

// Rank 0 writes the shape of --synthetic to a new file in $TMPDIR (/tmp where that is not set); every rank gets its
// path, for which the variable must say the same on all ranks. COLLECTIVE; failures are agreed on. Errors: those of
// oct_synthetic_open(), OCT_ERR_FILE.
oct_status oct_synthetic_write(oct_world *world, const oct_options *options, char path[PATH_MAX]);

// Rank 0: takes the file away again; whoever has it open can go on reading. An empty path is allowed. LOCAL.
void oct_synthetic_remove(const oct_world *world, const char *path);

#endif
