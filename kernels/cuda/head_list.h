// Inside head.cu: the list of a column's largest logits, by one block, from the largest logit of each group of 32
// tokens that the parts have left. Nothing is sorted that is not listed:
//   1. The list_size'th largest of the largest keys of 2 · list_size buckets of groups is a threshold that no listed
//      key is below, because list_size keys reach it; where keys are spread at random 1.4 list_size do (2 ln 2, the
//      balls for which half of the buckets are hit).
//   2. The groups whose largest key reaches it are the only ones to look into.
//   3. Of their keys those are kept that reach it, and each goes to the place that the number of larger ones says.
// Where more keys reach the threshold than there is room for, it is raised: those that have found room have a
// list_size'th largest too. Nothing depends on the order in which they came, so that the list is exact.
#ifndef OCT_KERNELS_CUDA_HEAD_LIST_H
#define OCT_KERNELS_CUDA_HEAD_LIST_H

#include "kernels/cuda/elementary.h"
#include "kernels/cuda/head.h"
#include "runtime/sampling_numbers.h"

enum {
    OCT_GROUP_TOKENS = 32,
    OCT_KEPT_KEYS = 512, // room for keys; at least as many as buckets
    OCT_KEYS_AHEAD = 4   // that a thread has under way
};

typedef struct oct_list_memory {
    alignas(16) uint64_t groups[OCT_KEPT_KEYS], keys[OCT_KEPT_KEYS];
    uint64_t threshold;
    uint32_t kept;
} oct_list_memory;

static inline __host__ __device__ int32_t oct_group_count(int32_t rows)
{
    return (rows + OCT_GROUP_TOKENS - 1) / OCT_GROUP_TOKENS;
}

OCT_DEVICE uint64_t oct_larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// How many of the keys, aligned to 16, are larger.
OCT_DEVICE int oct_rank_of_key(const uint64_t *keys, int count, uint64_t key)
{
    int rank = 0;
#pragma unroll 4
    for (int i = 0; i < count / 2; i++) {
        const ulonglong2 two = oct_load<ulonglong2>(keys + 2 * i);
        rank += (two.x > key) + (two.y > key);
    }
    return count % 2 != 0 && keys[count - 1] > key ? rank + 1 : rank;
}

// Makes the list_size'th largest of the keys the threshold; there may be fewer, and zeros. Ends without a barrier.
OCT_DEVICE void oct_raise_threshold(oct_list_memory &memory, const uint64_t *keys, int count, int list_size)
{
    for (int i = static_cast<int>(threadIdx.x); i < count; i += OCT_BLOCK_THREADS)
        if (keys[i] != 0 && oct_rank_of_key(keys, count, keys[i]) == list_size - 1)
            memory.threshold = keys[i];
}

// Keeps those of `count` keys that reach the threshold, in any order; a source's keys are 0 where there is no token.
// Returns how many; begins and ends with a barrier.
template <class Source>
OCT_DEVICE int oct_keep_keys(oct_list_memory &memory, uint64_t *to, int list_size, int count, Source source)
{
    const int thread = static_cast<int>(threadIdx.x);
    for (;;) {
        __syncthreads();
        if (thread == 0)
            memory.kept = 0;
        __syncthreads();
        const uint64_t threshold = memory.threshold;
        for (int begin = thread; begin < count; begin += OCT_KEYS_AHEAD * OCT_BLOCK_THREADS) {
            uint64_t keys[OCT_KEYS_AHEAD];
#pragma unroll
            for (int k = 0; k < OCT_KEYS_AHEAD; k++) {
                const int i = begin + k * OCT_BLOCK_THREADS;
                keys[k] = i < count ? source(i) : 0;
            }
#pragma unroll
            for (int k = 0; k < OCT_KEYS_AHEAD; k++)
                if (keys[k] >= threshold) {
                    const uint32_t place = atomicAdd(&memory.kept, 1u);
                    if (place < OCT_KEPT_KEYS)
                        to[place] = keys[k];
                }
        }
        __syncthreads();
        if (memory.kept <= OCT_KEPT_KEYS)
            return static_cast<int>(memory.kept);
        oct_raise_threshold(memory, to, OCT_KEPT_KEYS, list_size);
    }
}

// A threshold by buckets: groups as many apart as there are buckets are in one, so that neighbours are in different
// ones. Ends without a barrier.
OCT_DEVICE void oct_find_threshold(oct_list_memory &memory, const uint64_t *of_group, int groups, int list_size)
{
    const int thread = static_cast<int>(threadIdx.x), buckets = 2 * list_size;
    if (thread == 0)
        memory.threshold = 1;
    if (thread < buckets) {
        uint64_t largest = 0;
#pragma unroll 4
        for (int group = thread; group < groups; group += buckets)
            largest = oct_larger(largest, of_group[group]);
        memory.keys[thread] = largest;
    }
    __syncthreads();
    oct_raise_threshold(memory, memory.keys, buckets, list_size);
}

// Writes the list_size largest of logits [rows], tokens from `first` on, descending; of_group: the largest key of each
// group. Zeros follow where there are fewer.
OCT_DEVICE void oct_make_list(const float *logits, int first, int rows, const uint64_t *of_group, int list_size,
                              oct_candidate *list, oct_list_memory &memory)
{
    const int groups = oct_group_count(rows);
    oct_find_threshold(memory, of_group, groups, list_size);
    const int found =
        oct_keep_keys(memory, memory.groups, list_size, groups, [=](int group) { return of_group[group]; });
    const uint64_t *reached = memory.groups;
    const int kept = oct_keep_keys(memory, memory.keys, list_size, found * OCT_GROUP_TOKENS, [=](int i) {
        const int group = (oct_law_key_token(reached[i / OCT_GROUP_TOKENS]) - first) / OCT_GROUP_TOKENS;
        const int row = group * OCT_GROUP_TOKENS + i % OCT_GROUP_TOKENS;
        return row < rows ? oct_law_key(logits[row], first + row) : 0;
    });
    for (int i = static_cast<int>(threadIdx.x); i < kept; i += OCT_BLOCK_THREADS) {
        const uint64_t key = memory.keys[i];
        const int rank = oct_rank_of_key(memory.keys, kept, key);
        if (rank < list_size)
            list[rank] = {oct_law_key_token(key), oct_law_key_logit(key)};
    }
    for (int i = rows + static_cast<int>(threadIdx.x); i < list_size; i += OCT_BLOCK_THREADS)
        list[i] = {0, 0.0f};
}

#endif
