// The exchange between the devices of the ranks (kernels/device_exchange.h) through the memory of the hosts, by MPI: for
// ranks that share a device, which NCCL refuses (2.5 and later: "Duplicate GPU detected"). Each gather waits for the
// stream and for the other ranks, so that no step is a graph. For tests on few devices, not for speed. In builds with
// CUDA only.
#ifndef OCT_RANKS_DEVICE_RELAY_H
#define OCT_RANKS_DEVICE_RELAY_H

#include "kernels/device_exchange.h"
#include "ranks/world.h"

// Opens it for the current device of each rank. COLLECTIVE over the world; failures are agreed on. Errors:
// OCT_ERR_MACHINE.
oct_status oct_device_relay_open(oct_device_exchange *exchange, oct_world *world);

// Frees the memory. LOCAL; no stream has gathers left. Does nothing where it is not open. Not after OCT_ERR_LOST: leave
// by oct_world_abort().
void oct_device_relay_close(oct_device_exchange *exchange);

#endif
