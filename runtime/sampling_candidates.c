// Candidate lists: the largest logits of a shard, its mass, and their union over parts of a shard.
#include "runtime/sampling.h"

#include <assert.h>
#include <string.h>

#include "runtime/sampling_law.h"

// In three loops over a block, each of which compilers turn into vectors; in one they do not (gcc 12 makes a
// branch of the cut at −80 once it sees the exponential behind it).
static inline __attribute__((always_inline)) int64_t mass_sum(const float *logits, int32_t n, float maximum,
                                                              float inverse)
{
    int64_t sum = 0;
    float e[OCT_SCAN_BLOCK];
    int32_t i = 0;
    for (; i + OCT_SCAN_BLOCK <= n; i += OCT_SCAN_BLOCK) {
        for (int j = 0; j < OCT_SCAN_BLOCK; j++)
            e[j] = oct_law_exponent(logits[i + j], maximum, inverse);
        for (int j = 0; j < OCT_SCAN_BLOCK; j++)
            e[j] = oct_exp(e[j]);
        for (int j = 0; j < OCT_SCAN_BLOCK; j++)
            sum += oct_law_round_mass(e[j]);
    }
    for (; i < n; i++)
        sum += oct_law_mass(logits[i], maximum, inverse);
    return sum;
}

#if defined(__x86_64__)
// The same operations in vectors: fmaf is one instruction here, and a call of the C library in code for any
// x86-64.
__attribute__((target("avx2,fma"))) static int64_t mass_sum_avx2(const float *logits, int32_t n,
                                                                 float maximum, float inverse)
{
    return mass_sum(logits, n, maximum, inverse);
}
#endif

int64_t oct_law_mass_sum(const float *logits, int32_t n, float maximum, float inverse)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return mass_sum_avx2(logits, n, maximum, inverse);
#endif
    return mass_sum(logits, n, maximum, inverse);
}

static inline void exchange(uint64_t *a, uint64_t *b)
{
    uint64_t kept = *a;
    *a = *b;
    *b = kept;
}

// Reorders n different keys so that the k largest come first (quickselect, middle element as pivot).
static void select_largest(uint64_t *keys, int32_t n, int32_t k)
{
    int32_t low = 0, high = n - 1;
    while (low < high) {
        uint64_t pivot = keys[low + (high - low) / 2];
        int32_t i = low, j = high;
        while (i <= j) {
            while (keys[i] > pivot)
                i++;
            while (keys[j] < pivot)
                j--;
            if (i <= j)
                exchange(&keys[i++], &keys[j--]);
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            return;
    }
}

static void sort_descending(uint64_t *keys, int32_t n)
{
    for (int32_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        int32_t j = i;
        for (; j > 0 && keys[j - 1] < key; j--)
            keys[j] = keys[j - 1];
        keys[j] = key;
    }
}

// The k largest of a growing set of keys: twice k are held, and cut to k when they are full.
typedef struct top_keys {
    int32_t k, count;
    float
        threshold; // a logit at or below it, with a larger token than those seen, is not among the k largest
    uint64_t keys[2 * OCT_MAX_CANDIDATES];
} top_keys;

static void top_add(top_keys *top, uint64_t key)
{
    top->keys[top->count++] = key;
    if (top->count < 2 * top->k)
        return;
    select_largest(top->keys, top->count, top->k);
    top->count = top->k;
    uint64_t least = top->keys[0];
    for (int32_t i = 1; i < top->k; i++)
        least = top->keys[i] < least ? top->keys[i] : least;
    top->threshold = oct_law_key_logit(least);
}

// Ascending tokens, so that a logit equal to the threshold always loses.
static void top_scan(top_keys *top, const float *logits, int32_t first, int32_t n)
{
    int32_t i = 0;
    // Until the first cut everything is taken, −infinity too.
    for (; i < n && i < 2 * top->k; i++)
        top_add(top, oct_law_key(logits[i], first + i));
    for (; i + OCT_SCAN_BLOCK <= n; i += OCT_SCAN_BLOCK) {
        if (!oct_any_above(logits + i, top->threshold))
            continue;
        for (int32_t j = i; j < i + OCT_SCAN_BLOCK; j++)
            if (logits[j] > top->threshold)
                top_add(top, oct_law_key(logits[j], first + j));
    }
    for (; i < n; i++)
        if (logits[i] > top->threshold)
            top_add(top, oct_law_key(logits[i], first + i));
}

static void top_finish(top_keys *top, oct_candidates *candidates)
{
    int32_t count = top->count < top->k ? top->count : top->k;
    select_largest(top->keys, top->count, top->k);
    sort_descending(top->keys, count);
    candidates->count = count;
    for (int32_t i = 0; i < count; i++)
        candidates->list[i] =
            (oct_candidate){oct_law_key_token(top->keys[i]), oct_law_key_logit(top->keys[i])};
}

int32_t oct_sampling_list_size(const oct_sampling *s)
{
    int32_t size = s->logprobs;
    if (oct_sampling_truncates(s)) {
        size = size > OCT_USUAL_CANDIDATES ? size : OCT_USUAL_CANDIDATES;
        size = size > s->top_k ? size : s->top_k;
    }
    return size < OCT_MAX_CANDIDATES ? size : OCT_MAX_CANDIDATES;
}

size_t oct_candidates_bytes(int32_t list_size)
{
    size_t bytes = offsetof(oct_candidates, list) + sizeof(oct_candidate) * (size_t)list_size;
    return (bytes + 7) / 8 * 8;
}

static int32_t count_not_numbers(const float *logits, int32_t n)
{
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += !(logits[i] < INFINITY);
    return count;
}

void oct_candidates_make(oct_candidates *candidates, const oct_sampling *s, uint64_t position,
                         const float *logits, int32_t first, int32_t n, float maximum, const oct_best *best,
                         int32_t list_size)
{
    assert(n >= 0 && list_size >= 0 && list_size <= OCT_MAX_CANDIDATES);
    memset(candidates, 0, oct_candidates_bytes(list_size));
    candidates->best = best ? *best : oct_sampling_best(s, position, logits, first, n);
    candidates->best.logit = oct_law_logit(candidates->best.logit);
    candidates->whole = n <= list_size;
    if (list_size > 0) {
        top_keys top = {.k = list_size, .threshold = -INFINITY};
        top_scan(&top, logits, first, n);
        top_finish(&top, candidates);
    }
    if (!oct_sampling_needs_maximum(s))
        return;
    const float inverse = oct_sampling_inverse_temperature(s);
    candidates->not_numbers = count_not_numbers(logits, n);
    if (!oct_sampling_is_greedy(s) && s->top_p < 1)
        candidates->mass = oct_law_mass_sum(logits, n, maximum, inverse);
    if (s->logprobs > 0 && inverse == 1 && candidates->mass > 0)
        candidates->unit_mass = candidates->mass;
    else if (s->logprobs > 0)
        candidates->unit_mass = oct_law_mass_sum(logits, n, maximum, 1.0f);
}

void oct_candidates_merge(oct_candidates *out, const oct_candidates *const parts_list[], int32_t parts,
                          int32_t list_size)
{
    assert(parts >= 1 && parts <= OCT_MAX_CANDIDATE_LISTS && list_size <= OCT_MAX_CANDIDATES);
    memset(out, 0, oct_candidates_bytes(list_size));
    out->best = (oct_best){-1, -INFINITY, -INFINITY};
    out->whole = 1;
    top_keys top = {.k = list_size, .threshold = -INFINITY};
    int64_t entries = 0;
    for (int32_t p = 0; p < parts; p++) {
        const oct_candidates *part = parts_list[p];
        out->mass += part->mass;
        out->unit_mass += part->unit_mass;
        out->not_numbers += part->not_numbers;
        out->whole &= part->whole;
        if (oct_best_is_better(&part->best, &out->best))
            out->best = part->best;
        entries += part->count;
        for (int32_t i = 0; i < part->count && list_size > 0; i++)
            top_add(&top, oct_law_key(part->list[i].logit, part->list[i].token));
    }
    out->whole &= entries <= list_size;
    if (list_size > 0)
        top_finish(&top, out);
}
