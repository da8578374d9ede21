// What the two halves of the emulated NCCL share: communicators (nccl_collectives.cpp) and symmetric memory
// (nccl_windows.cpp). One rank is one process; all ranks run on one host; a device's memory is the process's.
#ifndef OCT_TESTS_CUDA_EMULATION_NCCL_EMULATION_H
#define OCT_TESTS_CUDA_EMULATION_NCCL_EMULATION_H

#include <cstdint>

#include <mpi.h>
#include <nccl.h>

struct ncclComm {
    MPI_Comm mpi;
    int rank, ranks;
    uint64_t collectives; // issued so far, for messages
};

#endif
