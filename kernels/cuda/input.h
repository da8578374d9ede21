// The input of matrices on the device: a block normalises columns, rounds them to bf16 and lays them out as fragments,
// in shared memory or (input.cu) in global memory for other blocks. The bits are the same.
#ifndef OCT_KERNELS_CUDA_INPUT_H
#define OCT_KERNELS_CUDA_INPUT_H

#include "kernels/cuda/elementary.h"
#include "kernels/cuda/projection.h"

enum { OCT_NORM_BLOCK = 64, OCT_UNIT = 32 };

static inline __host__ __device__ int oct_columns_by_8(int columns)
{
    return (columns + 7) & ~7;
}

static inline oct_cuda_input_shape oct_cuda_input_shape_of(int width)
{
    oct_cuda_input_shape shape = {(width + OCT_UNIT - 1) / OCT_UNIT, (width + OCT_NORM_BLOCK - 1) / OCT_NORM_BLOCK, 1};
    while (shape.norm_leaves < shape.norm_blocks)
        shape.norm_leaves *= 2;
    return shape;
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
OCT_DEVICE void oct_take_squares(const oct_cuda_input &input, int begin, int count, float *sums)
{
    const int blocks = input.shape.norm_blocks, leaves = input.shape.norm_leaves;
    for (int i = static_cast<int>(threadIdx.x); i < count * blocks; i += static_cast<int>(blockDim.x)) {
        const int c = i / blocks, block = i % blocks, row = oct_input_row_number(input, begin + c);
        sums[c * leaves + oct_norm_leaf(block, blocks, leaves)] = row < 0 ? 0.0f : input.squares[row * blocks + block];
    }
}

// Elements lane, lane + 16, lane + 32 and lane + 48 of a block of 64, by half a warp; what is not there is zero.
OCT_DEVICE void oct_load_norm_block(const float *row, int block, int width, float value[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int k = block * OCT_NORM_BLOCK + i * 16 + oct_lane() % 16;
        value[i] = row != nullptr && k < width ? row[k] : 0.0f;
    }
}

// The sum of their squares: a lane adds those of its four, then lanes 8, 4, 2 and 1 apart are added.
OCT_DEVICE float oct_add_norm_block(const float value[4])
{
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum = fmaf(value[i], value[i], sum);
#pragma unroll
    for (int apart = 8; apart > 0; apart /= 2)
        sum += __shfl_xor_sync(OCT_WARP_MASK, sum, apart);
    return sum;
}

// The leaves of a column, [leaves], of those that are there.
OCT_DEVICE void oct_square_column(const float *row, int width, int blocks, int leaves, float *sums)
{
    constexpr int BATCH = 4; // blocks whose elements are on their way at once
    const int halves = static_cast<int>(blockDim.x) / 16, half = static_cast<int>(threadIdx.x) / 16;
    for (int begin = 0; begin < blocks; begin += BATCH * halves) {
        float value[BATCH][4];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            oct_load_norm_block(row, begin + i * halves + half, width, value[i]);
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            const int block = begin + i * halves + half;
            if (begin + i * halves >= blocks)
                break;
            const float sum = oct_add_norm_block(value[i]);
            if (block < blocks && threadIdx.x % 16 == 0)
                sums[blocks == leaves ? block : oct_norm_leaf(block, blocks, leaves)] = sum;
        }
    }
}

// Leaves of the columns [begin, begin + count): sums [count][leaves], from the columns or from what a reduction has
// left. An absent leaf is −0, which changes nothing. Ends with a barrier.
OCT_DEVICE void oct_norm_leaves_of(const oct_cuda_input &input, int begin, int count, float *sums)
{
    const int blocks = input.shape.norm_blocks, leaves = input.shape.norm_leaves;
    if (blocks < leaves) {
        for (int i = static_cast<int>(threadIdx.x); i < count * leaves; i += static_cast<int>(blockDim.x))
            sums[i] = -0.0f;
        __syncthreads();
    }
    if (input.squares != nullptr)
        oct_take_squares(input, begin, count, sums);
    for (int c = 0; c < count && input.squares == nullptr; c++)
        oct_square_column(oct_input_row(input, begin + c), input.width, blocks, leaves, sums + c * leaves);
    __syncthreads();
}

// Adds the lanes of each group of `lanes`, the nearest first; each lane of a group gets the sum.
OCT_DEVICE float oct_add_lanes(float value, int lanes)
{
    for (int apart = 1; apart < lanes; apart *= 2)
        value += __shfl_xor_sync(OCT_WARP_MASK, value, apart);
    return value;
}

// The root of the full tree over a column's leaves, by a warp; each lane gets it.
OCT_DEVICE float oct_norm_root(const float *leaf, int leaves)
{
    if (leaves <= OCT_WARP)
        return oct_add_lanes(leaf[oct_lane() & (leaves - 1)], leaves);
    float root = 0;
    for (int i = 0; i < leaves / OCT_WARP; i++) {
        const float subtree = oct_add_lanes(leaf[i * OCT_WARP + oct_lane()], OCT_WARP);
        root = oct_lane() == i ? subtree : root;
    }
    return __shfl_sync(OCT_WARP_MASK, oct_add_lanes(root, leaves / OCT_WARP), 0);
}

// What columns [begin, begin + count) are multiplied with, at scratch[0], scratch[leaves], …: r = 1 / sqrt(S / width +
// epsilon). Ends with a barrier.
OCT_DEVICE void oct_norm_factors(const oct_cuda_input &input, int begin, int count, float *scratch)
{
    const int leaves = input.shape.norm_leaves;
    oct_norm_leaves_of(input, begin, count, scratch);
    for (int c = oct_warp(); c < count; c += static_cast<int>(blockDim.x) / OCT_WARP) {
        const float sum = oct_norm_root(scratch + c * leaves, leaves);
        const float mean = oct_divide(sum, static_cast<float>(input.width));
        if (oct_lane() == 0)
            scratch[c * leaves] = oct_divide(1.0f, oct_square_root(mean + input.epsilon));
    }
    __syncthreads();
}

// The elements of a fragment, k, k + 1, k + 8, k + 9, k + 16, …, of `values`, of which `width` are there.
OCT_DEVICE void oct_load_fragment(const float *values, int k, int width, float value[8])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = k + i * 8;
        const float2 two = at < width ? oct_load<float2>(values + at) : make_float2(0, 0);
        value[2 * i] = two.x;
        value[2 * i + 1] = two.y;
    }
}

// Rounds a fragment.
OCT_DEVICE uint4 oct_round_fragment(const float value[8])
{
    return make_uint4(oct_to_bf16_pair(value[0], value[1]), oct_to_bf16_pair(value[2], value[3]),
                      oct_to_bf16_pair(value[4], value[5]), oct_to_bf16_pair(value[6], value[7]));
}

// The sums of the first and the second 16 inputs of a unit, from the fragments of four lanes.
OCT_DEVICE float2 oct_fragment_sums(uint4 fragment)
{
    float2 sums = {(oct_low_bf16(fragment.x) + oct_high_bf16(fragment.x)) +
                       (oct_low_bf16(fragment.y) + oct_high_bf16(fragment.y)),
                   (oct_low_bf16(fragment.z) + oct_high_bf16(fragment.z)) +
                       (oct_low_bf16(fragment.w) + oct_high_bf16(fragment.w))};
#pragma unroll
    for (int apart = 1; apart <= 2; apart *= 2) {
        sums.x += __shfl_xor_sync(OCT_WARP_MASK, sums.x, apart);
        sums.y += __shfl_xor_sync(OCT_WARP_MASK, sums.y, apart);
    }
    return sums;
}

// Sums of columns that are not there, beside the last one.
OCT_DEVICE void oct_clear_sums(const oct_prepared &to, int units)
{
    const int absent = to.columns8 - to.columns;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * units; i += static_cast<int>(blockDim.x))
        for (int c = 0; c < absent; c++)
            to.sums[i * to.columns8 + to.columns + c] = 0.0f;
}

// Prepares the columns [begin, begin + count); SUMS: and the sums of their parts, which weights with minima want, for
// the columns that round `columns` up to 8 as well. scratch [count][norm_leaves] where there is a norm.
// Called by a block of whole warps; ends without a barrier.
template <bool SUMS>
OCT_DEVICE void oct_prepare_columns(const oct_cuda_input &input, int begin, int count, float *scratch,
                                    const oct_prepared &to)
{
    const int units = input.shape.units, leaves = input.shape.norm_leaves, t = oct_lane() % 4;
    const int step = static_cast<int>(blockDim.x) / 4;
    int unit = static_cast<int>(threadIdx.x) / 4, c = 0;
    for (; unit >= units && c < count; unit -= units)
        c++;
    float weight[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    if (input.norm != nullptr) {
        oct_load_fragment(input.norm, unit * OCT_UNIT + 2 * t, input.width, weight); // on its way during the sums
        oct_norm_factors(input, begin, count, scratch);
    }
    if (SUMS && begin + count == to.columns)
        oct_clear_sums(to, units);
    for (int left = count * units; left > 0; left -= step) {
        const bool real = c < count;
        const float *row = real ? oct_input_row(input, begin + c) : nullptr;
        const int k = unit * OCT_UNIT + 2 * t;
        float value[8];
        oct_load_fragment(row, k, row == nullptr ? 0 : input.width, value);
        if (input.norm != nullptr && real) {
            const float r = scratch[c * leaves];
#pragma unroll
            for (int i = 0; i < 8; i++)
                value[i] = value[i] * r * weight[i];
        }
        const uint4 fragment = oct_round_fragment(value);
        if (real)
            to.fragments[(unit * to.columns + begin + c) * 4 + t] = fragment;
        if constexpr (SUMS) {
            const float2 sums = oct_fragment_sums(fragment);
            if (real && t < 2)
                to.sums[(unit * 2 + t) * to.columns8 + begin + c] = t == 0 ? sums.x : sums.y;
        }
        unit += step;
        for (; unit >= units && c < count; unit -= units)
            c++;
        if (input.norm != nullptr && left > step)
            oct_load_fragment(input.norm, unit * OCT_UNIT + 2 * t, input.width, weight);
    }
}

// Where the parts of prepared columns lie behind one pointer.
static inline __host__ __device__ oct_prepared oct_prepared_at(void *memory, int units, int columns)
{
    oct_prepared prepared;
    prepared.fragments = static_cast<uint4 *>(memory);
    prepared.sums = reinterpret_cast<float *>(prepared.fragments + static_cast<size_t>(units) * columns * 4);
    prepared.columns = columns;
    prepared.columns8 = oct_columns_by_8(columns);
    return prepared;
}

// A column a block; scratch [norm_leaves] where there is a norm.
OCT_DEVICE void oct_prepare_body(const oct_cuda_input &input, const oct_place &place, float *scratch)
{
    oct_prepare_columns<true>(input, place.x, 1, scratch, oct_prepared_at(input.prepared, input.shape.units, input.columns));
}

#endif
