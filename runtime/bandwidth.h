// The read-bandwidth probe, and percentiles of what a run measured. Clock: oct_now_ns() of
// runtime/progress.h.
#ifndef OCT_RUNTIME_BANDWIDTH_H
#define OCT_RUNTIME_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

// Pieces of memory that one thread reads in alternation: a processor whose prefetchers follow several streams reads
// faster so (Ice Lake server, two threads: 27 to 30 GB/s against 22 to 24).
#define OCT_READ_STREAMS 8

// Reads every byte of data [bytes] once, as fast as one thread can: front to back where streams is 1, else as that
// many equal pieces (2 … OCT_READ_STREAMS) in alternation, 512 bytes each. Returns the exclusive or of its 64-bit
// words (the last one padded with zeros; of words in the machine's byte order), so that the reads cannot be left
// out. Any alignment. Moves `bytes` bytes. For the bandwidth of a machine each thread of a team reads its own part,
// larger than the caches, several times in both ways; the best pass counts. LOCAL.
uint64_t oct_read_touch(const void *data, size_t bytes, int32_t streams);

// Sorts `values` [n] and returns the smallest one that at least `percent` per cent of them do not exceed
// (nearest rank; percent 50 is a median, 0 the smallest); 0 where n = 0. LOCAL.
double oct_percentile(double *values, size_t n, double percent);

#endif
