// Inside head.cu and persistent.cu: the body of the selection. Each block finds what counts in a part of a column's
// logits; the last of a column to arrive joins the parts and makes the list. One block a column makes the hash of the
// residual meanwhile.
#ifndef OCT_KERNELS_CUDA_HEAD_BODY_H
#define OCT_KERNELS_CUDA_HEAD_BODY_H

#include "kernels/cuda/head_hash.h"
#include "kernels/cuda/head_list.h"
#include "runtime/noise_law.h"

// Parts are as small as fills a GPU with one block an SM, hashes included, and a column has at least a few: no result
// depends on where they end.
enum {
    OCT_SELECT_WARPS = OCT_BLOCK_THREADS / OCT_WARP,
    OCT_SELECT_BLOCKS = 128,
    OCT_MAX_PARTS = OCT_SELECT_BLOCKS - 1, // of a column; a thread of the last block looks at one
    OCT_MIN_PARTS = 7,
    OCT_PART_UNIT = 128, // rows of a part are a multiple of it: whole warps of quads
    OCT_QUADS_AHEAD = 1  // of logits, that a thread has under way
};

// What is known of a part. Keys are those of oct_law_key(): a larger one stands for a larger number, then a smaller
// token; 0 stands for no token at all.
typedef struct oct_part {
    uint64_t largest;   // of the logits
    uint64_t best;      // of the scores above −infinity
    float score, logit; // of the best
} oct_part;

typedef struct oct_select_operands {
    oct_cuda_selection selection;
    int32_t part_rows;
} oct_select_operands;

typedef struct oct_warp_keys {
    uint64_t largest[OCT_SELECT_WARPS], best[OCT_SELECT_WARPS];
} oct_warp_keys;

// Of so many columns at a time.
static inline __host__ __device__ int32_t oct_part_rows(int32_t rows, int32_t columns)
{
    const int32_t shared = OCT_SELECT_BLOCKS / columns - 1, parts = shared > OCT_MIN_PARTS ? shared : OCT_MIN_PARTS;
    const int32_t units = (rows + parts * OCT_PART_UNIT - 1) / (parts * OCT_PART_UNIT);
    return (units > 1 ? units : 1) * OCT_PART_UNIT;
}

// Scratch of a column: its parts, then the largest key of each of its groups.
static inline __host__ __device__ size_t oct_column_scratch_bytes(int32_t rows)
{
    return OCT_MAX_PARTS * sizeof(oct_part) + static_cast<size_t>(oct_group_count(rows)) * sizeof(uint64_t);
}

// What a block works on: in shared memory, as all that the persistent kernel's operations work on.
typedef struct oct_selected_column {
    oct_cuda_sampled_column sampled;
    float *logits;
    int32_t first, rows;
    oct_part *parts;
    uint64_t *groups;
} oct_selected_column;

typedef struct oct_selection_memory {
    oct_list_memory list;
    oct_selected_column column;
    oct_warp_keys warps;
    oct_warp_hashes hashes;
    bool last;
} oct_selection_memory;

OCT_DEVICE void oct_find_column(oct_selected_column &c, const oct_cuda_selection &s, int32_t i)
{
    uint8_t *scratch = static_cast<uint8_t *>(s.scratch) + static_cast<size_t>(i) * oct_column_scratch_bytes(s.rows);
    if (threadIdx.x == 0) {
        c.sampled = s.sampled[i];
        c.logits = s.logits + i * s.stride;
        c.first = s.first;
        c.rows = s.rows;
        c.parts = reinterpret_cast<oct_part *>(scratch);
        c.groups = reinterpret_cast<uint64_t *>(c.parts + OCT_MAX_PARTS);
    }
    __syncthreads();
}

// The largest of the warp's keys, for all lanes.
OCT_DEVICE uint64_t oct_warp_largest(uint64_t key)
{
    const uint32_t high = __reduce_max_sync(OCT_WARP_MASK, static_cast<uint32_t>(key >> 32));
    const uint32_t mine = static_cast<uint32_t>(key >> 32) == high ? static_cast<uint32_t>(key) : 0;
    return static_cast<uint64_t>(high) << 32 | __reduce_max_sync(OCT_WARP_MASK, mine);
}

// The largest of the block's keys, for all threads.
OCT_DEVICE void oct_block_largest(oct_warp_keys &memory, uint64_t &largest, uint64_t &best)
{
    largest = oct_warp_largest(largest);
    best = oct_warp_largest(best);
    if (oct_lane() == 0) {
        memory.largest[oct_warp()] = largest;
        memory.best[oct_warp()] = best;
    }
    __syncthreads();
    largest = oct_warp_largest(memory.largest[oct_lane() % OCT_SELECT_WARPS]);
    best = oct_warp_largest(memory.best[oct_lane() % OCT_SELECT_WARPS]);
}

// Bias, then penalties, of rows begin … end − 1: as oct_sampling_adjust(). Ends with a barrier where there are any.
OCT_DEVICE void oct_adjust(const oct_cuda_selection &s, const oct_selected_column &c, int begin, int end)
{
    const oct_cuda_sampled_column &column = c.sampled;
    const int thread = static_cast<int>(threadIdx.x);
    if (column.bias_begin == column.bias_end && column.penalty_begin == column.penalty_end)
        return;
    for (int i = column.bias_begin + thread; i < column.bias_end; i += OCT_BLOCK_THREADS) {
        const oct_logit_bias bias = s.biases[i];
        if (bias.token - c.first >= begin && bias.token - c.first < end)
            c.logits[bias.token - c.first] += bias.bias;
    }
    __syncthreads();
    for (int i = column.penalty_begin + thread; i < column.penalty_end; i += OCT_BLOCK_THREADS) {
        const oct_cuda_penalty penalty = s.penalties[i];
        const int row = penalty.token - c.first;
        if (row < begin || row >= end)
            continue;
        float l = c.logits[row];
        l = l < 0 ? l * column.repetition : oct_divide(l, column.repetition);
        if (penalty.outputs > 0)
            l = l - (column.presence + column.frequency * static_cast<float>(penalty.outputs));
        c.logits[row] = l;
    }
    __syncthreads();
}

// The largest key of the four logits from `row` on, of which those before `end` are there; 0 where none is.
OCT_DEVICE uint64_t oct_quad_largest(const float4 &logits, int first, int row, int end)
{
    const float four[4] = {logits.x, logits.y, logits.z, logits.w};
    float largest = oct_law_logit(four[0]);
    int at = 0;
#pragma unroll
    for (int i = 1; i < 4; i++) {
        const float logit = row + i < end ? oct_law_logit(four[i]) : -INFINITY;
        at = logit > largest ? i : at;
        largest = logit > largest ? logit : largest;
    }
    return row < end ? oct_law_key(largest, first + row + at) : 0;
}

// The thread's largest key of rows begin … end − 1; where there is a list, leaves that of each group of them. `begin`
// is a multiple of a group, and a group is eight lanes' quads.
OCT_DEVICE uint64_t oct_find_largest(const oct_selected_column &c, int begin, int end)
{
    const int stride = 4 * OCT_BLOCK_THREADS, lane = oct_lane();
    uint64_t largest = 0;
    for (int row = begin + 4 * static_cast<int>(threadIdx.x); row - 4 * lane < end; row += OCT_QUADS_AHEAD * stride) {
        float4 quads[OCT_QUADS_AHEAD];
#pragma unroll
        for (int k = 0; k < OCT_QUADS_AHEAD; k++)
            if (row + k * stride < end)
                quads[k] = oct_load<float4>(c.logits + row + k * stride);
#pragma unroll
        for (int k = 0; k < OCT_QUADS_AHEAD; k++) {
            if (row - 4 * lane + k * stride >= end)
                break; // the warp
            uint64_t key = oct_quad_largest(quads[k], c.first, row + k * stride, end);
            largest = oct_larger(largest, key);
            if (c.sampled.list_size == 0)
                continue;
            for (int apart = 4; apart > 0; apart /= 2)
                key = oct_larger(key, __shfl_xor_sync(OCT_WARP_MASK, key, apart));
            if (lane % 8 == 0 && row + k * stride < end)
                c.groups[(row + k * stride) / OCT_GROUP_TOKENS] = key;
        }
    }
    return largest;
}

typedef struct oct_scored {
    uint64_t key; // of the score, 0: none is above −infinity
    float score, logit;
} oct_scored;

// The thread's best of rows begin … end − 1 by logits and noise.
OCT_DEVICE oct_scored oct_find_noisy(const oct_selected_column &c, int begin, int end)
{
    const oct_cuda_sampled_column &column = c.sampled;
    const uint32_t seed[2] = {static_cast<uint32_t>(column.seed), static_cast<uint32_t>(column.seed >> 32)};
    oct_scored best = {0, -INFINITY, 0.0f};
    int best_row = -1;
    for (int row = begin + 4 * static_cast<int>(threadIdx.x); row < end; row += 4 * OCT_BLOCK_THREADS) {
        const uint32_t counter[4] = {static_cast<uint32_t>(c.first + row) / 4, 0,
                                     static_cast<uint32_t>(column.position),
                                     static_cast<uint32_t>(column.position >> 32)};
        const float4 logits = oct_load<float4>(c.logits + row);
        const float four[4] = {logits.x, logits.y, logits.z, logits.w};
        uint32_t words[4];
        oct_law_philox(counter, seed, words);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float score = fmaf(four[i], column.inverse_temperature, oct_law_gumbel(words[i]));
            if (row + i < end && score > best.score) {
                best.score = score;
                best.logit = four[i];
                best_row = row + i;
            }
        }
    }
    if (best_row >= 0)
        best.key = oct_law_key(best.score, c.first + best_row);
    return best;
}

// Block (part, column): what the part has.
OCT_DEVICE void oct_select_part(const oct_selected_column &c, int begin, int end, oct_part &part, oct_warp_keys &memory)
{
    uint64_t largest = oct_find_largest(c, begin, end);
    oct_scored mine = {oct_law_key_logit(largest) > -INFINITY ? largest : 0, 0.0f, 0.0f};
    if (!c.sampled.greedy)
        mine = oct_find_noisy(c, begin, end);
    uint64_t best = mine.key;
    oct_block_largest(memory, largest, best);
    if (best == 0 ? threadIdx.x != 0 : mine.key != best)
        return;
    if (c.sampled.greedy && best != 0)
        mine.score = mine.logit = c.logits[oct_law_key_token(best) - c.first];
    part = {largest, best, mine.score, mine.logit};
}

// The best token, of a column with a part's best, or 0: the first one where no score is above −infinity.
OCT_DEVICE oct_best oct_best_of_part(const oct_selected_column &c, const oct_part &part)
{
    if (c.rows == 0)
        return {-1, -INFINITY, -INFINITY};
    if (part.best == 0)
        return {c.first, -INFINITY, c.sampled.greedy ? -INFINITY : oct_law_logit(c.logits[0])};
    return {oct_law_key_token(part.best), part.score, oct_law_logit(part.logit)};
}

// From the parts to the candidates, by the column's last block.
OCT_DEVICE void oct_join_parts(const oct_selected_column &c, int parts, float &maximum, oct_candidates &candidates,
                               oct_selection_memory &memory)
{
    const int thread = static_cast<int>(threadIdx.x), list_size = c.sampled.list_size;
    oct_part part = {};
    if (thread < parts)
        part = c.parts[thread];
    uint64_t largest = part.largest, best = part.best;
    oct_block_largest(memory.warps, largest, best);
    if (best == 0 ? thread == 0 : part.best == best)
        candidates.best = oct_best_of_part(c, part);
    if (thread == 0) {
        maximum = largest == 0 ? -INFINITY : oct_law_key_logit(largest);
        candidates.residual_hash = 0;
        candidates.mass = candidates.unit_mass = 0;
        candidates.not_numbers = 0;
        candidates.whole = c.rows <= list_size;
        candidates.count = c.rows < list_size ? c.rows : list_size;
    }
    if (list_size > 0)
        oct_make_list(c.logits, c.first, c.rows, c.groups, list_size, candidates.list, memory.list);
}

// Block (part, column), and behind the parts of a column (hash, column).
OCT_DEVICE void oct_select_body(const oct_select_operands &operands, const oct_place &place,
                                oct_selection_memory &memory)
{
    const oct_cuda_selection &s = operands.selection;
    const int parts = place.blocks_x - 1;
    if (place.x == parts) {
        oct_hash_column(s.hash, place.y, memory.hashes);
        return;
    }
    const oct_selected_column &c = memory.column;
    oct_find_column(memory.column, s, place.y);
    if (!c.sampled.sampled)
        return;
    const int begin = place.x * operands.part_rows, left = c.rows - begin;
    const int end = begin + (left < operands.part_rows ? left : operands.part_rows);
    oct_adjust(s, c, begin, end);
    oct_select_part(c, begin, end, c.parts[place.x], memory.warps);
    if (oct_last_to_arrive(&s.arrivals[place.y], parts, &memory.last))
        oct_join_parts(c, parts, s.maxima[place.y], s.candidates[place.y], memory);
}

#endif
