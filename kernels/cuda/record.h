// Where launches go that are part of a step: to their stream, or, while that is recorded (oct_cuda_program_begin() of
// persistent.h), to the list of operations that the persistent kernel walks. So there is one description of a step,
// the walk over its program (backend_walk.c), for both executors.
#ifndef OCT_KERNELS_CUDA_RECORD_H
#define OCT_KERNELS_CUDA_RECORD_H

#include "kernels/cuda/device.h"

// The bodies that a recorded step can have.
typedef enum oct_body {
    OCT_BODY_EMBED,
    OCT_BODY_PREPARE,
    OCT_BODY_PROJECT,
    OCT_BODY_ATTENTION,      // one tile of queries
    OCT_BODY_ATTENTION_WIDE, // several
    OCT_BODY_REDUCE,        // these two wait for other ranks, and each block of the grid has a part of them
    OCT_BODY_EXCHANGE_ROWS,
    OCT_BODY_SELECT
} oct_body;

// Is this stream recorded? By the calling thread, which is the only one that uses the stream.
bool oct_recording(cudaStream_t stream);

// Appends an operation: `grid` blocks of OCT_BLOCK_THREADS, each with shared_bytes. Errors: cudaErrorInvalidValue (the
// list is full, or the operands are larger than its entries: a mistake in the program).
cudaError_t oct_record(oct_body body, dim3 grid, size_t shared_bytes, const void *operands, size_t operand_bytes);

// Launches a kernel of a chain (device.h) whose body is `body`, or records it. dynamic_bytes of shared memory for the kernel, body_bytes for
// the body alone.
template <class Operands>
static inline cudaError_t oct_issue(oct_body body, void (*kernel)(const Operands), dim3 grid, size_t dynamic_bytes,
                                    size_t body_bytes, cudaStream_t stream, const Operands &operands)
{
    if (oct_recording(stream))
        return oct_record(body, grid, body_bytes, &operands, sizeof operands);
    return oct_launch(kernel, grid, dim3(OCT_BLOCK_THREADS), dynamic_bytes, stream, OCT_LAUNCH_CHAINED, operands);
}

#endif
