// Attention over 16 lanes: the lanes are positions while scores are made (a key page is [head_dim][64]) and
// dimensions while values are added (a value page is [64][head_dim]), so that no sum crosses lanes. Several
// queries share each key and value that is read. The bits are those of scalar_attention.c. Include lanes_….h
// first.
#ifndef OCT_KERNELS_CPU_VECTOR_ATTENTION_H
#define OCT_KERNELS_CPU_VECTOR_ATTENTION_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/scalar.h"
#include "kernels/cpu/vector_math.h"

#define QUERIES 4    // of a pass
#define PAGE_TILES 4 // tiles of 16 positions a page

typedef float split_scores[QUERIES][OCT_SPLIT_POSITIONS];

static void store_key_value(uint16_t *page, int32_t head_dim, int32_t position, const float *key,
                            const float *value)
{
    uint16_t *values = page + (size_t)head_dim * OCT_PAGE_POSITIONS + (size_t)position * (size_t)head_dim;
    for (int32_t d = 0; d < head_dim; d += LANES) {
        uint16_t halves[LANES];
        lanes_to_f16(halves, lanes_load(key + d));
        for (int32_t i = 0; i < LANES; i++)
            page[(d + i) * OCT_PAGE_POSITIONS + position] = halves[i];
        lanes_to_f16(values + d, lanes_load(value + d));
    }
}

OCT_INLINE const uint16_t *values_of(const oct_attention *a, int32_t page)
{
    return a->pages[page] + (size_t)a->head_dim * OCT_PAGE_POSITIONS;
}

// Fetches `numbers` numbers of a page (a multiple of 32, whole cache lines); NULL: nothing.
OCT_INLINE void fetch(const uint16_t *at, int numbers)
{
    for (int i = 0; at != NULL && i < numbers; i += 32)
        oct_prefetch(at + i);
}

// Scores of N queries with T tiles of 16 positions from `keys` on; they go to score[n][0 … 16 T). Meanwhile the keys
// or values (as many bytes) of the page that follows are fetched, from `next` on.
OCT_INLINE void score_tiles(int N, int T, const float *q, int32_t head_dim, float scale, const uint16_t *keys,
                            float *score, const uint16_t *next)
{
    lanes sum[QUERIES][PAGE_TILES];
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            sum[n][t] = lanes_set(0.0f);
    for (int32_t d = 0; d < head_dim; d++) {
        fetch(next == NULL ? NULL : next + d * OCT_PAGE_POSITIONS, OCT_PAGE_POSITIONS);
        for (int t = 0; t < T; t++) {
            lanes key = lanes_from_f16(keys + d * OCT_PAGE_POSITIONS + t * LANES);
            for (int n = 0; n < N; n++)
                sum[n][t] = lanes_fma(lanes_set(q[n * head_dim + d]), key, sum[n][t]);
        }
    }
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            lanes_store(score + n * OCT_SPLIT_POSITIONS + t * LANES, lanes_mul(sum[n][t], lanes_set(scale)));
}

// Adds the weighted values of the positions [begin, end) of one page to N · T sums of 16 dimensions, and fetches those
// of the page that follows, from `next` on.
OCT_INLINE void add_values(int N, int T, lanes sum[QUERIES][PAGE_TILES], const uint16_t *values,
                           int32_t head_dim, const float *weights, int32_t begin, int32_t end,
                           const uint16_t *next)
{
    for (int32_t p = begin; p < end; p++) {
        fetch(next == NULL ? NULL : next + p * head_dim, T * LANES);
        for (int t = 0; t < T; t++) {
            lanes value = lanes_from_f16(values + (size_t)p * (size_t)head_dim + t * LANES);
            for (int n = 0; n < N; n++)
                sum[n][t] = lanes_fma(lanes_set(weights[n * OCT_SPLIT_POSITIONS + p]), value, sum[n][t]);
        }
    }
}

// Weighted values of N queries in the dimensions [d, d + 16 T).
OCT_INLINE void value_tiles(int N, int T, const oct_attention *a, int32_t d, const float *weights,
                            float *state)
{
    lanes sum[QUERIES][PAGE_TILES];
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            sum[n][t] = lanes_set(0.0f);
    for (int32_t page = a->begin / OCT_PAGE_POSITIONS; page * OCT_PAGE_POSITIONS < a->end; page++) {
        int32_t origin = page * OCT_PAGE_POSITIONS;
        int32_t begin = a->begin > origin ? a->begin - origin : 0;
        int32_t end = a->end - origin < OCT_PAGE_POSITIONS ? a->end - origin : OCT_PAGE_POSITIONS;
        const uint16_t *next = origin + OCT_PAGE_POSITIONS < a->end ? values_of(a, page + 1) : a->next;
        add_values(N, T, sum, values_of(a, page) + d, a->head_dim, weights + origin, begin, end,
                   next == NULL || T == 1 ? NULL : next + d);
    }
    for (int n = 0; n < N; n++)
        for (int t = 0; t < T; t++)
            lanes_store(state + n * (2 + a->head_dim) + 2 + d + t * LANES, sum[n][t]);
}

// Scores to weights, in place; maximum and sum to the state. [first, last) are whole tiles around the
// attended positions; what the others hold is replaced, whatever it is.
static void weigh(const oct_attention *a, int32_t first, int32_t last, float *score, float *state)
{
    for (int32_t p = first; p < a->begin; p++)
        score[p] = -INFINITY;
    for (int32_t p = a->end; p < last; p++)
        score[p] = -INFINITY;
    lanes largest = lanes_set(-INFINITY), sum = lanes_set(0.0f);
    for (int32_t p = first; p < last; p += LANES)
        largest = lanes_max(lanes_load(score + p), largest);
    float top = lanes_largest(largest) + 0.0f;
    for (int32_t p = first; p < last; p += LANES) {
        lanes weight = lanes_exp(lanes_sub(lanes_load(score + p), lanes_set(top)));
        sum = lanes_add(sum, weight);
        lanes_store(score + p, weight);
    }
    state[0] = top;
    state[1] = lanes_tree(sum);
}

// N queries at once; T tiles a pass, as many as the registers hold sums for.
OCT_INLINE void attend(const oct_attention *a, int N, int T, const float *q, float *state)
{
    split_scores score;
    int32_t first = a->begin / LANES * LANES, last = (a->end + LANES - 1) / LANES * LANES;
    for (int32_t p = first; p < last;) {
        const uint16_t *keys = a->pages[p / OCT_PAGE_POSITIONS] + p % OCT_PAGE_POSITIONS;
        int32_t page_end = p / OCT_PAGE_POSITIONS * OCT_PAGE_POSITIONS + OCT_PAGE_POSITIONS;
        if (p + T * LANES <= (page_end < last ? page_end : last)) {
            const uint16_t *next = page_end < a->end ? a->pages[page_end / OCT_PAGE_POSITIONS]
                                                     : values_of(a, a->begin / OCT_PAGE_POSITIONS);
            score_tiles(N, T, q, a->head_dim, a->scale, keys, score[0] + p, T == PAGE_TILES ? next : NULL);
            p += T * LANES;
        } else {
            score_tiles(N, 1, q, a->head_dim, a->scale, keys, score[0] + p, NULL);
            p += LANES;
        }
    }
    for (int n = 0; n < N; n++)
        weigh(a, first, last, score[n], state + n * (2 + a->head_dim));
    int32_t d = 0;
    for (; d + T * LANES <= a->head_dim; d += T * LANES)
        value_tiles(N, T, a, d, score[0], state);
    for (; d < a->head_dim; d += LANES)
        value_tiles(N, 1, a, d, score[0], state);
}

static void attention_split(const oct_attention *attention)
{
    const float *q = attention->q;
    float *state = attention->state;
    for (int32_t left = attention->queries; left > 0;) {
        int32_t n = left > QUERIES ? QUERIES : left;
        if (n == 4)
            attend(attention, 4, LANES_MANY ? 4 : 1, q, state);
        else if (n == 3)
            attend(attention, 3, LANES_MANY ? 4 : 2, q, state);
        else if (n == 2)
            attend(attention, 2, LANES_MANY ? 4 : 2, q, state);
        else
            attend(attention, 1, 4, q, state);
        q += n * attention->head_dim;
        state += n * (2 + attention->head_dim);
        left -= n;
    }
}

static void attention_merge(const float *states, int64_t stride, int32_t splits, int32_t head_dim, float *out)
{
    float top = states[0], sum = states[1];
    memcpy(out, states + 2, (size_t)head_dim * sizeof *out);
    for (int32_t i = 1; i < splits; i++) {
        const float *state = states + i * stride;
        float larger = state[0] > top ? state[0] : top;
        float a = oct_exp(top - larger), b = oct_exp(state[0] - larger);
        sum = fmaf(state[1], b, sum * a);
        for (int32_t d = 0; d < head_dim; d += LANES) {
            lanes old = lanes_mul(lanes_load(out + d), lanes_set(a));
            lanes_store(out + d, lanes_fma(lanes_load(state + 2 + d), lanes_set(b), old));
        }
        top = larger;
    }
    for (int32_t d = 0; d < head_dim; d += LANES)
        lanes_store(out + d, lanes_div(lanes_load(out + d), lanes_set(sum)));
}

#endif
