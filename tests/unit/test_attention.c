// Attention over pages: the scalar table against double precision with a derived bound, the other tables
// against the scalar one bit for bit, and positions that are not attended: their keys and values are NaN,
// their pages are not there.
#include "tests/unit/kernel_checks.h"

#include <math.h>

#include "tests/unit/kernel_tables.h"

#define U 0x1p-24
#define MAX_DIM 256
#define MAX_QUERIES 9
#define MAX_SPLITS 3

typedef struct attention_case {
    oct_attention splits[MAX_SPLITS];
    int32_t count;
    uint16_t *pages[MAX_SPLITS * OCT_SPLIT_PAGES]; // each [2][head_dim][64], exactly as long
    float q[MAX_QUERIES * MAX_DIM];
    float *keys, *values; // [positions][head_dim] as rounded to f16
    float *states;        // [queries][splits][2 + head_dim] as merged, made from the splits' states
} attention_case;

// A window of `positions` positions that begins at `begin` of the first split; what lies around it in its
// pages is NaN, and the pages that it does not touch are NULL.
static void make_case(attention_case *c, int32_t queries, int32_t head_dim, int32_t begin, int32_t end)
{
    memset(c, 0, sizeof *c);
    c->count = (end + OCT_SPLIT_POSITIONS - 1) / OCT_SPLIT_POSITIONS;
    size_t page_bytes = (size_t)head_dim * 2 * OCT_PAGE_POSITIONS * sizeof(uint16_t);
    for (int32_t i = 0; i < queries * head_dim; i++)
        c->q[i] = check_normal() * 2;
    for (int32_t p = begin / OCT_PAGE_POSITIONS; p * OCT_PAGE_POSITIONS < end; p++) {
        c->pages[p] = check_allocate(page_bytes);
        memset(c->pages[p], 0xff, page_bytes); // 0xffff is a NaN
    }
    c->keys = check_allocate((size_t)(end * head_dim) * sizeof *c->keys);
    c->values = check_allocate((size_t)(end * head_dim) * sizeof *c->values);
    for (int32_t p = begin; p < end; p++) {
        float *key = c->keys + p * head_dim, *value = c->values + p * head_dim;
        for (int32_t d = 0; d < head_dim; d++) {
            key[d] = check_normal();
            value[d] = check_normal();
        }
        oct_cpu_kernels_scalar()->store_key_value(c->pages[p / OCT_PAGE_POSITIONS], head_dim,
                                                  p % OCT_PAGE_POSITIONS, key, value);
        for (int32_t d = 0; d < head_dim; d++) {
            key[d] = oct_f16_to_f32(oct_f32_to_f16(key[d]));
            value[d] = oct_f16_to_f32(oct_f32_to_f16(value[d]));
        }
    }
    for (int32_t s = 0; s < c->count; s++) {
        oct_attention *a = &c->splits[s];
        int32_t origin = s * OCT_SPLIT_POSITIONS;
        *a = (oct_attention){.q = c->q, .queries = queries, .head_dim = head_dim};
        a->scale = 1.0f / sqrtf((float)head_dim);
        a->begin = begin > origin ? begin - origin : 0;
        a->end = end - origin < OCT_SPLIT_POSITIONS ? end - origin : OCT_SPLIT_POSITIONS;
        for (int i = 0; i < OCT_SPLIT_PAGES; i++)
            a->pages[i] = c->pages[s * OCT_SPLIT_PAGES + i];
    }
    c->states = check_allocate((size_t)(c->count * queries * (2 + head_dim)) * sizeof *c->states);
}

static void free_case(attention_case *c)
{
    for (int p = 0; p < MAX_SPLITS * OCT_SPLIT_PAGES; p++)
        free(c->pages[p]);
    free(c->keys);
    free(c->values);
    free(c->states);
}

// First split that has an attended position.
static int32_t first_split(const attention_case *c)
{
    int32_t s = 0;
    while (c->splits[s].begin >= c->splits[s].end)
        s++;
    return s;
}

// Runs all splits and merges them: out [queries][head_dim]. Returns the states.
static const float *run(attention_case *c, const oct_cpu_kernels *table, float *out)
{
    int32_t queries = c->splits[0].queries, head_dim = c->splits[0].head_dim, size = 2 + head_dim;
    int32_t first = first_split(c);
    memset(c->states, 0x5a, (size_t)(c->count * queries * size) * sizeof *c->states);
    for (int32_t s = first; s < c->count; s++) {
        c->splits[s].state = c->states + s * queries * size;
        table->attention_split(&c->splits[s]);
    }
    for (int32_t q = 0; q < queries; q++)
        table->attention_merge(c->states + (first * queries + q) * size, (int64_t)queries * size,
                               c->count - first, head_dim, out + q * head_dim);
    return c->states;
}

// A score's error is at most delta = (head_dim + 1) u Σ |q k| · scale (head_dim fmaf and one product; the
// scale is given). A weight exp(score − maximum): the difference rounds once (u of at most the range of
// scores), delta enters as a factor e^±2delta, exp is off by 1.9 u. The sum of weights and the weighted
// values go through at most n additions or fmaf, the merges through 2 more roundings a split and two
// exponentials of 1.9 u and differences that round; the last is a division. Numerator and denominator both:
// twice that, of Σ w |v| / Σ w.
static void check_bound(const attention_case *c, int32_t begin, int32_t end, const float *out)
{
    int32_t queries = c->splits[0].queries, head_dim = c->splits[0].head_dim;
    double scale = (double)c->splits[0].scale, *score = check_allocate((size_t)end * sizeof *score);
    for (int32_t q = 0; q < queries; q++) {
        double largest = -INFINITY, smallest = INFINITY, delta = 0, sum = 0;
        for (int32_t p = begin; p < end; p++) {
            double exact = 0, size = 0;
            for (int32_t d = 0; d < head_dim; d++) {
                double term = (double)c->q[q * head_dim + d] * (double)c->keys[p * head_dim + d];
                exact += term;
                size += fabs(term);
            }
            score[p] = exact * scale;
            largest = fmax(largest, score[p]);
            smallest = fmin(smallest, score[p]);
            delta = fmax(delta, (head_dim + 1) * U * size * scale);
        }
        for (int32_t p = begin; p < end; p++)
            sum += exp(score[p] - largest);
        double one_weight = 2 * delta + (largest - smallest + 2 * delta) * U + 2 * U;
        double merges = c->count * (2 + 4 + (largest - smallest)) * U;
        double factor = 1.01 * 2 * (one_weight + (end - begin + 1) * U + merges) + U;
        for (int32_t d = 0; d < head_dim; d++) {
            double exact = 0, size = 0;
            for (int32_t p = begin; p < end; p++) {
                double term = exp(score[p] - largest) / sum * (double)c->values[p * head_dim + d];
                exact += term;
                size += fabs(term);
            }
            double found = (double)out[q * head_dim + d];
            if (!(fabs(found - exact) <= factor * size))
                fail_msg("attention over [%d, %d) head_dim %d query %d dim %d: %.9g, expected %.9g +- %.3g",
                         begin, end, head_dim, q, d, found, exact, factor * size);
        }
    }
    free(score);
}

static void check_window(int32_t queries, int32_t head_dim, int32_t begin, int32_t end)
{
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    static attention_case c;
    static float law[MAX_QUERIES * MAX_DIM], out[MAX_QUERIES * MAX_DIM];
    make_case(&c, queries, head_dim, begin, end);
    size_t state_bytes = (size_t)(c.count * queries * (2 + head_dim)) * sizeof(float);
    size_t out_bytes = (size_t)(queries * head_dim) * sizeof(float);
    float *law_states = check_allocate(state_bytes);
    memcpy(law_states, run(&c, tables[0], law), state_bytes);
    check_note(law_states, state_bytes);
    check_note(law, out_bytes);
    check_bound(&c, begin, end, law);
    for (int t = 1; t < count; t++) {
        const float *states = run(&c, tables[t], out);
        if (memcmp(states, law_states, state_bytes) != 0 || memcmp(out, law, out_bytes) != 0)
            fail_msg("attention over [%d, %d), %d queries, head_dim %d: table %s differs from the scalar one",
                     begin, end, queries, head_dim, tables[t]->name);
    }
    free(law_states);
    free_case(&c);
}

static void test_windows_of_every_shape(void **state)
{
    (void)state;
    static const int32_t dims[] = {32, 64, 96, 128, 160, 256};
    for (int32_t queries = 1; queries <= MAX_QUERIES; queries++)
        for (int round = 0; round < 6; round++) {
            int32_t end = 1 + (int32_t)check_below(MAX_SPLITS * OCT_SPLIT_POSITIONS);
            int32_t begin = round % 2 ? (int32_t)check_below(end) : 0;
            check_window(queries, dims[round], begin, end);
        }
}

static void test_borders_of_tiles_pages_and_splits(void **state)
{
    (void)state;
    static const int32_t borders[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 512, 513};
    for (int i = 0; i < 14; i++) {
        check_window(1 + i % 4, 64, 0, borders[i]);
        check_window(3, 64, borders[i] - 1, borders[i]);
        check_window(1, 32, borders[i], borders[i] + 20);
    }
}

// A score far below the others, and equal ones.
static void test_extreme_scores(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    for (int pattern = 0; pattern < 4; pattern++) {
        static attention_case c;
        static float law[64], out[64];
        make_case(&c, 1, 64, 0, 300);
        for (int i = 0; i < 64; i++)
            c.q[i] = pattern == 0   ? 0.0f
                     : pattern == 1 ? -0.0f
                     : pattern == 2 ? 300.0f * c.q[i]
                                    : 1e-30f * c.q[i];
        run(&c, tables[0], law);
        check_note(law, sizeof law);
        for (int i = 0; i < 64; i++)
            assert_true(isfinite(law[i]));
        for (int t = 1; t < count; t++) {
            run(&c, tables[t], out);
            assert_true(memcmp(law, out, sizeof law) == 0);
        }
        free_case(&c);
    }
}

static void test_store_key_value(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int count = kernel_tables(tables);
    static const float specials[] = {0.0f,    -0.0f,    65504.0f,   65519.9f,    65520.0f,
                                     -1e30f,  INFINITY, 1e-45f,     5.96e-8f,    2.98e-8f,
                                     2.9e-8f, 6.1e-5f,  -6.104e-5f, 1.00048828f, 1.00146484f};
    for (int32_t head_dim = 32; head_dim <= 96; head_dim += 32) {
        size_t halves = (size_t)head_dim * 2 * OCT_PAGE_POSITIONS;
        uint16_t *law = check_allocate(halves * 2), *page = check_allocate(halves * 2);
        memset(law, 0xff, halves * 2);
        float key[96], value[96];
        for (int32_t d = 0; d < head_dim; d++) {
            key[d] = d < 15 ? specials[d] : check_normal();
            value[d] = d < 15 ? specials[14 - d] : check_normal() * 1e-6f;
        }
        int32_t position = (int32_t)check_below(64);
        for (int32_t d = 0; d < head_dim; d++) {
            law[d * 64 + position] = oct_f32_to_f16(key[d]);
            law[head_dim * 64 + position * head_dim + d] = oct_f32_to_f16(value[d]);
        }
        check_note(law, halves * 2);
        for (int t = 0; t < count; t++) {
            memset(page, 0xff, halves * 2);
            tables[t]->store_key_value(page, head_dim, position, key, value);
            if (memcmp(law, page, halves * 2) != 0)
                fail_msg("store_key_value, head_dim %d, position %d: table %s differs", head_dim, position,
                         tables[t]->name);
        }
        free(law);
        free(page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_of_every_shape),
        cmocka_unit_test(test_borders_of_tiles_pages_and_splits),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_store_key_value),
    };
    return check_finish(cmocka_run_group_tests(tests, check_begin, NULL));
}
