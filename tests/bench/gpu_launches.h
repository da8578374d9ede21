// What a step of the CUDA backend launches: its own walk over the step program of one rank, without a weight in
// memory. The emulation of CUDA's runtime records the kernel, grid, shared memory and operands of each launch and runs
// none; the bytes are those that the kernels' headers declare for these operands. For bench_gpu_bounds.
#ifndef OCT_TESTS_BENCH_GPU_LAUNCHES_H
#define OCT_TESTS_BENCH_GPU_LAUNCHES_H

#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/kernels.h"

extern "C" {
#include "runtime/encoding.h"
#include "runtime/step_program.h"
}

// A launch of a step.
struct gpu_launch {
    oct_operation_kind operation;
    std::string kernel; // as in the table of kernels/cuda/print-resources
    dim3 blocks, threads;
    size_t dynamic_bytes;
    std::vector<std::pair<int32_t, uint64_t>> reads; // matrices of the program, and the bytes that it reads of each
    uint64_t cache_bytes;                            // of keys and values, once each
    uint64_t other_bytes;                            // of all else, which caches may hold

    uint64_t weight_bytes() const;
};

// A rank's shard.
struct gpu_shard {
    oct_step_program program;
    std::vector<oct_encoding> encodings; // [matrix_count]
    int32_t context;                     // positions of a sequence, at most
    bool gathers;                        // NCCL gathers nodes; otherwise kernels exchange them

    uint64_t matrix_bytes(int32_t matrix) const; // on the device
    uint64_t weight_bytes() const;               // of all matrices
};

// A piece of a step: columns that go through the program together; of one sequence, which ends at `positions`.
struct gpu_piece {
    int32_t columns, logit_columns;
    int64_t positions;
};

// The launches of a piece in order (reductions of up to 16 columns in one shot, of more in two), on a device of so many multiprocessors. The process ends where a launch is refused.
std::vector<gpu_launch> gpu_launches_of(const gpu_shard &shard, const gpu_piece &piece, int32_t multiprocessors);

#endif
