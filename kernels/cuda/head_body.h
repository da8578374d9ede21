// Inside head.cu and persistent.cu: the bodies of the selection. A block looks at a part of a column's logits, another
// body joins the parts. A score's noise is made anew wherever it is needed: it is a function of seed, position and
// token.
#ifndef OCT_KERNELS_CUDA_HEAD_BODY_H
#define OCT_KERNELS_CUDA_HEAD_BODY_H

#include "kernels/cuda/elementary.h"
#include "kernels/cuda/head.h"
#include "runtime/noise_law.h"
#include "runtime/sampling_numbers.h"

enum { OCT_SORTED_KEYS = OCT_CUDA_PART_ROWS, OCT_SELECT_WARPS = OCT_BLOCK_THREADS / OCT_WARP };

// What is known of a part. Keys are those of oct_law_key(): a larger one stands for a larger number, then a smaller
// token; 0 stands for no token at all.
typedef struct oct_part {
    uint64_t best;                     // of the scores above −infinity
    uint64_t largest;                  // of the logits
    uint64_t list[OCT_MAX_CANDIDATES]; // [list_size] of the logits, descending
} oct_part;

typedef struct oct_sort_memory {
    uint64_t keys[OCT_SORTED_KEYS];
} oct_sort_memory;

typedef struct oct_warp_keys {
    uint64_t key[2][OCT_SELECT_WARPS];
} oct_warp_keys;

typedef struct oct_selection_memory {
    oct_sort_memory sorted;
    oct_warp_keys warps;
} oct_selection_memory;

static inline __host__ __device__ int32_t oct_part_count(int32_t rows)
{
    return (rows + OCT_CUDA_PART_ROWS - 1) / OCT_CUDA_PART_ROWS;
}

OCT_DEVICE uint64_t oct_larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// The largest of the block's keys, for thread 0; `which` of the two places.
OCT_DEVICE uint64_t oct_block_largest(oct_warp_keys &memory, int which, uint64_t key)
{
    for (int apart = 16; apart > 0; apart /= 2) {
        const uint32_t high = __shfl_xor_sync(OCT_WARP_MASK, static_cast<uint32_t>(key >> 32), apart);
        const uint32_t low = __shfl_xor_sync(OCT_WARP_MASK, static_cast<uint32_t>(key), apart);
        key = oct_larger(key, static_cast<uint64_t>(high) << 32 | low);
    }
    if (oct_lane() == 0)
        memory.key[which][oct_warp()] = key;
    __syncthreads();
    for (int warp = 0; warp < OCT_SELECT_WARPS; warp++)
        key = oct_larger(key, memory.key[which][warp]);
    return key;
}

// Sorts the block's keys, descending (Batcher's bitonic network: Knuth, The Art of Computer Programming 3, 5.3.4). Ends
// with a barrier.
OCT_DEVICE void oct_sort_keys(uint64_t *keys)
{
    for (int size = 2; size <= OCT_SORTED_KEYS; size *= 2)
        for (int apart = size / 2; apart > 0; apart /= 2) {
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < OCT_SORTED_KEYS / 2; i += OCT_BLOCK_THREADS) {
                const int low = i / apart * 2 * apart + i % apart, high = low + apart;
                const bool descending = (low & size) == 0;
                const uint64_t a = keys[low], b = keys[high];
                if ((a < b) == descending) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
        }
    __syncthreads();
}

// Bias, then penalties, of the tokens begin … end − 1: as oct_sampling_adjust(). Ends with a barrier.
OCT_DEVICE void oct_adjust(const oct_cuda_selection &s, const oct_cuda_sampled_column &column, float *logits, int begin,
                           int end)
{
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = column.bias_begin + thread; i < column.bias_end; i += OCT_BLOCK_THREADS)
        if (s.biases[i].token >= begin && s.biases[i].token < end)
            logits[s.biases[i].token - s.first] += s.biases[i].bias;
    __syncthreads();
    for (int i = column.penalty_begin + thread; i < column.penalty_end; i += OCT_BLOCK_THREADS) {
        const oct_cuda_penalty penalty = s.penalties[i];
        if (penalty.token < begin || penalty.token >= end)
            continue;
        float l = logits[penalty.token - s.first];
        l = l < 0 ? l * column.repetition : oct_divide(l, column.repetition);
        if (penalty.outputs > 0)
            l = l - (column.presence + column.frequency * static_cast<float>(penalty.outputs));
        logits[penalty.token - s.first] = l;
    }
    __syncthreads();
}

OCT_DEVICE void oct_noise_words(const oct_cuda_sampled_column &column, int token, uint32_t words[4])
{
    const uint32_t counter[4] = {static_cast<uint32_t>(token) / 4, 0, static_cast<uint32_t>(column.position),
                                 static_cast<uint32_t>(column.position >> 32)};
    const uint32_t key[2] = {static_cast<uint32_t>(column.seed), static_cast<uint32_t>(column.seed >> 32)};
    oct_law_philox(counter, key, words);
}

// The score of a token: its logit, or that and noise. NaN stays what it is.
OCT_DEVICE float oct_score(const oct_cuda_sampled_column &column, float logit, uint32_t word)
{
    return column.greedy ? logit : fmaf(logit, column.inverse_temperature, oct_law_gumbel(word));
}

// Block (part, column).
OCT_DEVICE void oct_select_body(const oct_cuda_selection &s, const oct_place &place, oct_selection_memory &memory)
{
    const oct_cuda_sampled_column &column = s.sampled[place.y];
    if (!column.sampled)
        return;
    float *logits = s.logits + place.y * s.stride;
    const int thread = static_cast<int>(threadIdx.x);
    const int begin = s.first + place.x * OCT_CUDA_PART_ROWS;
    const int left = s.first + s.rows - begin, end = begin + (left < OCT_CUDA_PART_ROWS ? left : OCT_CUDA_PART_ROWS);
    oct_adjust(s, column, logits, begin, end);
    uint64_t best = 0, largest = 0;
    for (int quad = thread; quad < OCT_CUDA_PART_ROWS / 4; quad += OCT_BLOCK_THREADS) {
        uint32_t words[4] = {0, 0, 0, 0};
        if (!column.greedy && begin + quad * 4 < end)
            oct_noise_words(column, begin + quad * 4, words);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = begin + quad * 4 + i;
            const bool real = token < end;
            const float logit = real ? logits[token - s.first] : 0.0f, score = oct_score(column, logit, words[i]);
            const uint64_t key = real ? oct_law_key(logit, token) : 0;
            largest = oct_larger(largest, key);
            best = real && score > -INFINITY ? oct_larger(best, oct_law_key(score, token)) : best;
            memory.sorted.keys[quad * 4 + i] = key;
        }
    }
    oct_part &part = static_cast<oct_part *>(s.scratch)[place.y * place.blocks_x + place.x];
    best = oct_block_largest(memory.warps, 0, best);
    largest = oct_block_largest(memory.warps, 1, largest);
    if (thread == 0) {
        part.best = best;
        part.largest = largest;
    }
    if (column.list_size == 0)
        return;
    oct_sort_keys(memory.sorted.keys);
    for (int i = thread; i < column.list_size; i += OCT_BLOCK_THREADS)
        part.list[i] = memory.sorted.keys[i];
}

// The best token from its key: the first one where no score is above −infinity.
OCT_DEVICE oct_best oct_best_of_key(const oct_cuda_selection &s, const oct_cuda_sampled_column &column,
                                    const float *logits, uint64_t key)
{
    if (s.rows == 0)
        return {-1, -INFINITY, -INFINITY};
    if (key == 0)
        return {s.first, -INFINITY, column.greedy ? -INFINITY : oct_law_logit(logits[0])};
    const int token = oct_law_key_token(key);
    uint32_t words[4] = {0, 0, 0, 0};
    if (!column.greedy)
        oct_noise_words(column, token, words);
    const float logit = logits[token - s.first];
    const uint32_t word = token % 4 == 0 ? words[0] : token % 4 == 1 ? words[1] : token % 4 == 2 ? words[2] : words[3];
    return {token, oct_score(column, logit, word), oct_law_logit(logit)};
}

// The largest list_size keys of all parts, sorted, in the first places: what is kept and what is new are sorted
// together until nothing is left.
OCT_DEVICE void oct_join_lists(const oct_part *parts, int count, int list_size, uint64_t *keys)
{
    const int total = count * list_size;
    int kept = 0, taken = 0;
    do {
        const int room = OCT_SORTED_KEYS - kept, take = total - taken < room ? total - taken : room;
        __syncthreads();
        for (int i = static_cast<int>(threadIdx.x); i < room; i += OCT_BLOCK_THREADS)
            keys[kept + i] = i < take ? parts[(taken + i) / list_size].list[(taken + i) % list_size] : 0;
        oct_sort_keys(keys);
        taken += take;
        kept = list_size;
    } while (taken < total);
}

// A column a block.
OCT_DEVICE void oct_join_body(const oct_cuda_selection &s, const oct_place &place, oct_selection_memory &memory)
{
    const oct_cuda_sampled_column &column = s.sampled[place.x];
    if (!column.sampled)
        return;
    const int count = oct_part_count(s.rows);
    const oct_part *parts = static_cast<const oct_part *>(s.scratch) + place.x * count;
    const int thread = static_cast<int>(threadIdx.x);
    uint64_t best = 0, largest = 0;
    for (int i = thread; i < count; i += OCT_BLOCK_THREADS) {
        best = oct_larger(best, parts[i].best);
        largest = oct_larger(largest, parts[i].largest);
    }
    best = oct_block_largest(memory.warps, 0, best);
    largest = oct_block_largest(memory.warps, 1, largest);
    oct_candidates &candidates = s.candidates[place.x];
    if (thread == 0) {
        s.maxima[place.x] = largest == 0 ? -INFINITY : oct_law_key_logit(largest);
        candidates.residual_hash = 0;
        candidates.mass = candidates.unit_mass = 0;
        candidates.best = oct_best_of_key(s, column, s.logits + place.x * s.stride, best);
        candidates.not_numbers = 0;
        candidates.whole = s.rows <= column.list_size;
        candidates.count = s.rows < column.list_size ? s.rows : column.list_size;
    }
    if (column.list_size == 0)
        return;
    oct_join_lists(parts, count, column.list_size, memory.sorted.keys);
    for (int i = thread; i < column.list_size; i += OCT_BLOCK_THREADS) {
        const uint64_t key = memory.sorted.keys[i];
        candidates.list[i].token = i < s.rows ? oct_law_key_token(key) : 0;
        candidates.list[i].logit = i < s.rows ? oct_law_key_logit(key) : 0.0f;
    }
}

#endif
