// XXH3-64, the checksum of everything in a checkpoint, by the fastest code that libxxhash has for this processor:
// without the dispatch it takes SSE2, which is less than a third as fast as AVX-512 and costs loading time.
#ifndef OCT_CHECKPOINTS_CHECKSUM_H
#define OCT_CHECKPOINTS_CHECKSUM_H

#include <xxhash.h>
#ifdef OCT_HAVE_XXHASH_DISPATCH
#include <xxh_x86dispatch.h> // gives XXH3_64bits and XXH3_64bits_update this meaning
#endif

#endif
