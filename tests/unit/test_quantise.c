// Quantisers: nearer to the weights than scales from minimum and maximum, by a margin that rounding alone cannot
// give; extremes; the stored numbers are a local optimum; the same weights give the same bytes.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "checkpoints/quantise.h"
#include "runtime/encoding.h"

enum { COLUMNS = 256, BLOCKS = 400 };
static const int sizes[] = {16, 32}; // of the groups of a pair: q2_k, q2

static uint64_t state = 7;

// Uniform in (0, 1).
static double next_uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(state >> 33) + 0.5) * 0x1p-31;
}

static double next_normal(void)
{
    return sqrt(-2 * log(next_uniform())) * cos(6.283185307179586 * next_uniform());
}

static double next_laplace(void)
{
    const double u = next_uniform() - 0.5;
    return (u < 0 ? 1 : -1) * log(1 - 2 * fabs(u));
}

// Normal numbers, of which one in a hundred is ten times as large.
static double next_outlier(void)
{
    return next_normal() * (next_uniform() < 0.01 ? 10 : 1);
}

static double next_symmetric(void)
{
    return 2 * next_uniform() - 1;
}

// Of distributions: the squared error over the squared weights of the quantiser at hand may be at most this part of
// what minimum and maximum give. Measured: q4 0.82 to 0.95, q2_k 0.49 to 0.63, q2 0.38 to 0.58.
static const struct {
    const char *name;
    double (*next)(void);
} distributions[] = {{"normal", next_normal},
                     {"uniform", next_symmetric},
                     {"Laplace", next_laplace},
                     {"outliers", next_outlier}};
enum { DISTRIBUTIONS = sizeof distributions / sizeof distributions[0] };
#define MARGIN_Q4 0.96
#define MARGIN_TWO_BITS 0.75

static float half(float value)
{
    return oct_f16_to_f32(oct_f32_to_f16(value));
}

static double square(float a, float b)
{
    return ((double)a - (double)b) * ((double)a - (double)b);
}

static double power(const float *w)
{
    double sum = 0;
    for (int i = 0; i < COLUMNS; i++)
        sum += (double)w[i] * (double)w[i];
    return sum;
}

static double error_of_groups(const float *w, int bits)
{
    uint8_t codes[COLUMNS];
    uint16_t scales[COLUMNS / 32];
    double error = 0;
    oct_quantise_groups(w, COLUMNS / 32, bits, codes, scales);
    for (int i = 0; i < COLUMNS; i++) {
        assert_true(bits == 8 || codes[i] < 16);
        error += square(w[i], oct_f16_to_f32(scales[i / 32]) * (float)(codes[i] - (1 << (bits - 1))));
    }
    return error;
}

// Four bits by the largest weight, which takes the code 0.
static double plain_q4(const float *w)
{
    double error = 0;
    for (int at = 0; at < COLUMNS; at += 32) {
        float largest = 0;
        for (int i = 0; i < 32; i++)
            largest = fabsf(w[at + i]) > fabsf(largest) ? w[at + i] : largest;
        const float scale = half(largest / -8);
        for (int i = 0; i < 32; i++)
            error += square(w[at + i], scale * fminf(fmaxf(rintf(w[at + i] / scale), -8), 7));
    }
    return error;
}

static float decode_pair(const oct_quantised_pair *p, int size, int i)
{
    return oct_f16_to_f32(p->d) * (float)p->scales[i / size] * (float)p->codes[i] +
           oct_f16_to_f32(p->m) * (float)p->minima[i / size];
}

static double error_of_pair(const float *w, const oct_quantised_pair *p, int size, int columns)
{
    double error = 0;
    for (int i = 0; i < columns; i++) {
        assert_true(p->codes[i] < 4 && p->scales[i / size] < 16 && p->minima[i / size] < 16);
        error += square(w[i], decode_pair(p, size, i));
    }
    assert_true(isfinite(error));
    return error;
}

static double error_of_two_bits(const float *w, int size)
{
    oct_quantised_pair p;
    oct_quantise_pair(w, COLUMNS, size, &p);
    return error_of_pair(w, &p, size, COLUMNS);
}

// Two bits by minimum and maximum of each group, factors rounded to what the largest one gives.
static double plain_two_bits(const float *w, int size)
{
    float low[16], step[16], most = 0, lowest = 0;
    double error = 0;
    for (int g = 0; g < COLUMNS / size; g++) {
        float high = w[g * size];
        low[g] = fminf(w[g * size], 0);
        for (int i = 0; i < size; i++) {
            low[g] = fminf(low[g], w[g * size + i]);
            high = fmaxf(high, w[g * size + i]);
        }
        step[g] = (high - low[g]) / 3;
        most = fmaxf(most, step[g]);
        lowest = fminf(lowest, low[g]);
    }
    const float d = half(most / 15), m = half(lowest / 15);
    for (int i = 0; i < COLUMNS; i++) {
        const float scale = d * rintf(step[i / size] / d), minimum = m * rintf(low[i / size] / m);
        const float code = scale > 0 ? fminf(fmaxf(rintf((w[i] - minimum) / scale), 0), 3) : 0;
        error += square(w[i], scale * code + minimum);
    }
    return error;
}

static void test_least_squares(void **context)
{
    (void)context;
    for (size_t k = 0; k < DISTRIBUTIONS; k++) {
        double q8 = 0, q4 = 0, two[2] = {0}, plain4 = 0, plain_two[2] = {0}, all = 0;
        for (int block = 0; block < BLOCKS; block++) {
            float w[COLUMNS];
            const double size = exp(next_normal() / 4) / 50; // blocks of different sizes, as in models
            for (int i = 0; i < COLUMNS; i++)
                w[i] = (float)(size * distributions[k].next());
            q8 += error_of_groups(w, 8);
            q4 += error_of_groups(w, 4);
            plain4 += plain_q4(w);
            for (int s = 0; s < 2; s++) {
                two[s] += error_of_two_bits(w, sizes[s]);
                plain_two[s] += plain_two_bits(w, sizes[s]);
            }
            all += power(w);
        }
        printf("%-8s relative error: q8 %.4f, q4 %.4f (minimum and maximum: %.4f)", distributions[k].name,
               sqrt(q8 / all), sqrt(q4 / all), sqrt(plain4 / all));
        for (int s = 0; s < 2; s++)
            printf(", %s %.4f (%.4f)", s ? "q2" : "q2_k", sqrt(two[s] / all), sqrt(plain_two[s] / all));
        printf("\n");
        assert_true(q8 < 1e-4 * all);
        assert_true(q4 < MARGIN_Q4 * plain4);
        assert_true(two[0] < MARGIN_TWO_BITS * plain_two[0] && two[1] < MARGIN_TWO_BITS * plain_two[1]);
    }
}

// No code of a group can be moved, and no factor, without more error: what is stored fits what is stored.
static void check_local_optimum(int size)
{
    for (int block = 0; block < 50; block++) {
        float w[COLUMNS];
        oct_quantised_pair p;
        for (int i = 0; i < COLUMNS; i++)
            w[i] = (float)(next_normal() / 50);
        oct_quantise_pair(w, COLUMNS, size, &p);
        const double least = error_of_pair(w, &p, size, COLUMNS);
        for (int i = 0; i < COLUMNS; i++)
            for (int move = -1; move <= 1; move += 2) {
                oct_quantised_pair other = p;
                if (p.codes[i] + move < 0 || p.codes[i] + move > 3)
                    continue;
                other.codes[i] = (uint8_t)(p.codes[i] + move);
                assert_true(error_of_pair(w, &other, size, COLUMNS) >= least * (1 - 1e-5));
            }
        for (int g = 0; g < COLUMNS / size; g++)
            for (int move = -1; move <= 1; move += 2) {
                oct_quantised_pair scale = p, minimum = p;
                scale.scales[g] = (uint8_t)((p.scales[g] + move) & 15);
                minimum.minima[g] = (uint8_t)((p.minima[g] + move) & 15);
                assert_true(error_of_pair(w, &scale, size, COLUMNS) >= least * (1 - 1e-5));
                assert_true(error_of_pair(w, &minimum, size, COLUMNS) >= least * (1 - 1e-5));
            }
    }
}

// The largest error of any weight over the largest weight.
static double worst(const float *w, int size, int columns, double expected_largest)
{
    oct_quantised_pair p;
    double most = 0;
    oct_quantise_pair(w, columns, size, &p);
    error_of_pair(w, &p, size, columns);
    for (int i = 0; i < columns; i++)
        most = fmax(most, sqrt(square(w[i], decode_pair(&p, size, i))));
    return most / expected_largest;
}

static void fill(float *w, float value)
{
    for (int i = 0; i < COLUMNS; i++)
        w[i] = value;
}

static void check_pair_extremes(int size)
{
    float w[COLUMNS];
    oct_quantised_pair p;
    static const oct_quantised_pair zero;
    fill(w, 0);
    oct_quantise_pair(w, COLUMNS, size, &p);
    for (int i = 0; i < COLUMNS; i++)
        assert_true(decode_pair(&p, size, i) == 0 && p.codes[i] == 0);
    assert_int_equal(p.d, zero.d);
    static const float constants[] = {0.02f, -0.02f, -3, 60000, -800000};
    for (size_t k = 0; k < sizeof constants / sizeof constants[0]; k++) {
        fill(w, constants[k]);
        assert_true(worst(w, size, COLUMNS, (double)fabsf(constants[k])) < 2e-3);
        for (int i = 0; i < COLUMNS; i++) // groups of one value each, of both signs
            w[i] = constants[k] * (i / size % 2 ? 1.0f : -1.0f);
        assert_true(worst(w, size, COLUMNS, (double)fabsf(constants[k])) < 2e-3);
        for (int i = 0; i < COLUMNS; i++) // all of one sign, far from zero: minima of either sign
            w[i] = constants[k] * (1 + (float)(i % 16 % 4) / 16);
        assert_true(worst(w, size, COLUMNS, (double)fabsf(constants[k])) < 2e-2);
    }
    fill(w, INFINITY);
    w[7] = NAN;
    w[100] = -INFINITY;
    oct_quantise_pair(w, COLUMNS, size, &p);
    for (int i = 0; i < COLUMNS; i++)
        assert_true(decode_pair(&p, size, i) == 0);
    static const float huge[] = {1e6f, 1e30f, 3.4e38f};
    for (size_t k = 0; k < sizeof huge / sizeof huge[0]; k++) {
        for (int i = 0; i < COLUMNS; i++)
            w[i] = i % 2 ? huge[k] : -huge[k];
        oct_quantise_pair(w, COLUMNS, size, &p);
        for (int i = 0; i < COLUMNS; i++) // as far as the encoding reaches on that side
            assert_true(isfinite(decode_pair(&p, size, i)) && fabsf(decode_pair(&p, size, i)) > 9e5f &&
                        (decode_pair(&p, size, i) > 0) == (w[i] > 0));
    }
    for (int i = 0; i < COLUMNS; i++)
        w[i] = (float)next_normal() / 50;
    w[33] = 5; // one outlier costs its own group and little else
    oct_quantise_pair(w, COLUMNS, size, &p);
    assert_true(fabsf(decode_pair(&p, size, 33) - 5) < 0.2f);
    fill(w, 1e-30f);
    assert_true(worst(w, size, COLUMNS, 1) < 1e-7);
}

// Fewer columns than a pair covers: the same as with zeros behind them.
static void check_short_pair(int size)
{
    float w[COLUMNS] = {0};
    oct_quantised_pair part, whole;
    for (int columns = 32; columns < COLUMNS; columns += 32) {
        for (int i = 0; i < columns; i++)
            w[i] = (float)next_laplace();
        memset(&part, 0xff, sizeof part);
        oct_quantise_pair(w, columns, size, &part);
        oct_quantise_pair(w, COLUMNS, size, &whole);
        assert_memory_equal(part.codes, whole.codes, sizeof part.codes);
        assert_memory_equal(part.scales, whole.scales, sizeof part.scales);
        assert_memory_equal(part.minima, whole.minima, sizeof part.minima);
        assert_true(part.d == whole.d && part.m == whole.m);
        assert_int_equal(part.codes[columns], 0);
    }
}

static void test_group_extremes(void **context)
{
    (void)context;
    static const float values[] = {0, INFINITY, 1e-30f, 3.4e38f, -3.4e38f, 0.02f, -0.02f};
    float w[32];
    uint8_t codes[32];
    uint16_t scale;
    for (int bits = 4; bits <= 8; bits += 4)
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            for (int i = 0; i < 32; i++)
                w[i] = values[k];
            oct_quantise_groups(w, 1, bits, codes, &scale);
            const float decoded = oct_f16_to_f32(scale) * (float)(codes[5] - (1 << (bits - 1)));
            if (k < 3)
                assert_true(decoded == 0 && codes[5] == 1 << (bits - 1));
            else if (fabsf(values[k]) > 1)
                assert_true(isfinite(decoded) && fabsf(decoded) > 4e5f && decoded * values[k] > 0);
            else
                assert_true(fabsf(decoded - values[k]) < 2e-5f);
        }
}

// A group's bytes depend on its weights alone, not on its neighbours in the call.
static void test_alone(void **context)
{
    (void)context;
    enum { MANY = 37 };
    float w[MANY * 32];
    uint8_t codes[MANY * 32], own[32];
    uint16_t scales[MANY], scale;
    for (int i = 0; i < MANY * 32; i++)
        w[i] = (float)next_normal();
    for (int bits = 4; bits <= 8; bits += 4) {
        oct_quantise_groups(w, MANY, bits, codes, scales);
        for (int g = 0; g < MANY; g++) {
            oct_quantise_groups(w + g * 32, 1, bits, own, &scale);
            assert_memory_equal(own, codes + g * 32, 32);
            assert_int_equal(scale, scales[g]);
        }
    }
}

static void test_pairs(void **context)
{
    (void)context;
    for (int s = 0; s < 2; s++) {
        check_local_optimum(sizes[s]);
        check_pair_extremes(sizes[s]);
        check_short_pair(sizes[s]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_squares),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_group_extremes),
        cmocka_unit_test(test_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
