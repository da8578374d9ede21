// See multicast.cpp.
#ifndef OCT_TESTS_CUDA_EMULATION_MULTICAST_H
#define OCT_TESTS_CUDA_EMULATION_MULTICAST_H

namespace cuda_emulation
{
// Sets the addresses behind a multicast address, one per rank, and returns how many; 0 where it knows none.
using MulticastLookup = int (*)(const void *multicast, void **peers);
void multicast_set_lookup(MulticastLookup function);
} // namespace cuda_emulation

#endif
