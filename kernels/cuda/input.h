// The input of matrices on the device: a block normalises columns, rounds them to bf16 and lays them out as fragments,
// in shared memory or (input.cu) in global memory for other blocks. The bits are the same.
#ifndef OCT_KERNELS_CUDA_INPUT_H
#define OCT_KERNELS_CUDA_INPUT_H

#include "kernels/cuda/elementary.h"
#include "kernels/cuda/projection.h"

enum { OCT_NORM_BLOCK = 64, OCT_UNIT = 32 };

static inline __host__ __device__ int oct_units(int width)
{
    return (width + OCT_UNIT - 1) / OCT_UNIT;
}

static inline __host__ __device__ int oct_columns_by_8(int columns)
{
    return (columns + 7) / 8 * 8;
}

// Leaves of the smallest full tree that holds the sums of squares of a column.
static inline __host__ __device__ int oct_norm_leaves(int width)
{
    const int blocks = (width + OCT_NORM_BLOCK - 1) / OCT_NORM_BLOCK;
    int leaves = 1;
    while (leaves < blocks)
        leaves *= 2;
    return leaves;
}

// Where leaf `leaf` of the halving tree over `count` leaves stands in the full tree, whose other leaves are absent.
OCT_DEVICE int oct_norm_leaf(int leaf, int count, int leaves)
{
    int path = 0;
    for (; leaves > 1; leaves /= 2) {
        const int half = (count + 1) / 2;
        const bool right = leaf >= half;
        path = 2 * path + (right ? 1 : 0);
        leaf -= right ? half : 0;
        count = right ? count - half : half;
    }
    return path;
}

// Prepared columns, in shared or global memory.
typedef struct oct_prepared {
    uint4 *fragments; // [units][columns][4]
    float *sums;      // [units][2][columns8]
    int columns, columns8;
} oct_prepared;

// Which row of x holds column c, −1: none, it is zero.
OCT_DEVICE int oct_input_row_number(const oct_cuda_input &input, int c)
{
    return input.column_of == nullptr ? c : input.column_of[c];
}

OCT_DEVICE const float *oct_input_row(const oct_cuda_input &input, int c)
{
    const int row = oct_input_row_number(input, c);
    return row < 0 ? nullptr : input.x + row * input.stride;
}

// The sums of blocks of 64 that a reduction has left.
OCT_DEVICE void oct_take_squares(const oct_cuda_input &input, int begin, int count, int blocks, int leaves, float *sums)
{
    for (int i = static_cast<int>(threadIdx.x); i < count * blocks; i += static_cast<int>(blockDim.x)) {
        const int c = i / blocks, block = i % blocks, row = oct_input_row_number(input, begin + c);
        sums[c * leaves + oct_norm_leaf(block, blocks, leaves)] = row < 0 ? 0.0f : input.squares[row * blocks + block];
    }
}

// Sums of squares of the columns [begin, begin + count): sums [count][leaves]. One half of a warp takes a block of 64
// elements: lane j adds the squares of elements j, j + 16, j + 32, j + 48, then lanes 8, 4, 2 and 1 apart are added;
// the blocks are added by the halving tree. An absent leaf is −0, which changes nothing. Ends with a barrier;
// sums[c][0] is the result.
OCT_DEVICE void oct_norm_sums(const oct_cuda_input &input, int begin, int count, float *sums)
{
    const int leaves = oct_norm_leaves(input.width), blocks = (input.width + OCT_NORM_BLOCK - 1) / OCT_NORM_BLOCK;
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < count * leaves; i += threads)
        sums[i] = -0.0f;
    __syncthreads();
    if (input.squares != nullptr)
        oct_take_squares(input, begin, count, blocks, leaves, sums);
    const int lane = thread % 16, halves = threads / 16;
    for (int at = 0; input.squares == nullptr && at < count * blocks; at += halves) {
        const int task = at + thread / 16, c = task / blocks, block = task % blocks;
        const float *row = task < count * blocks ? oct_input_row(input, begin + c) : nullptr;
        float sum = 0;
        for (int k = block * OCT_NORM_BLOCK + lane; k < block * OCT_NORM_BLOCK + OCT_NORM_BLOCK; k += 16)
            if (row != nullptr && k < input.width)
                sum = fmaf(row[k], row[k], sum);
        for (int apart = 8; apart > 0; apart /= 2)
            sum += __shfl_xor_sync(OCT_WARP_MASK, sum, apart);
        if (task < count * blocks && lane == 0)
            sums[c * leaves + oct_norm_leaf(block, blocks, leaves)] = sum;
    }
    __syncthreads();
    for (int apart = 1; apart < leaves; apart *= 2) {
        for (int i = thread; i < count * leaves / (2 * apart); i += threads)
            sums[i * 2 * apart] += sums[i * 2 * apart + apart];
        __syncthreads();
    }
}

// Eight inputs of a column at k, k + 1, k + 8, k + 9, k + 16, …, normalised where r is not NULL, rounded; their sums.
OCT_DEVICE uint4 oct_fragment(const oct_cuda_input &input, const float *row, const float *sum, int k, float sums[2])
{
    float value[8];
    const float r =
        sum == nullptr
            ? 1.0f
            : oct_divide(1.0f, oct_square_root(oct_divide(*sum, static_cast<float>(input.width)) + input.epsilon));
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int at = k + i / 2 * 8 + i % 2;
        value[i] = row != nullptr && at < input.width ? row[at] : 0.0f;
        if (sum != nullptr && at < input.width)
            value[i] = value[i] * r * input.norm[at];
    }
    uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = oct_to_bf16_pair(value[2 * i], value[2 * i + 1]);
#pragma unroll
    for (int i = 0; i < 2; i++)
        sums[i] = (oct_low_bf16(pair[2 * i]) + oct_high_bf16(pair[2 * i])) +
                  (oct_low_bf16(pair[2 * i + 1]) + oct_high_bf16(pair[2 * i + 1]));
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

// Prepares the columns [begin, begin + count); the columns that round `columns` up to 8 get sums of zero. scratch
// [count][oct_norm_leaves(width)] where there is a norm. Called by a block of whole warps; ends without a barrier.
OCT_DEVICE void oct_prepare_columns(const oct_cuda_input &input, int begin, int count, float *scratch,
                                    const oct_prepared &to)
{
    if (input.norm != nullptr)
        oct_norm_sums(input, begin, count, scratch);
    const int units = oct_units(input.width), leaves = oct_norm_leaves(input.width);
    const int padded = begin + count == to.columns ? to.columns8 - begin : count;
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    for (int at = 0; at < padded * units * 4; at += threads) {
        const int task = at + thread, t = task % 4, unit = task / 4 % units, c = task / 4 / units;
        const bool real = c < count;
        float sums[2];
        const uint4 fragment =
            oct_fragment(input, real ? oct_input_row(input, begin + c) : nullptr,
                         real && input.norm != nullptr ? scratch + c * leaves : nullptr, unit * OCT_UNIT + 2 * t, sums);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            sums[i] += __shfl_xor_sync(OCT_WARP_MASK, sums[i], 1);
            sums[i] += __shfl_xor_sync(OCT_WARP_MASK, sums[i], 2);
        }
        if (real)
            to.fragments[(static_cast<size_t>(unit) * to.columns + begin + c) * 4 + t] = fragment;
        if (t < 2 && c < padded)
            to.sums[(static_cast<size_t>(unit) * 2 + t) * to.columns8 + begin + c] = t == 0 ? sums[0] : sums[1];
    }
}

// Where the parts of prepared columns lie behind one pointer.
static inline __host__ __device__ oct_prepared oct_prepared_at(void *memory, int width, int columns)
{
    oct_prepared prepared;
    prepared.fragments = static_cast<uint4 *>(memory);
    prepared.sums = reinterpret_cast<float *>(prepared.fragments + static_cast<size_t>(oct_units(width)) * columns * 4);
    prepared.columns = columns;
    prepared.columns8 = oct_columns_by_8(columns);
    return prepared;
}

// A column a block; scratch [oct_norm_leaves(width)] where there is a norm.
OCT_DEVICE void oct_prepare_body(const oct_cuda_input &input, const oct_place &place, float *scratch)
{
    oct_prepare_columns(input, place.x, 1, scratch, oct_prepared_at(input.prepared, input.width, input.columns));
}

#endif
