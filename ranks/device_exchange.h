// The exchange between the devices of the ranks (kernels/device_exchange.h), by NCCL. In builds with CUDA only.
//
// A gather is NCCL's all-gather: one kernel, which can be captured and has a low-latency form over symmetric memory.
// Every rank sends as many bytes as the one with the most nodes, the others with padding: with 2, 4 or 8 ranks all have
// one node (runtime/partition.h), 3 ranks and 64 granules send 18 nodes instead of 12, where a node of a column is some
// tens of KiB. Sending only what there is takes a message for each pair of ranks, which costs more than that.
//
// Two paths, chosen once for all memory: where every device reaches the memory of all others, NCCL's symmetric windows
// (and kernels can reach it too); otherwise plain memory, and NCCL finds the way.
#ifndef OCT_RANKS_DEVICE_EXCHANGE_H
#define OCT_RANKS_DEVICE_EXCHANGE_H

#include "kernels/device_exchange.h"
#include "ranks/world.h"

// Opens it for the current device of each rank: makes the communicator, chooses the path, and gathers once, so that
// nothing has to be connected later, when streams are captured. --verbose says the path, why, and what a gather costs.
// COLLECTIVE over the world; failures are agreed on. Errors: OCT_ERR_MACHINE. Where a rank is lost, or does not come
// within the deadline of start-up, the process ends (exit 5).
oct_status oct_device_exchange_open(oct_device_exchange *exchange, oct_world *world);

// Frees the memory and ends the communicator. COLLECTIVE; no stream has gathers left, no graph holds any. Does nothing
// where it is not open. Not after OCT_ERR_LOST: leave by oct_world_abort().
void oct_device_exchange_close(oct_device_exchange *exchange);

#endif
