// Multicast addresses, which only NCCL's windows have: whoever makes windows says how to look them up.
#include "multicast.h"

#include "scheduler.h"

namespace cuda_emulation
{
static MulticastLookup lookup;

void multicast_set_lookup(MulticastLookup function)
{
    lookup = function;
}
} // namespace cuda_emulation

extern "C" int cuda_emulation_multicast_peers(const void *multicast, void **peers)
{
    int count = cuda_emulation::lookup ? cuda_emulation::lookup(multicast, peers) : 0;
    if (!count)
        cuda_emulation::die("multicast access at %p: outside every window", multicast);
    return count;
}
