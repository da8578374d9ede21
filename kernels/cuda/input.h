// The input of matrices on the device: a block multiplies columns with the norm's weights, rounds them to bf16 and lays
// them out as fragments, in shared memory or (input.cu) in global memory for other blocks; the bits are the same. What
// the norm divides by is the same for all of a column, so products are multiplied with it: nobody waits for the sum of
// squares before the products.
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

// The block of 64 at leaf `leaf` of the full tree over the halving tree of `blocks`, −1: none is there.
OCT_DEVICE int oct_norm_block_at(int leaf, int blocks, int leaves)
{
    if (blocks == leaves)
        return leaf;
    int begin = 0, count = blocks;
    for (int bit = leaves / 2; bit > 0; bit /= 2) {
        const int half = (count + 1) / 2;
        const bool right = (leaf & bit) != 0;
        begin += right ? half : 0;
        count = right ? count - half : half;
    }
    return count > 0 ? begin : -1;
}

// Prepared columns, in shared or global memory.
typedef struct oct_prepared {
    uint4 *fragments; // [units][columns][4]
    float *sums;      // [units][2][columns8]
    float *factors;   // [columns], where there is a norm
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

// Adds the lanes of each group of `lanes`, the nearest first; each lane of a group gets the sum.
OCT_DEVICE float oct_add_lanes(float value, int lanes)
{
    for (int apart = 1; apart < lanes; apart *= 2)
        value += __shfl_xor_sync(OCT_WARP_MASK, value, apart);
    return value;
}

// A leaf of the full tree over a column's sums of squares [blocks]. An absent one is −0, which changes nothing.
OCT_DEVICE float oct_norm_leaf(const float *squares, int leaf, int blocks, int leaves)
{
    const int block = oct_norm_block_at(leaf, blocks, leaves);
    return block < 0 ? -0.0f : squares[block];
}

// The root of that tree, by a warp; each lane gets it.
OCT_DEVICE float oct_norm_root(const float *squares, int blocks, int leaves)
{
    if (leaves <= OCT_WARP)
        return oct_add_lanes(oct_norm_leaf(squares, oct_lane() & (leaves - 1), blocks, leaves), leaves);
    float root = 0;
    for (int i = 0; i < leaves / OCT_WARP; i++) {
        const float leaf = oct_norm_leaf(squares, i * OCT_WARP + oct_lane(), blocks, leaves);
        const float subtree = oct_add_lanes(leaf, OCT_WARP);
        root = oct_lane() == i ? subtree : root;
    }
    return __shfl_sync(OCT_WARP_MASK, oct_add_lanes(root, leaves / OCT_WARP), 0);
}

// What products of the columns [begin, begin + count) are multiplied with: r = 1 / sqrt(S / width + epsilon) → factors
// [count]. squares [count][norm_blocks]: as oct_prepare_columns() has left them; not used where a reduction has. By the
// block's warps, without a barrier.
OCT_DEVICE void oct_norm_factors(const oct_cuda_input &input, int begin, int count, const float *squares,
                                 float *factors)
{
    const int blocks = input.shape.norm_blocks, leaves = input.shape.norm_leaves;
    for (int c = oct_warp(); c < count; c += oct_warps()) {
        const int row = oct_input_row_number(input, begin + c);
        const float *of_column = input.squares == nullptr ? squares + c * blocks : input.squares + row * blocks;
        const float sum = row < 0 ? 0.0f : oct_norm_root(of_column, blocks, leaves);
        const float mean = oct_divide(sum, static_cast<float>(input.width));
        if (oct_lane() == 0)
            factors[c] = oct_divide(1.0f, oct_square_root(mean + input.epsilon));
    }
}

// The sums over 16 lanes of four values: lanes 1, 8, 2 and 4 apart are added. A lane gets that of value
// lane % 2 · 2 + lane / 8.
OCT_DEVICE float oct_add_sixteens(const float value[4])
{
    const bool odd = (oct_lane() & 1) != 0, upper = (oct_lane() & 8) != 0;
    float pair[2];
#pragma unroll
    for (int i = 0; i < 2; i++)
        pair[i] = (odd ? value[2 + i] : value[i]) +
                  __shfl_xor_sync(OCT_WARP_MASK, odd ? value[i] : value[2 + i], 1);
    float sum = (upper ? pair[1] : pair[0]) + __shfl_xor_sync(OCT_WARP_MASK, upper ? pair[0] : pair[1], 8);
    sum += __shfl_xor_sync(OCT_WARP_MASK, sum, 2);
    return sum + __shfl_xor_sync(OCT_WARP_MASK, sum, 4);
}

// Rounds a lane's elements of a block of 64 and stores them where they stand in fragments: element e of a unit is half
// e % 2 of register e / 8 of lane e % 8 / 2. SUMS: and the sums of 16 of them.
template <bool SUMS>
OCT_DEVICE void oct_store_norm_block(const float value[4], int block, int column, int units, const oct_prepared &to)
{
    const int lane = oct_lane() % 16;
    float rounded[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int unit = block * (OCT_NORM_BLOCK / OCT_UNIT) + i / 2, element = lane + i % 2 * 16;
        const uint32_t bits = oct_to_bf16(value[i]);
        const bool real = column >= 0 && unit < units;
        if (real) {
            uint16_t *fragment = reinterpret_cast<uint16_t *>(to.fragments + (unit * to.columns + column) * 4);
            fragment[element % 8 / 2 * 8 + element / 8 * 2 + element % 2] = static_cast<uint16_t>(bits);
        }
        rounded[i] = oct_low_bf16(bits);
    }
    if constexpr (SUMS) {
        const int i = lane % 2 * 2 + lane / 8, unit = block * (OCT_NORM_BLOCK / OCT_UNIT) + i / 2;
        const float sum = oct_add_sixteens(rounded);
        if (column >= 0 && unit < units && (lane & 6) == 0)
            to.sums[(unit * 2 + i % 2) * to.columns8 + column] = sum;
    }
}

// Sums of columns that are not there, beside the last one.
OCT_DEVICE void oct_clear_sums(const oct_prepared &to, int units)
{
    const int absent = to.columns8 - to.columns;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * units; i += static_cast<int>(blockDim.x))
        for (int c = 0; c < absent; c++)
            to.sums[i * to.columns8 + to.columns + c] = 0.0f;
}

// The norm's weights, on their way before the input is there.
OCT_DEVICE void oct_prefetch_norm(const oct_cuda_input &input)
{
    constexpr int LINE = 32; // floats
    if (input.norm != nullptr)
        for (int k = static_cast<int>(threadIdx.x) * LINE; k < input.width; k += static_cast<int>(blockDim.x) * LINE)
            prefetch_l2(input.norm + k);
}

// Blocks of 64 of some columns: columns [begin, begin + count), blocks [first, last).
typedef struct oct_norm_blocks {
    int begin, count, first, last;
} oct_norm_blocks;

// Prepares them, but for the factors of columns; SUMS: and the sums of their parts, which weights with minima want, for
// the columns that round `columns` up to 8 as well. Where there is a norm whose sums of squares no reduction has left:
// squares [count][norm_blocks].
// Called by a block of whole warps; ends without a barrier.
template <bool SUMS>
OCT_DEVICE void oct_prepare_columns(const oct_cuda_input &input, oct_norm_blocks of, float *squares,
                                    const oct_prepared &to)
{
    constexpr int BATCH = 2; // blocks that half a warp has under way
    const int blocks = of.last - of.first, step = static_cast<int>(blockDim.x) / 16;
    const bool squared = input.norm != nullptr && input.squares == nullptr;
    int block = static_cast<int>(threadIdx.x) / 16, c = 0;
    if (SUMS && of.begin + of.count == to.columns)
        oct_clear_sums(to, input.shape.units);
    for (int left = of.count * blocks; left > 0; left -= BATCH * step) {
        float value[BATCH][4], weight[BATCH][4];
        int block_of[BATCH], column_of[BATCH]; // −1: there is none
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            for (; block >= blocks && c < of.count; block -= blocks)
                c++;
            block_of[i] = of.first + block;
            column_of[i] = c < of.count ? c : -1;
            const float *row = c < of.count ? oct_input_row(input, of.begin + c) : nullptr;
            oct_load_norm_block(row, block_of[i], input.width, value[i]);
            oct_load_norm_block(c < of.count ? input.norm : nullptr, block_of[i], input.width, weight[i]);
            block += step;
        }
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            const float sum = squared ? oct_add_norm_block(value[i]) : 0.0f;
            if (squared && column_of[i] >= 0 && threadIdx.x % 16 == 0)
                squares[column_of[i] * input.shape.norm_blocks + block_of[i]] = sum;
#pragma unroll
            for (int j = 0; j < 4; j++)
                value[i][j] = input.norm == nullptr ? value[i][j] : value[i][j] * weight[i][j];
            oct_store_norm_block<SUMS>(value[i], block_of[i], column_of[i] < 0 ? -1 : of.begin + column_of[i],
                                       input.shape.units, to);
        }
    }
}

// Where the parts of prepared columns lie behind one pointer.
static inline __host__ __device__ oct_prepared oct_prepared_at(void *memory, int units, int columns)
{
    oct_prepared prepared;
    prepared.columns = columns;
    prepared.columns8 = oct_columns_by_8(columns);
    prepared.fragments = static_cast<uint4 *>(memory);
    prepared.sums = reinterpret_cast<float *>(prepared.fragments + static_cast<size_t>(units) * columns * 4);
    prepared.factors = prepared.sums + static_cast<size_t>(units) * 2 * prepared.columns8;
    return prepared;
}

static inline __host__ __device__ size_t oct_prepared_size(int units, int columns)
{
    const size_t of_unit = 64 * static_cast<size_t>(columns) + 8 * static_cast<size_t>(oct_columns_by_8(columns));
    return static_cast<size_t>(units) * of_unit + sizeof(float) * static_cast<size_t>(columns);
}

// Blocks of 64 that a block of threads prepares of a column without a norm.
enum { OCT_PREPARED_BLOCKS = 32 };

// Block (column, part), one part where there is a norm; scratch [norm_blocks] where there is one.
OCT_DEVICE void oct_prepare_body(const oct_cuda_input &input, const oct_place &place, float *scratch)
{
    const oct_prepared to = oct_prepared_at(input.prepared, input.shape.units, input.columns);
    const int part = oct_ceiling(input.shape.norm_blocks, place.blocks_y), first = place.y * part;
    const int last = first + part < input.shape.norm_blocks ? first + part : input.shape.norm_blocks;
    oct_prepare_columns<true>(input, {place.x, 1, first, last}, scratch, to);
    if (input.norm == nullptr)
        return;
    __syncthreads();
    oct_norm_factors(input, place.x, 1, scratch, to.factors + place.x);
}

#endif
