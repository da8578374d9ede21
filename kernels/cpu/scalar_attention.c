// Attention over the paged cache, scalar table.
#include "kernels/cpu/scalar.h"

#include <math.h>

#include "runtime/elementary.h"

void oct_scalar_store_key_value(uint16_t *page, int32_t head_dim, int32_t position, const float *key,
                                const float *value)
{
    uint16_t *values = page + (size_t)head_dim * OCT_PAGE_POSITIONS;
    for (int32_t d = 0; d < head_dim; d++) {
        page[d * OCT_PAGE_POSITIONS + position] = oct_f32_to_f16(key[d]);
        values[position * head_dim + d] = oct_f32_to_f16(value[d]);
    }
}

static const uint16_t *key_at(const oct_attention *a, int32_t position)
{
    return a->pages[position / OCT_PAGE_POSITIONS] + position % OCT_PAGE_POSITIONS;
}

static const uint16_t *value_at(const oct_attention *a, int32_t position)
{
    return a->pages[position / OCT_PAGE_POSITIONS] + (size_t)a->head_dim * OCT_PAGE_POSITIONS +
           (size_t)(position % OCT_PAGE_POSITIONS) * (size_t)a->head_dim;
}

static void attend(const oct_attention *a, const float *q, float *state)
{
    float weights[OCT_SPLIT_POSITIONS], lanes[16] = {0};
    float largest = -INFINITY;
    for (int32_t p = a->begin; p < a->end; p++) {
        const uint16_t *key = key_at(a, p);
        float score = 0.0f;
        for (int32_t d = 0; d < a->head_dim; d++)
            score = fmaf(q[d], oct_f16_to_f32(key[d * OCT_PAGE_POSITIONS]), score);
        weights[p] = score * a->scale;
        largest = weights[p] > largest ? weights[p] : largest;
    }
    largest = largest + 0.0f; // −0 becomes 0, as in maximum()
    for (int32_t p = a->begin; p < a->end; p++) {
        weights[p] = oct_exp(weights[p] - largest);
        lanes[p % 16] = lanes[p % 16] + weights[p];
    }
    state[0] = largest;
    state[1] = oct_scalar_lane_tree(lanes);
    for (int32_t d = 0; d < a->head_dim; d++) {
        float sum = 0.0f;
        for (int32_t p = a->begin; p < a->end; p++)
            sum = fmaf(weights[p], oct_f16_to_f32(value_at(a, p)[d]), sum);
        state[2 + d] = sum;
    }
}

void oct_scalar_attention_split(const oct_attention *attention)
{
    for (int32_t i = 0; i < attention->queries; i++)
        attend(attention, attention->q + (size_t)i * (size_t)attention->head_dim,
               attention->state + (size_t)i * (size_t)(2 + attention->head_dim));
}

void oct_scalar_attention_merge(const float *states, int64_t stride, int32_t splits, int32_t head_dim,
                                float *out)
{
    float maximum = states[0], sum = states[1];
    for (int32_t d = 0; d < head_dim; d++)
        out[d] = states[2 + d];
    for (int32_t i = 1; i < splits; i++) {
        const float *state = states + i * stride;
        float larger = state[0] > maximum ? state[0] : maximum;
        float a = oct_exp(maximum - larger), b = oct_exp(state[0] - larger);
        sum = fmaf(state[1], b, sum * a);
        for (int32_t d = 0; d < head_dim; d++)
            out[d] = fmaf(state[2 + d], b, out[d] * a);
        maximum = larger;
    }
    for (int32_t d = 0; d < head_dim; d++)
        out[d] = out[d] / sum;
}
