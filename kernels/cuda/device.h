// What every kernel file includes first: the CUDA runtime, shared memory and launches in a spelling that nvcc and the
// emulation of the tests (tests/cuda-emulation/) both understand. Rules for kernels that run in both:
//   - external linkage, launched by oct_launch(), never by <<<>>>;
//   - shared memory by SHARED(type, name) or DYN_SHARED(type, name);
//   - instructions without a spelling in CUDA C++ are in instructions.h, exp, log, sin, cos, division and square root
//     in elementary.h, and nowhere else; fmaf is written out, nothing is contracted (-fmad=false);
//   - warp collectives with a full mask, in control flow that is uniform over the warp;
//   - what changes from step to step is read from device memory, so that a captured graph can be replayed.
#ifndef OCT_KERNELS_CUDA_DEVICE_H
#define OCT_KERNELS_CUDA_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifndef OCT_CUDA_EMULATED
#include <cuda_runtime.h>
#define SHARED(type, name) __shared__ type name
#define DYN_SHARED(type, name)                                                                                         \
    extern __shared__ __align__(1024) unsigned char oct_dynamic_shared[];                                              \
    type *name = reinterpret_cast<type *>(oct_dynamic_shared)
#elif !defined(__grid_constant__)
#define __grid_constant__
#endif

#define OCT_DEVICE static __device__ __forceinline__

#define OCT_WARP 32
#define OCT_BLOCK_THREADS 256 // that a body is called by
#define OCT_WARP_MASK 0xffffffffu

#include "kernels/cuda/instructions.h"

// a / b, rounded up.
static __host__ __device__ __forceinline__ int32_t oct_ceiling(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

// How a kernel is launched, besides its grid.
enum {
    OCT_LAUNCH_PLAIN = 0,
    OCT_LAUNCH_COOPERATIVE = 1, // all blocks are resident: grid barriers are allowed
    OCT_LAUNCH_CHAINED = 2      // blocks may be there before the kernel in front of it in the stream has ended; nobody
                                // touches what others write before oct_chain() or wait_for_predecessors()
};

// Launches `kernel` with its arguments; dynamic_bytes of shared memory (allowed beforehand by oct_allow_shared() where
// it is above 48 KiB). Can be captured in a graph.
template <class... Parameters, class... Arguments>
static inline cudaError_t oct_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_bytes,
                                     cudaStream_t stream, int kind, Arguments... arguments)
{
    cudaLaunchAttribute attributes[1];
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = grid;
    configuration.blockDim = block;
    configuration.dynamicSmemBytes = dynamic_bytes;
    configuration.stream = stream;
    configuration.attrs = attributes;
    if (kind == OCT_LAUNCH_COOPERATIVE) {
        attributes[0].id = cudaLaunchAttributeCooperative;
        attributes[0].val.cooperative = 1;
        configuration.numAttrs = 1;
    } else if (kind == OCT_LAUNCH_CHAINED) {
        attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[0].val.programmaticStreamSerializationAllowed = 1;
        configuration.numAttrs = 1;
    }
    return cudaLaunchKernelEx(&configuration, kernel, Parameters(arguments)...);
}

// Lets a kernel be launched with so many bytes of dynamic shared memory; once, before the first launch.
template <class... Parameters>
static inline cudaError_t oct_allow_shared(void (*kernel)(Parameters...), size_t bytes)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                static_cast<int>(bytes));
}

// bf16 values are bit patterns, computed with in fp32: the same on a GPU and under emulation.
OCT_DEVICE float oct_low_bf16(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

OCT_DEVICE float oct_high_bf16(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

// To nearest even; NaN stays a quiet NaN, as on the host. Denormals are kept.
OCT_DEVICE uint32_t oct_to_bf16(float value)
{
    const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7fffffffu;
    return magnitude > 0x7f800000u ? (bits | 0x00400000u) >> 16 : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

// The same in one instruction, but that any NaN becomes 0x7fff.
OCT_DEVICE uint32_t oct_to_bf16_pair(float low, float high)
{
    return to_bf16x2(low, high);
}

// Loads and stores of another type than that of the array, aligned to T.
template <class T> OCT_DEVICE T oct_load(const void *at)
{
#ifdef OCT_CUDA_EMULATED
    T value;
    memcpy(&value, __builtin_assume_aligned(at, alignof(T)), sizeof value);
    return value;
#else
    return *static_cast<const T *>(at);
#endif
}

template <class T> OCT_DEVICE void oct_store(void *at, T value)
{
#ifdef OCT_CUDA_EMULATED
    memcpy(__builtin_assume_aligned(at, alignof(T)), &value, sizeof value);
#else
    *static_cast<T *>(at) = value;
#endif
}

// The same number, but nothing that the compiler knows of it.
OCT_DEVICE uint32_t hide(uint32_t value)
{
#ifndef OCT_CUDA_EMULATED
    asm volatile("" : "+r"(value));
#endif
    return value;
}

// The place of a block among those that share an operation's work. Every operation of a step is a function of its
// operands, a place and shared memory (its body): a kernel of its own calls it with the place that its launch gives it,
// a grid that stays (persistent.cu) with one place after another. A body leaves nothing in flight, and may return
// without a barrier: who calls it again puts one between.
typedef struct oct_place {
    int32_t x, y, z;                      // this block, as blockIdx
    int32_t blocks_x, blocks_y, blocks_z; // all of them, as gridDim
} oct_place;

OCT_DEVICE oct_place oct_place_of_launch(void)
{
    return {static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y), static_cast<int32_t>(blockIdx.z),
            static_cast<int32_t>(gridDim.x),  static_cast<int32_t>(gridDim.y),  static_cast<int32_t>(gridDim.z)};
}

// What a kernel of a chain does first: lets the one behind it begin, and waits for those in front of it. The wait is for
// their ends; so what holds between two neighbours holds along the chain, and nobody may leave without it.
OCT_DEVICE void oct_chain(void)
{
    launch_dependents();
    wait_for_predecessors();
}

OCT_DEVICE int oct_lane(void)
{
    return static_cast<int>(threadIdx.x) % OCT_WARP;
}

OCT_DEVICE int oct_warp(void)
{
    return static_cast<int>(threadIdx.x) / OCT_WARP;
}

// Of the block.
OCT_DEVICE int oct_warps(void)
{
    return static_cast<int>(blockDim.x) / OCT_WARP;
}

// Says that the block has written what others may go on from; true in all threads of the last of `expected` blocks,
// which sees what the others wrote. The counter is then zero again, for the next launch. `last` is shared memory.
OCT_DEVICE bool oct_last_to_arrive(uint32_t *counter, int32_t expected, bool *last)
{
    __syncthreads(); // what the block's threads wrote comes before thread 0 releases it
    if (threadIdx.x == 0) {
        *last = atom_add_acq_rel_gpu(counter, 1) == static_cast<uint32_t>(expected) - 1;
        if (*last)
            *counter = 0;
    }
    __syncthreads();
    return *last;
}

#endif
