// The second executor: one cooperative launch a step. Its kernel (persistent_kernel.h) walks a list of operations that
// was recorded once, at load, from the same walk over the step program that the first executor's graphs are captured
// from (record.h), by the same bodies, with a barrier of the grid between operations. While a block waits there it asks
// for the first weights of its next projection.
#ifndef OCT_KERNELS_CUDA_PERSISTENT_H
#define OCT_KERNELS_CUDA_PERSISTENT_H

#include "kernels/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/step_program.h"

// What the kernel shares with the host and its own next launch; zero before the first launch.
enum { OCT_CUDA_GRID_WORDS = 2 };
typedef struct oct_cuda_grid_words {
    uint32_t *arrived;     // on the device: blocks that have come to barriers of this launch, and behind it those that
                           // have left; both 0 at its end
    uint32_t *gave_up;     // pinned: the kernel writes 1 when it leaves before its end
    const uint32_t *abort; // oct_device_exchange.abort, or NULL: one rank
} oct_cuda_grid_words;

// A recorded step of a fixed number of columns. Plain data; zero before begin().
typedef struct oct_cuda_program {
    int32_t count, capacity; // of operations
    int32_t columns;
    uint64_t limit_ns;       // that a block waits for the others at a barrier; 0: for ever
    void *records;           // on the host, until end(); owned
    void *on_device;         // [capacity] of oct_cuda_program_record_bytes(), the caller's
    int32_t variant;         // of the kernel
    int32_t first_projection;
    size_t ring_bytes;       // of a warp
    size_t shared_bytes;     // of a block
    int32_t blocks;
    oct_cuda_grid_words words;
} oct_cuda_program;

// Operations that a step is recorded as, at most; and the bytes of one in device memory. LOCAL, pure.
int32_t oct_cuda_program_capacity(const oct_step_program *program);
size_t oct_cuda_program_record_bytes(void);

// From now on what is launched in the stream, which this thread alone uses, is recorded. capacity, columns, limit_ns,
// on_device and words are set. end(): it is no longer; unless `status` says that recording has failed, lays out shared
// memory, finds how many blocks the device holds at once and copies the list to it. Errors: status; OCT_ERR_MACHINE
// where an operation does not fit the device's shared memory (the text says of how many columns).
oct_status oct_cuda_program_begin(oct_cuda_program *program, cudaStream_t stream);
oct_status oct_cuda_program_end(oct_cuda_program *program, const oct_cuda_device *device, cudaStream_t stream,
                                oct_status status);

// Runs the step. Errors: see kernels.h; when the stream has ended oct_cuda_program_check() says whether the kernel came
// to its end: OCT_ERR_LOST where blocks waited for each other for too long, or the host told them to leave.
oct_status oct_cuda_program_launch(const oct_cuda_program *program, cudaStream_t stream);
oct_status oct_cuda_program_check(const oct_cuda_grid_words *words);

#ifdef __cplusplus
}
#endif

#endif
