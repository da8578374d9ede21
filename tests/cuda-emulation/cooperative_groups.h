// In place of NVIDIA's <cooperative_groups.h>: blocks, tiles of a warp, the grid.
#ifndef OCT_TESTS_CUDA_EMULATION_COOPERATIVE_GROUPS_H
#define OCT_TESTS_CUDA_EMULATION_COOPERATIVE_GROUPS_H

#include "cuda_emulation.h"

namespace cooperative_groups
{
struct thread_block {
    static unsigned thread_rank()
    {
        return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    }

    static unsigned size()
    {
        return blockDim.x * blockDim.y * blockDim.z;
    }

    static void sync(CUDA_EMULATION_HERE)
    {
        __syncthreads(file, line);
    }
};

static inline thread_block this_thread_block()
{
    return {};
}

template <int N> struct thread_block_tile {
    static unsigned first_lane()
    {
        return cuda_emulation::cur->lane & ~(unsigned)(N - 1);
    }

    static unsigned mask()
    {
        return (~0u >> (32 - N)) << first_lane();
    }

    static unsigned thread_rank()
    {
        return cuda_emulation::cur->lane % N;
    }

    static constexpr unsigned size()
    {
        return N;
    }

    static void sync(CUDA_EMULATION_HERE)
    {
        __syncwarp(mask(), file, line);
    }

    template <class T> static T shfl(T value, int from, CUDA_EMULATION_HERE)
    {
        return __shfl_sync(mask(), value, from, N, file, line);
    }

    template <class T> static T shfl_xor(T value, int with, CUDA_EMULATION_HERE)
    {
        return __shfl_xor_sync(mask(), value, with, N, file, line);
    }

    template <class T> static T shfl_down(T value, int by, CUDA_EMULATION_HERE)
    {
        return __shfl_down_sync(mask(), value, (unsigned)by, N, file, line);
    }

    static unsigned ballot(int predicate, CUDA_EMULATION_HERE)
    {
        return __ballot_sync(mask(), predicate, file, line) >> first_lane();
    }
};

template <int N> static inline thread_block_tile<N> tiled_partition(const thread_block &)
{
    return {};
}

struct grid_group {
    static bool is_valid()
    {
        return true;
    }

    static void sync(CUDA_EMULATION_HERE)
    {
        cuda_emulation::grid_barrier(file, line);
    }
};

static inline grid_group this_grid()
{
    return {};
}
} // namespace cooperative_groups

#endif
