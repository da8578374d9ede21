// Counts the allocations that Octet's own code makes: in builds for tests (OCTET_FAULTS) the linker sends every call of
// malloc, calloc, realloc, aligned_alloc and strdup in our objects through here; libraries keep their own.
#ifndef OCT_RUNTIME_ALLOCATIONS_H
#define OCT_RUNTIME_ALLOCATIONS_H

#include <stdint.h>

// Allocations so far, by all threads but those that left themselves out; −1 in builds that do not count.
int64_t oct_allocations_count(void);

// The calling thread has no part in decoding: what it allocates from now on is not counted.
void oct_allocations_leave_out(void);

#endif
