// What the parts of the emulated NCCL share: communicators (nccl_communicators.cpp), collectives (nccl_collectives.cpp)
// and symmetric memory (nccl_windows.cpp). One rank is one process; all ranks run on one host; a device's memory is
// the process's.
#ifndef OCT_TESTS_CUDA_EMULATION_NCCL_EMULATION_H
#define OCT_TESTS_CUDA_EMULATION_NCCL_EMULATION_H

#include <cstdint>
#include <functional>

#include <mpi.h>
#include <nccl.h>

struct ncclComm {
    MPI_Comm mpi;
    int rank, ranks;
    uint64_t collectives; // issued so far, for messages
    bool blocking;
    std::function<ncclResult_t()> pending; // what the last call still has to do; ncclInProgress: call it again
};

namespace cuda_emulation
{
int64_t nccl_patience_ns();

// Whether the devices of the ranks reach each other's memory (CUDA_EMULATION_NCCL_SYMMETRIC).
bool nccl_is_symmetric();

// Ends a call: does `step` until it is done; on a communicator that does not block it comes back at once with
// ncclInProgress, and nothing happens before ncclCommGetAsyncError() has been asked twice: so a program that goes on
// without asking finds its work missing.
ncclResult_t nccl_finish(ncclComm_t communicator, std::function<ncclResult_t()> step);

// Ends the process where the communicator is still busy with another call.
void nccl_expect_idle(ncclComm_t communicator, const char *call);
} // namespace cuda_emulation

#endif
