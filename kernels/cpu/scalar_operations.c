// Operations on vectors, scalar table: norm, quantisation, activation function, rotation.
#include "kernels/cpu/scalar.h"

#include <math.h>
#include <string.h>

#include "runtime/elementary.h"

#define NORM_BLOCK 64
#define QUANTUM 32 // columns that share a scale

float oct_scalar_lane_tree(const float lanes[16])
{
    float t[8];
    for (int i = 0; i < 8; i++)
        t[i] = lanes[i] + lanes[i + 8];
    for (int n = 4; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            t[i] = t[i] + t[i + n];
    return t[0];
}

// Sum of squares of the blocks [begin, begin + count) of x [n]: the halving tree over blocks.
static float sum_of_squares(const float *x, int32_t n, int32_t begin, int32_t count)
{
    if (count > 1) {
        int32_t half = (count + 1) / 2;
        float first = sum_of_squares(x, n, begin, half);
        return first + sum_of_squares(x, n, begin + half, count - half);
    }
    float lanes[16] = {0};
    for (int i = 0; i < NORM_BLOCK && begin * NORM_BLOCK + i < n; i++) {
        float value = x[begin * NORM_BLOCK + i];
        lanes[i % 16] = fmaf(value, value, lanes[i % 16]);
    }
    return oct_scalar_lane_tree(lanes);
}

void oct_scalar_rms_norm(const float *x, const float *weight, int32_t n, float epsilon, float *out)
{
    float sum = sum_of_squares(x, n, 0, (n + NORM_BLOCK - 1) / NORM_BLOCK);
    float r = 1.0f / sqrtf(sum / (float)n + epsilon);
    for (int32_t i = 0; i < n; i++)
        out[i] = (x[i] * r) * weight[i];
}

void oct_scalar_quantize(const float *x, int64_t width, int8_t *codes, oct_activation_group *groups)
{
    for (int64_t at = 0; at < width; at += QUANTUM) {
        uint32_t largest = 0; // of the magnitudes, as bits: their order is that of the numbers, NaN on top
        for (int i = 0; i < QUANTUM; i++) {
            uint32_t magnitude = oct_float_bits(x[at + i]) & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        float scale = oct_bits_float(largest) / 127.0f, inverse = 127.0f / oct_bits_float(largest);
        bool zero = !(oct_bits_float(largest) >= OCT_QUANTIZE_SMALLEST), broken = largest >= 0x7f800000u;
        oct_activation_group *group = &groups[at / QUANTUM];
        group->scale = broken ? NAN : zero ? 0.0f : scale;
        for (int half = 0; half < 2; half++) {
            int32_t sum = 0;
            for (int i = half * 16; i < half * 16 + 16; i++) {
                float rounded = zero || broken ? 0.0f : (x[at + i] * inverse + 0x1.8p+23f) - 0x1.8p+23f;
                codes[at + i] = (int8_t)rounded;
                sum += codes[at + i];
            }
            group->half_sums[half] = sum;
        }
        group->sum = group->half_sums[0] + group->half_sums[1];
    }
}

// Denormals become zero with their sign, NaN a quiet NaN.
void oct_scalar_round_bf16(const float *x, int64_t width, uint16_t *out)
{
    for (int64_t i = 0; i < width; i++) {
        uint32_t bits = oct_float_bits(x[i]), magnitude = bits & 0x7fffffffu;
        uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1);
        if (magnitude < 0x00800000u)
            rounded = bits & 0x80000000u;
        if (magnitude > 0x7f800000u)
            rounded = bits | 0x00400000u;
        out[i] = (uint16_t)(rounded >> 16);
    }
}

void oct_scalar_silu_multiply(const float *gate, const float *up, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + oct_exp(-gate[i])) * up[i];
}

void oct_scalar_add(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = to[i] + from[i];
}

void oct_scalar_add_tree(float *to, const float *const *nodes, const uint8_t *merges, int32_t count, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float stack[OCT_MAX_NODES];
        int top = 0;
        for (int32_t k = 0; k < count; k++) {
            stack[top++] = nodes[k][i];
            for (int merge = 0; merge < merges[k]; merge++, top--)
                stack[top - 2] = stack[top - 2] + stack[top - 1];
        }
        to[i] = to[i] + stack[0];
    }
}

void oct_scalar_rope(float *x, const float *table, int32_t dims, oct_rope_convention convention)
{
    int32_t half = dims / 2;
    for (int32_t i = 0; i < half; i++) {
        float *a = convention == OCT_ROPE_PAIRS ? x + 2 * i : x + i;
        float *b = convention == OCT_ROPE_PAIRS ? a + 1 : a + half;
        float cosine = table[2 * i], sine = table[2 * i + 1];
        float turned = fmaf(*a, cosine, -(*b * sine));
        *b = fmaf(*b, cosine, *a * sine);
        *a = turned;
    }
}
