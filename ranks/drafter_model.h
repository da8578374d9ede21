// The drafter by a small model: a second engine on the same ranks decodes ahead of the first one.
#ifndef OCT_RANKS_DRAFTER_MODEL_H
#define OCT_RANKS_DRAFTER_MODEL_H

#include "ranks/drafter.h"
#include "ranks/engine.h"

// Makes a drafter for the slots of `target` that decodes with `draft`: an engine with `target` as its companion, at
// least as many slots and as long a context, whose sequences nobody else touches. Both are borrowed. The other ranks
// serve `target`; in every proposal that has something to do they are passed to `draft` and back. All slots of a
// proposal are decoded together, a step a token. Sampled with the sequences' own parameters, seed and positions, the
// draft model agrees with the target as often as their distributions allow (drafter-invariant coupling: Daliri et al.
// 2024, arXiv:2408.07978). A sequence whose tokens the draft model has not read yet has no drafts, and holds up none
// of the others; where the draft's KV cache is full, sequences have fewer drafts or none. Rank 0. Errors:
// OCT_ERR_MACHINE (memory); OCT_ERR_USAGE where the models have different tokens, with both names. Errors of a
// proposal are the draft engine's besides; the job can only end then.
oct_status oct_drafter_model_create(oct_drafter **drafter, oct_engine *target, oct_engine *draft);

#endif
