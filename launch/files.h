// The files that a command line names: none may be written over while it is read, or twice at a time.
#ifndef OCT_LAUNCH_FILES_H
#define OCT_LAUNCH_FILES_H

#include "launch/options.h"

// Compares what is written with everything else that the options name; draft: the model of --speculate draft=, or NULL.
// Whatever its name (a link, another path), a regular file is the same by its device and inode, one that is not there
// yet by its name. Errors: OCT_ERR_USAGE with both options. LOCAL; for the rank that opens them.
oct_status oct_files_check(const oct_options *options, const char *draft);

#endif
