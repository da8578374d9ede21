// Placement: which cores of its host a rank uses, with how many threads.
//
// A rank stays in the mask that its launcher gave it. Ranks of a host whose masks overlap split the union
// between them. `--threads` is per rank; by default it is the number of physical cores of the rank's part.
#ifndef OCT_RANKS_PLACEMENT_H
#define OCT_RANKS_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "ranks/world.h"

typedef struct oct_placement {
    int32_t threads;     // of this rank, the main thread included
    int32_t cores;       // physical cores of this rank's part
    int32_t *cpus;       // [threads] logical CPU for each thread, main thread first; NULL: do not pin
    bool oversubscribed; // this host runs more threads than the ranks have cores: wait by yielding
} oct_placement;

// Chooses. `threads` 0: the default. COLLECTIVE over all ranks; failures are agreed on (OCT_ERR_USAGE for an
// absurd number, OCT_ERR_MACHINE). Pins nothing itself; tells oct_wait_configure(). Rank 0 prints the table
// of all ranks with --verbose and warns once where masks leave most of a host idle.
oct_status oct_placement_choose(oct_placement *placement, oct_world *world, int32_t threads);

// Frees cpus. LOCAL.
void oct_placement_free(oct_placement *placement);

#endif
