// Two bits a weight for whole models: which matrices are q2_k (groups of 16) and which q2 (of 32).
#ifndef OCT_CHECKPOINTS_TWO_BITS_H
#define OCT_CHECKPOINTS_TWO_BITS_H

#include "runtime/encoding.h"
#include "runtime/model.h"

#define OCT_TWO_BITS_MOST 2.7 // bits a weight over all matrices of a model

// Chooses q2_k or q2 for each matrix among a model's tensors: encodings [count]; those of vectors are not touched. q2_k
// is nearer to the weights, so all have it where that takes at most OCT_TWO_BITS_MOST. Elsewhere one kind of matrices
// after another goes over to q2 (a quarter of a bit a weight less) until the model takes no more, or all have: only
// models of very narrow rows then still take more. LOCAL.
void oct_two_bits_choose(const oct_tensor_spec *specs, int32_t count, oct_encoding *encodings);

#endif
