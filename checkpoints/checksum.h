// XXH3-64, the checksum of everything in a checkpoint, by the fastest code that libxxhash has for this processor.
#ifndef OCT_CHECKPOINTS_CHECKSUM_H
#define OCT_CHECKPOINTS_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

// The XXH3-64 of `size` bytes, seed 0. Reads them once. LOCAL.
uint64_t oct_checksum(const void *bytes, size_t size);

// Adds bytes to a stream that XXH3_64bits_reset() began and XXH3_64bits_digest() ends. LOCAL.
void oct_checksum_update(XXH3_state_t *stream, const void *bytes, size_t size);

#endif
