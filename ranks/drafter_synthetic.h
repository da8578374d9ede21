// The synthetic drafter, for measurements: it knows what comes. The requests are decoded plainly first, while it
// records their tokens; then again, while it proposes them, each one right with a given probability. So what
// speculation costs and gains is measured apart from a drafter's luck.
#ifndef OCT_RANKS_DRAFTER_SYNTHETIC_H
#define OCT_RANKS_DRAFTER_SYNTHETIC_H

#include "ranks/drafter.h"

// A drafter that records, for `slots` slots. Whether a proposed token is the recorded one (with `probability`, 0 … 1)
// or another is a function of request and position. Recording allocates, proposing does not. Errors: OCT_ERR_MACHINE
// when memory is out (recording too).
oct_status oct_drafter_synthetic_create(oct_drafter **drafter, int32_t slots, int32_t vocabulary, double probability);

// From now on it proposes what was recorded. `drafter` is one of the above.
void oct_drafter_synthetic_replay(oct_drafter *drafter);

#endif
