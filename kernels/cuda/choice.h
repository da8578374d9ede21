// Which device a rank drives, and whether the devices of all ranks can work together.
#ifndef OCT_KERNELS_CUDA_CHOICE_H
#define OCT_KERNELS_CUDA_CHOICE_H

#include "kernels/backend.h"

// The device of the host_rank'th of host_size ranks on a host, of `devices` that it sees: the only one, or each rank
// its own; where there are too few, by turns (may_share) or −1. LOCAL, pure.
int32_t oct_cuda_pick_device(int32_t devices, int32_t host_rank, int32_t host_size, bool may_share);

// Functions of oct_backend_kind; offer() also makes the device the calling thread's.
const char *oct_cuda_instructions_name(int32_t instructions);
oct_status oct_cuda_offer(int32_t host_rank, int32_t host_size, bool may_share, oct_backend_offer *offer);
oct_status oct_cuda_agree(const oct_backend_offer *offers, int32_t ranks, int32_t rank, int32_t asked,
                          int32_t *instructions);

#endif
