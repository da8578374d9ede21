// NAME.part: a file under construction that becomes NAME when it is whole. For the writer.
#ifndef OCT_CHECKPOINTS_PART_FILE_H
#define OCT_CHECKPOINTS_PART_FILE_H

#include <stdint.h>

#include "runtime/status.h"

// Opens NAME.part for this process alone; a file left by a killed process is taken over. Errors:
// OCT_ERR_FILE. LOCAL.
oct_status oct_part_take(const char *part, int *fd);

// Extends it to all that it can need, so that a full disk or a limit is found now: HDF5 1.10 does not survive
// a write that fails. Where the file system cannot reserve, its free space is taken at its word. Errors:
// OCT_ERR_FILE. LOCAL.
oct_status oct_part_reserve(const char *part, int fd, uint64_t bytes);

// Cuts off what was reserved and not used, syncs, and renames to `path`; *file_bytes is the size. The HDF5
// file in it has been closed. Errors: OCT_ERR_FILE. LOCAL.
oct_status oct_part_finish(const char *part, int fd, const char *path, uint64_t *file_bytes);

#endif
