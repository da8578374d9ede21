// Fault injection for tests, compiled only into builds with OCTET_FAULTS; elsewhere it costs nothing.
//
// OCTET_FAULT=RANK:PHASE:COUNT:KIND makes rank RANK fail at its COUNTth (from 1) fault point of PHASE (init,
// open, load, prefill, decode, finish). KIND: kill (SIGKILL), stop (SIGSTOP), segv (SIGSEGV), error (the
// point returns a failure), slow (from there on every point of the phase takes 50 ms more). PHASE may also be `sync`:
// the fault points are then the syncs of the thread that writes responses (launch/writer.h).
#ifndef OCT_RUNTIME_FAULT_H
#define OCT_RUNTIME_FAULT_H

#include "runtime/progress.h"
#include "runtime/status.h"

#ifdef OCTET_FAULTS

// Reads OCTET_FAULT for this rank. LOCAL. OCT_ERR_USAGE where the value is malformed.
oct_status oct_fault_configure(int rank);

// A place where a rank of a test can be made to fail. LOCAL; main thread only. OCT_OK, or for kind `error`
// OCT_ERR_FILE in open and load and OCT_ERR_MACHINE elsewhere.
oct_status oct_fault_point(oct_phase phase);

// The same for a sync; the writing thread only. 0, or for kind `error` the errno EIO.
int oct_fault_sync(void);

#else

static inline oct_status oct_fault_configure(int rank)
{
    (void)rank;
    return OCT_OK;
}

static inline oct_status oct_fault_point(oct_phase phase)
{
    (void)phase;
    return OCT_OK;
}

static inline int oct_fault_sync(void)
{
    return 0;
}

#endif
#endif
