// What each rank holds of the model and has read of the checkpoint, as the table of --verbose.
#ifndef OCT_RANKS_SHARD_TABLE_H
#define OCT_RANKS_SHARD_TABLE_H

#include "ranks/shard.h"

// Bytes that this process has read with system calls since it began, as the kernel counts them; 0 where the
// kernel does not say. LOCAL.
uint64_t oct_process_read_bytes(void);

// Prints the table on rank 0 at OCT_VERBOSE: heads, units, rows and bytes in the plan of each rank, the bytes
// that it read while it loaded, and how its plan compares to an equal share of the model. COLLECTIVE. Errors:
// OCT_ERR_MACHINE, agreed on.
oct_status oct_shard_table_print(const oct_shard *shard, oct_world *world, uint64_t read_bytes);

#endif
