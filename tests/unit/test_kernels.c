// Operations on vectors: the scalar table against double precision with derived bounds, the other tables
// against the scalar one bit for bit, special values. u = 2^-24 is half an ulp of 1: the relative error of
// one rounding.
#include "tests/unit/kernel_checks.h"

#include <math.h>

#include "runtime/elementary.h"
#include "runtime/noise.h"
#include "runtime/partition.h"
#include "tests/unit/kernel_tables.h"

#define U 0x1p-24
#define ROUNDS 60

static float *numbers(int64_t n, float size)
{
    float *x = check_allocate((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = check_normal() * size;
    return x;
}

// Fails where `found` is not the law's bits; notes the law once.
static void same(const oct_cpu_kernels *table, const char *what, const void *law, const void *found,
                 size_t bytes, int64_t n)
{
    if (table == oct_cpu_kernels_scalar())
        check_note(found, bytes);
    else if (memcmp(law, found, bytes) != 0)
        fail_msg("%s of %lld elements: table %s differs from the scalar one", what, (long long)n,
                 table->name);
}

static void near(const char *what, int64_t i, double found, double exact, double bound)
{
    if (!(fabs(found - exact) <= bound))
        fail_msg("%s: element %lld is %.9g, expected %.9g +- %.3g", what, (long long)i, found, exact, bound);
}

// S: each square goes through at most 4 fmaf, 4 additions of the lane tree and log2(blocks) of the halving
// tree, all of one sign, so S is off by at most (9 + log2 blocks) u; r has half of that, and of the division
// and the epsilon (2 u), and the root and the reciprocal (2 u); two products more.
static void test_rms_norm(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    for (int round = 0; round < ROUNDS; round++) {
        int32_t n =
            round < 8 ? (int32_t[]){1, 15, 16, 63, 64, 65, 576, 4096}[round] : 1 + (int32_t)check_below(3000);
        float *x = numbers(n, 3.0f), *weight = numbers(n, 1.0f), *law = numbers(n, 1.0f),
              *out = numbers(n, 1.0f);
        float epsilon = round % 2 ? 1e-5f : 1e-6f;
        tables[0]->rms_norm(x, weight, n, epsilon, law);
        double sum = 0;
        for (int32_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        double r = 1 / sqrt(sum / n + (double)epsilon);
        double factor = (0.5 * (11 + ceil(log2((n + 63) / 64))) + 4) * U * 1.001;
        for (int32_t i = 0; i < n; i++) {
            double exact = (double)x[i] * r * (double)weight[i];
            near("rms_norm", i, (double)law[i], exact, factor * fabs(exact) + 0x1p-125);
        }
        for (int t = 0; t < count; t++) {
            tables[t]->rms_norm(x, weight, n, epsilon, out);
            same(tables[t], "rms_norm", law, out, (size_t)n * sizeof *out, n);
            memcpy(out, x, (size_t)n * sizeof *out); // in place
            tables[t]->rms_norm(out, weight, n, epsilon, out);
            assert_true(memcmp(law, out, (size_t)n * sizeof *out) == 0);
        }
        free(x);
        free(weight);
        free(law);
        free(out);
    }
}

// One group with special members; `special` 0: none.
static void spoil(float *x, int special)
{
    static const float values[] = {0,      INFINITY,  -INFINITY,    NAN,
                                   1e-45f, 0x1p-126f, 0x1.fcp-120f, 0x1.fap-120f};
    if (special >= 5)
        for (int i = 0; i < 32; i++)
            x[i] = i % 3 ? 0.0f : -0.0f;
    if (special > 0)
        x[check_below(32)] = values[special];
}

static void test_quantize(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    for (int round = 0; round < ROUNDS * 4; round++) {
        int64_t width = 32 * (1 + check_below(20));
        float *x = numbers(width, ldexpf(1.0f, (int)check_below(60) - 30));
        spoil(x, round % 8);
        int8_t codes[2][640];
        oct_activation_group groups[2][20];
        for (int t = 0; t < count; t++) {
            int to = t > 0;
            tables[t]->quantize(x, width, codes[to], groups[to]);
            same(tables[t], "codes", codes[0], codes[to], (size_t)width, width);
            for (int64_t g = 0; g < width / 32; g++) {
                if (isnan(groups[0][g].scale) && isnan(groups[to][g].scale)) // a NaN's sign is nobody's promise
                    groups[to][g].scale = groups[0][g].scale;
                same(tables[t], "groups", groups[0] + g, groups[to] + g, sizeof groups[0][g], width);
            }
        }
        for (int64_t g = 0; g < width / 32; g++) {
            double largest = 0;
            int32_t sum[2] = {0, 0};
            for (int i = 0; i < 32; i++) {
                largest = isfinite(x[g * 32 + i]) ? fmax(largest, fabs((double)x[g * 32 + i])) : INFINITY;
                sum[i / 16] += codes[0][g * 32 + i];
                assert_true(codes[0][g * 32 + i] >= -127);
                if (!isfinite(x[g * 32 + i])) {
                    assert_true(isnan(groups[0][g].scale));
                    g++; // the group is lost as a whole: look at the next
                    i = -1;
                    sum[0] = sum[1] = 0;
                    largest = 0;
                    if (g == width / 32)
                        break;
                }
            }
            if (g == width / 32)
                break;
            assert_true(sum[0] == groups[0][g].half_sums[0] && sum[1] == groups[0][g].half_sums[1]);
            assert_true(sum[0] + sum[1] == groups[0][g].sum);
            if (largest / 127 < 0x1p-126) {
                assert_true(groups[0][g].scale == 0.0f && sum[0] == 0 && sum[1] == 0);
                continue;
            }
            near("scale", g, (double)groups[0][g].scale, largest / 127, U * largest / 127 * 1.001);
            // x · (127 / largest) is off by 2 u of at most 127, then rounded to the nearest integer; the
            // scale by u
            for (int i = 0; i < 32; i++)
                near("code", g * 32 + i, (double)groups[0][g].scale * codes[0][g * 32 + i], (double)x[g * 32 + i],
                     (double)groups[0][g].scale * (0.5 + 127 * 3.1 * U));
        }
        free(x);
    }
}

static void test_round_bf16(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    static float x[65536];
    static uint16_t law[65536], out[65536];
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (int i = 0; i < 6; i++) {
        for (uint32_t high = 0; high < 65536; high++)
            x[high] = oct_bits_float(high << 16 | low[i]);
        tables[0]->round_bf16(x, 65536, law);
        for (uint32_t high = 0; high < 65536; high++) {
            uint32_t bits = high << 16 | low[i];
            uint16_t expected = (bits & 0x7f800000) == 0 ? high & 0x8000 : oct_f32_to_bf16(x[high]);
            if (isnan(x[high]))
                assert_true(isnan(oct_bf16_to_f32(law[high])));
            else
                assert_int_equal(law[high], expected);
        }
        for (int t = 0; t < count; t++) {
            tables[t]->round_bf16(x, 65536, out);
            same(tables[t], "round_bf16", law, out, sizeof out, 65536);
        }
    }
}

// The exponential is within 0.95 ulp (at most 1.9 u), then an addition, a division and a product: 5 u of a
// quotient that it enters with a weight of at most 1. Where exp(−gate) overflows the exact value is below
// 1e-36 · |up|; the quotient and the product may each be flushed, at 2^-126.
static void test_silu_multiply(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t n = 1 + check_below(400);
        float *gate = numbers(n, round % 3 == 0 ? 60.0f : 2.0f), *up = numbers(n, 1.0f);
        float *law = numbers(n, 1.0f), *out = numbers(n, 1.0f);
        tables[0]->silu_multiply(gate, up, n, law);
        for (int64_t i = 0; i < n; i++) {
            double exact = (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i];
            near("silu_multiply", i, (double)law[i], exact,
                 5 * U * fabs(exact) + 1.1e-36 * fabs((double)up[i]) + 0x1p-126);
        }
        for (int t = 0; t < count; t++) {
            tables[t]->silu_multiply(gate, up, n, out);
            same(tables[t], "silu_multiply", law, out, (size_t)n * sizeof *out, n);
        }
        free(gate);
        free(up);
        free(law);
        free(out);
    }
}

static void test_add(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t n = 1 + check_below(100);
        float *to = numbers(n, 1.0f), *from = numbers(n, 1.0f), *out = numbers(n, 1.0f);
        for (int t = 0; t < count; t++) {
            memcpy(out, to, (size_t)n * sizeof *out);
            tables[t]->add(out, from, n);
            for (int64_t i = 0; i < n; i++)
                assert_true(out[i] == (float)((double)to[i] + (double)from[i]));
        }
        free(to);
        free(from);
        free(out);
    }
}

// The order of the additions, against a walk down the halving tree.
static float tree_sum(float *const *leaves, int64_t i, int32_t begin, int32_t end)
{
    if (end - begin == 1)
        return leaves[begin][i];
    const int32_t middle = begin + (end - begin + 1) / 2;
    const float lower = tree_sum(leaves, i, begin, middle);
    return lower + tree_sum(leaves, i, middle, end);
}

static void test_add_tree(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t n = 16 * (1 + check_below(20));
        const int32_t ranks = 1 + (int32_t)check_below(round % 2 ? 3 : OCT_MAX_GRANULES);
        oct_tree_finish finish; // every rank holds one leaf, and publishes it
        oct_tree_schedule_finish(&finish, ranks, ranks);
        float *to = numbers(n, 1.0f), *out = numbers(n, 1.0f), *leaves[OCT_MAX_GRANULES];
        for (int32_t rank = 0; rank < ranks; rank++)
            leaves[rank] = numbers(n, 1.0f);
        for (int t = 0; t < count; t++) {
            memcpy(out, to, (size_t)n * sizeof *out);
            tables[t]->add_tree(out, (const float *const *)leaves, finish.merges, finish.nodes, n);
            for (int64_t i = 0; i < n; i++)
                assert_true(out[i] == to[i] + tree_sum(leaves, i, 0, ranks));
        }
        for (int32_t rank = 0; rank < ranks; rank++)
            free(leaves[rank]);
        free(to);
        free(out);
    }
}

// One product and one fmaf: two roundings of at most |a cos| + |b sin|.
static void test_rope(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    static const int32_t sizes[] = {2, 16, 20, 32, 64, 96, 128, 256};
    for (int round = 0; round < ROUNDS; round++) {
        int32_t dims = sizes[check_below(8)], half = dims / 2;
        oct_rope_convention convention = round % 2 ? OCT_ROPE_PAIRS : OCT_ROPE_HALVES;
        float x[260], table[256], law[260], out[260];
        for (int i = 0; i < dims + 4; i++)
            x[i] = check_normal();
        for (int i = 0; i < dims; i++)
            table[i] = check_normal();
        for (int t = 0; t < count; t++) {
            memcpy(out, x, sizeof out);
            tables[t]->rope(out, table, dims, convention);
            if (t == 0)
                memcpy(law, out, sizeof law);
            same(tables[t], "rope", law, out, (size_t)dims * sizeof *out, dims);
            assert_true(memcmp(out + dims, x + dims, 4 * sizeof *x) == 0);
        }
        for (int i = 0; i < half; i++) {
            int p = convention == OCT_ROPE_PAIRS ? 2 * i : i,
                q = convention == OCT_ROPE_PAIRS ? p + 1 : i + half;
            double a = (double)x[p], b = (double)x[q], c = (double)table[2 * i], s = (double)table[2 * i + 1];
            near("rope", p, (double)law[p], a * c - b * s, 2 * U * (fabs(a * c) + fabs(b * s)));
            near("rope", q, (double)law[q], b * c + a * s, 2 * U * (fabs(a * s) + fabs(b * c)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms_norm),   cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_round_bf16), cmocka_unit_test(test_silu_multiply),
        cmocka_unit_test(test_add),        cmocka_unit_test(test_add_tree),
        cmocka_unit_test(test_rope),
    };
    return check_finish(cmocka_run_group_tests(tests, check_begin, NULL));
}
