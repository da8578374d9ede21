// Minimal cooperative_groups for the emulator: thread_block, tiles, grid_group.
#pragma once
#include "cuda_emulation.h"
namespace cooperative_groups {
struct thread_block {
    static unsigned thread_rank() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
    static unsigned size() { return blockDim.x * blockDim.y * blockDim.z; }
    static void sync(CUDA_EMULATION_HERE) { __syncthreads(f_, l_); }
};
static inline thread_block this_thread_block() { return {}; }
template <int N> struct thread_block_tile {
    static unsigned thread_rank() { return cuda_emulation::cur->lane % N; }
    static constexpr unsigned size() { return N; }
    static unsigned mask() { return (~0u >> (32 - N)) << (cuda_emulation::cur->lane & ~(N - 1)); }
    static void sync(CUDA_EMULATION_HERE) { __syncwarp(mask(), f_, l_); }
    template <class T> static T shfl(T v, int s, CUDA_EMULATION_HERE) { return __shfl_sync(mask(), v, s, N, f_, l_); }
    template <class T> static T shfl_xor(T v, int s, CUDA_EMULATION_HERE) { return __shfl_xor_sync(mask(), v, s, N, f_, l_); }
    template <class T> static T shfl_down(T v, int s, CUDA_EMULATION_HERE) { return __shfl_down_sync(mask(), v, s, N, f_, l_); }
    static unsigned ballot(int p, CUDA_EMULATION_HERE) { return __ballot_sync(mask(), p, f_, l_) >> (cuda_emulation::cur->lane & ~(N - 1)); }
};
template <int N> static inline thread_block_tile<N> tiled_partition(const thread_block&) { return {}; }
struct grid_group {
    static bool is_valid() { return true; }
    static void sync(CUDA_EMULATION_HERE) { cuda_emulation::grid_barrier(f_, l_); }
};
static inline grid_group this_grid() { return {}; }
}
