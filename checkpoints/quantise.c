// Quantisers. Both alternate between what is best for the codes at hand and the codes that are best for it: either
// half can only lessen the error, and several starts keep it out of poor corners. 16 groups go side by side, one a
// lane (a pair may have 8), so that no sum crosses lanes; the inner loops over lanes are for the compiler's vectors.
#include "checkpoints/quantise.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/encoding.h"

enum { LANES = 16, GROUP = 32, PAIR_LEVEL = 3, PAIR_FACTOR = 15 };
enum { ROUNDS = 2, PAIR_ROUNDS = 3 }; // more lessen the error by less than a thousandth
#define HALF_LARGEST 65504.0f
#define HALF_SMALLEST 0x1p-24f
#define ROUND 12582912.0f // 1.5 · 2^23: adding and subtracting it rounds to an integer, to nearest even

typedef float lanes[LANES];

// Groups of `size` weights each, weight by weight: at[i][g] is weight i of group g; groups that are not there are 0.
static void take_weights(const float *weights, int size, int64_t groups, float limit, lanes *at)
{
    memset(at, 0, (size_t)size * sizeof *at);
    for (int g = 0; g < LANES && g < groups; g++)
        for (int i = 0; i < size; i++) {
            const float w = weights[(int64_t)g * size + i];
            at[i][g] = !isfinite(w) ? 0 : w > limit ? limit : w < -limit ? -limit : w;
        }
}

// The levels from lowest to highest that are nearest to weights with weight = scale · level + minimum, and the
// squared errors that they leave.
static void round_levels(int size, const lanes *restrict w, const float *restrict scale,
                         const float *restrict minimum, float lowest, float highest, lanes *restrict levels,
                         float *restrict errors)
{
    lanes inverse;
    for (int g = 0; g < LANES; g++) {
        inverse[g] = fabsf(scale[g]) >= HALF_SMALLEST ? 1 / scale[g] : 0;
        errors[g] = 0;
    }
    for (int i = 0; i < size; i++)
        for (int g = 0; g < LANES; g++) {
            float level = (w[i][g] - minimum[g]) * inverse[g];
            level = level > lowest ? level : lowest;
            level = level < highest ? level : highest;
            level = (level + ROUND) - ROUND;
            levels[i][g] = level;
            const float difference = w[i][g] - (scale[g] * level + minimum[g]);
            errors[g] += difference * difference;
        }
}

// What least squares needs of each group.
typedef struct sums {
    lanes weights, levels, squares, products;
} sums;

static void add_up(int size, const lanes *restrict w, const lanes *restrict levels, sums *restrict s)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < size; i++)
        for (int g = 0; g < LANES; g++) {
            s->weights[g] += w[i][g];
            s->levels[g] += levels[i][g];
            s->squares[g] += levels[i][g] * levels[i][g];
            s->products[g] += w[i][g] * levels[i][g];
        }
}

static float as_half(float value, uint16_t *half)
{
    *half = oct_f32_to_f16(value > HALF_LARGEST ? HALF_LARGEST : value < -HALF_LARGEST ? -HALF_LARGEST : value);
    return oct_f16_to_f32(*half);
}

static const lanes no_minimum;

// The scales that fit given levels best.
static void fit_scales(const lanes *w, const lanes *levels, float *scale)
{
    sums s;
    add_up(GROUP, w, levels, &s);
    for (int g = 0; g < LANES; g++)
        scale[g] = s.squares[g] > 0 ? s.products[g] / s.squares[g] : 0;
}

static void best_four_bits(const lanes *w, const float *largest, float *best)
{
    static const float divisors[] = {-8, -7.5f, -8.5f, 7.5f, 8.5f, -7, 7};
    lanes levels[GROUP], scale, errors, least = {0};
    for (size_t start = 0; start < sizeof divisors / sizeof divisors[0]; start++) {
        for (int g = 0; g < LANES; g++)
            scale[g] = largest[g] / divisors[start];
        for (int round = 0; round < ROUNDS; round++) {
            round_levels(GROUP, w, scale, no_minimum, -8, 7, levels, errors);
            fit_scales(w, levels, scale);
        }
        round_levels(GROUP, w, scale, no_minimum, -8, 7, levels, errors);
        for (int g = 0; g < LANES; g++) {
            const bool better = start == 0 || errors[g] < least[g];
            best[g] = better ? scale[g] : best[g];
            least[g] = better ? errors[g] : least[g];
        }
    }
}

// Up to 16 groups.
static void quantise_lanes(const float *weights, int64_t count, int bits, uint8_t *codes, uint16_t *scales)
{
    const float zero = bits == 4 ? 8 : 128;
    lanes w[GROUP], levels[GROUP], largest = {0}, scale = {0}, errors;
    take_weights(weights, GROUP, count, HALF_LARGEST * (zero - 1), w);
    for (int i = 0; i < GROUP; i++)
        for (int g = 0; g < LANES; g++)
            largest[g] = fabsf(w[i][g]) > fabsf(largest[g]) ? w[i][g] : largest[g];
    if (bits == 4)
        best_four_bits(w, largest, scale);
    for (int g = 0; g < LANES && g < count; g++)
        scale[g] = as_half(bits == 4 ? scale[g] : fabsf(largest[g]) / 127, &scales[g]);
    round_levels(GROUP, w, scale, no_minimum, -zero, zero - 1, levels, errors);
    for (int g = 0; g < LANES && g < count; g++)
        for (int i = 0; i < GROUP; i++)
            codes[g * GROUP + i] = (uint8_t)(levels[i][g] + zero);
}

void oct_quantise_groups(const float *weights, int64_t count, int bits, uint8_t *codes, uint16_t *scales)
{
    for (int64_t at = 0; at < count; at += LANES)
        quantise_lanes(weights + at * GROUP, count - at, bits, codes + at * GROUP, scales + at);
}

// Scale and minimum of 16 groups.
typedef struct affine {
    lanes scale, minimum;
} affine;

// Those that fit given levels best. `sign` −1 or 1: no minimum has the other sign; 0: they may have any.
static void fit_affine(int size, const lanes *w, const lanes *levels, float sign, affine *fit)
{
    const float count = (float)size;
    sums s;
    add_up(size, w, levels, &s);
    for (int g = 0; g < LANES; g++) {
        const float spread = count * s.squares[g] - s.levels[g] * s.levels[g];
        float scale = spread > 0 ? (count * s.products[g] - s.levels[g] * s.weights[g]) / spread : 0;
        float minimum = (s.weights[g] - scale * s.levels[g]) / count;
        const bool unwanted = minimum * sign < 0;
        scale = !unwanted ? scale : s.squares[g] > 0 ? s.products[g] / s.squares[g] : 0;
        fit->scale[g] = scale > 0 ? scale : 0;
        fit->minimum[g] = unwanted ? 0 : minimum;
    }
}

// Each group's own best scale and minimum. The starts lay the outer levels inside the range of the weights, by
// parts of a step below and above: of 16 normal numbers the extremes lie half a step outside of the best levels.
static void best_affine(int size, const lanes *w, float sign, affine *best)
{
    static const float inside[][2] = {{0.25f, 0.25f}, {0, 0.5f}, {0.5f, 0}};
    lanes levels[GROUP], low, high, errors, least = {0};
    affine fit;
    for (int g = 0; g < LANES; g++) {
        low[g] = sign < 0 && w[0][g] > 0 ? 0 : w[0][g];
        high[g] = w[0][g];
    }
    for (int i = 1; i < size; i++)
        for (int g = 0; g < LANES; g++) {
            low[g] = w[i][g] < low[g] ? w[i][g] : low[g];
            high[g] = w[i][g] > high[g] ? w[i][g] : high[g];
        }
    for (size_t start = 0; start < sizeof inside / sizeof inside[0]; start++) {
        const float steps = PAIR_LEVEL + inside[start][0] + inside[start][1];
        for (int g = 0; g < LANES; g++) {
            const float from = sign > 0 && low[g] < 0 ? 0 : low[g];
            fit.scale[g] = high[g] > from ? (high[g] - from) / steps : 0;
            fit.minimum[g] = from + inside[start][0] * fit.scale[g];
        }
        for (int round = 0; round < ROUNDS; round++) {
            round_levels(size, w, fit.scale, fit.minimum, 0, PAIR_LEVEL, levels, errors);
            fit_affine(size, w, levels, sign, &fit);
        }
        round_levels(size, w, fit.scale, fit.minimum, 0, PAIR_LEVEL, levels, errors);
        for (int g = 0; g < LANES; g++) {
            const bool better = start == 0 || errors[g] < least[g];
            best->scale[g] = better ? fit.scale[g] : best->scale[g];
            best->minimum[g] = better ? fit.minimum[g] : best->minimum[g];
            least[g] = better ? errors[g] : least[g];
        }
    }
}

// A pair under construction: D and M as f16 holds them; factors and levels as numbers.
typedef struct pair {
    int size; // weights of a group
    uint16_t half_d, half_m;
    float d, m, error;
    lanes scales, minima, levels[GROUP];
} pair;

static float as_factor(float factor)
{
    factor = factor > 0 ? factor : 0;
    factor = factor < PAIR_FACTOR ? factor : PAIR_FACTOR;
    return (factor + ROUND) - ROUND;
}

// Levels and errors for these factors; returns the sum of the errors.
static float round_pair(const lanes *w, const pair *p, const lanes scales, const lanes minima, lanes *levels,
                        float *errors)
{
    lanes scale, minimum;
    float sum = 0;
    for (int g = 0; g < LANES; g++) {
        scale[g] = p->d * scales[g];
        minimum[g] = p->m * minima[g];
    }
    round_levels(p->size, w, scale, minimum, 0, PAIR_LEVEL, levels, errors);
    for (int g = 0; g < LANES; g++)
        sum += errors[g];
    return sum;
}

// Moves the factors of each group by at most one where that lessens the error; then its levels.
static void refine_factors(const lanes *w, pair *p)
{
    static const float moves[][2] = {{0, 0}, {0, 1}, {0, -1}, {1, 0}, {-1, 0}};
    lanes scales, minima, best_scales = {0}, best_minima = {0}, errors, least = {0};
    for (size_t move = 0; move < sizeof moves / sizeof moves[0]; move++) {
        for (int g = 0; g < LANES; g++) {
            scales[g] = as_factor(p->scales[g] + moves[move][0]);
            minima[g] = as_factor(p->minima[g] + moves[move][1]);
        }
        round_pair(w, p, scales, minima, p->levels, errors);
        for (int g = 0; g < LANES; g++) {
            const bool better = move == 0 || errors[g] < least[g];
            best_scales[g] = better ? scales[g] : best_scales[g];
            best_minima[g] = better ? minima[g] : best_minima[g];
            least[g] = better ? errors[g] : least[g];
        }
    }
    memcpy(p->scales, best_scales, sizeof best_scales);
    memcpy(p->minima, best_minima, sizeof best_minima);
    p->error = round_pair(w, p, p->scales, p->minima, p->levels, errors);
}

// The D and M that fit given factors and levels best: weight = D · (S · level) + M · T over all groups.
static void fit_units(const lanes *w, float sign, pair *p)
{
    sums s;
    float xx = 0, xt = 0, tt = 0, wx = 0, wt = 0;
    add_up(p->size, w, p->levels, &s);
    for (int g = 0; g < LANES; g++) {
        const float scale = p->scales[g], minimum = p->minima[g];
        xx += scale * scale * s.squares[g];
        xt += scale * minimum * s.levels[g];
        tt += minimum * minimum * (float)p->size;
        wx += scale * s.products[g];
        wt += minimum * s.weights[g];
    }
    const float determinant = xx * tt - xt * xt;
    float d = p->d, m = p->m;
    if (tt == 0 || xx == 0) {
        d = xx > 0 ? wx / xx : 0;
        m = tt > 0 ? wt / tt : 0;
    } else if (determinant > 1e-5f * xx * tt) {
        d = (wx * tt - wt * xt) / determinant;
        m = (wt * xx - wx * xt) / determinant;
    }
    p->d = as_half(d > 0 ? d : 0, &p->half_d);
    p->m = as_half(m * sign > 0 ? m : 0, &p->half_m);
}

// From each group's own scale and minimum (of one sign) to factors of a common pair.
static void fit_pair(int size, const lanes *w, const affine *own, float sign, pair *best)
{
    pair p = {.size = size};
    float scale = 0, minimum = 0;
    for (int g = 0; g < LANES; g++) {
        scale = own->scale[g] > scale ? own->scale[g] : scale;
        minimum = own->minimum[g] * sign > minimum ? own->minimum[g] * sign : minimum;
    }
    p.d = as_half(scale / PAIR_FACTOR, &p.half_d);
    p.m = as_half(sign * minimum / PAIR_FACTOR, &p.half_m);
    for (int g = 0; g < LANES; g++) {
        p.scales[g] = p.d != 0 ? as_factor(own->scale[g] / p.d) : 0;
        p.minima[g] = p.m != 0 ? as_factor(own->minimum[g] / p.m) : 0;
    }
    refine_factors(w, &p);
    *best = p;
    for (int round = 0; round < PAIR_ROUNDS; round++) {
        fit_units(w, sign, &p);
        refine_factors(w, &p);
        if (!(p.error < best->error))
            break;
        *best = p;
    }
}

// All minima of a pair have M's sign. Where the groups' own are of both, each sign is tried.
static void best_pair(int size, const lanes *w, pair *best)
{
    affine own;
    bool below = false, above = false;
    best_affine(size, w, 0, &own);
    for (int g = 0; g < LANES; g++) {
        below = below || own.minimum[g] < 0;
        above = above || own.minimum[g] > 0;
    }
    if (!below || !above) {
        fit_pair(size, w, &own, above ? 1 : -1, best);
        return;
    }
    pair other;
    best_affine(size, w, -1, &own);
    fit_pair(size, w, &own, -1, best);
    best_affine(size, w, 1, &own);
    fit_pair(size, w, &own, 1, &other);
    if (other.error < best->error)
        *best = other;
}

void oct_quantise_pair(const float *weights, int columns, int size, oct_quantised_pair *out)
{
    lanes w[GROUP];
    pair best;
    take_weights(weights, size, columns / size, HALF_LARGEST * PAIR_FACTOR, w);
    best_pair(size, w, &best);
    *out = (oct_quantised_pair){.d = best.half_d, .m = best.half_m};
    for (int g = 0; g < OCT_BLOCK_COLUMNS / size; g++) {
        out->scales[g] = (uint8_t)best.scales[g];
        out->minima[g] = (uint8_t)best.minima[g];
        for (int i = 0; i < size; i++)
            out->codes[g * size + i] = (uint8_t)best.levels[i][g];
    }
}
