// Quantisers. Plain loops over groups of 32: importing happens once.
#include "checkpoints/quantise.h"

#include <math.h>
#include <string.h>

#include "runtime/encoding.h"

enum { GROUP = 32 };

// Rounds weights / scale to codes; returns the squared error.
static float round_codes(const float *w, float scale, int zero, uint8_t *codes)
{
    float inverse = scale != 0 ? 1 / scale : 0, error = 0;
    for (int i = 0; i < GROUP; i++) {
        float level = rintf(w[i] * inverse) + (float)zero;
        level = level < 0 ? 0 : level > (float)(2 * zero - 1) ? (float)(2 * zero - 1) : level;
        codes[i] = (uint8_t)level;
        float d = w[i] - scale * (level - (float)zero);
        error += d * d;
    }
    return error;
}

// The scale that fits given codes best: Σ w q / Σ q².
static float least_squares(const float *w, const uint8_t *codes, int zero)
{
    float product = 0, square = 0;
    for (int i = 0; i < GROUP; i++) {
        float q = (float)((int)codes[i] - zero);
        product += w[i] * q;
        square += q * q;
    }
    return square > 0 ? product / square : 0;
}

static float as_half(float value, uint16_t *half)
{
    if (value > 65504)
        value = 65504;
    if (value < -65504)
        value = -65504;
    *half = oct_f32_to_f16(value);
    return oct_f16_to_f32(*half);
}

static uint16_t best_four_bits(const float *w, float largest, uint8_t *codes)
{
    static const float divisors[] = {-8, -7.5f, -8.5f, 7.5f, 8.5f, -7, 7};
    uint8_t candidate[GROUP];
    float least = INFINITY;
    uint16_t best = 0;
    for (size_t i = 0; i < sizeof divisors / sizeof divisors[0]; i++) {
        uint16_t half;
        round_codes(w, as_half(largest / divisors[i], &half), 8, candidate);
        float error = round_codes(w, as_half(least_squares(w, candidate, 8), &half), 8, candidate);
        if (error < least) {
            least = error;
            best = half;
            memcpy(codes, candidate, GROUP);
        }
    }
    return best;
}

uint16_t oct_quantise_group(const float *weights, int bits, uint8_t *codes)
{
    float w[GROUP], largest = 0;
    for (int i = 0; i < GROUP; i++) {
        w[i] = isfinite(weights[i]) ? weights[i] : 0;
        if (fabsf(w[i]) > fabsf(largest))
            largest = w[i];
    }
    if (bits == 4)
        return best_four_bits(w, largest, codes);
    uint16_t half;
    round_codes(w, as_half(fabsf(largest) / 127, &half), 128, codes);
    return half;
}
