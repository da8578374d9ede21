// The model description: checks, JSON there and back, tensors and partitions.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/model.h"

static oct_model smollm2(void)
{
    oct_model m;
    memset(&m, 0, sizeof m);
    strcpy(m.family, "llama");
    strcpy(m.name, "SmolLM2");
    m.layers = 30;
    m.hidden = 576;
    m.heads = 9;
    m.kv_heads = 3;
    m.head_dim = m.rope_dims = 64;
    m.ffn = 1536;
    m.vocabulary = 49152;
    m.context = 8192;
    m.norm_epsilon = 1e-5f;
    m.rope_theta = 100000;
    m.tied = true;
    for (int i = 0; i < 32; i++)
        m.rope_divisors[i] = 1;
    return m;
}

static void test_round_trip(void **context)
{
    (void)context;
    for (int variant = 0; variant < 4; variant++) {
        oct_model m = smollm2(), back;
        m.tied = variant & 1;
        m.qkv_bias = variant & 2;
        m.qk_norm = variant == 3;
        m.rope_convention = variant & 1 ? OCT_ROPE_HALVES : OCT_ROPE_PAIRS;
        for (int i = 0; variant > 1 && i < 32; i++)
            m.rope_divisors[i] = 1 + (float)i / 3;
        char *text = oct_model_to_json(&m);
        assert_int_equal(oct_model_from_json(text, &back), OCT_OK);
        assert_memory_equal(&m, &back, sizeof m);
        free(text);
    }
}

static void expect_failure(const oct_model *m, const char *word)
{
    oct_failure_clear();
    assert_int_equal(oct_model_check(m), OCT_ERR_FILE);
    assert_non_null(strstr(oct_failure_text(), word));
    oct_failure_clear();
}

static void test_checks(void **context)
{
    (void)context;
    oct_model good = smollm2(), m;
    assert_int_equal(oct_model_check(&good), OCT_OK);
#define BAD(field, value) (m = good, m.field = (value), expect_failure(&m, #field))
    BAD(layers, 0);
    BAD(hidden, 577);
    BAD(hidden, -32);
    BAD(heads, 0);
    BAD(kv_heads, 2);
    BAD(head_dim, 48);
    BAD(head_dim, 1024);
    BAD(ffn, 0);
    BAD(vocabulary, 1 << 30);
    BAD(context, -1);
    BAD(norm_epsilon, NAN);
    BAD(norm_epsilon, 0);
    BAD(rope_theta, INFINITY);
    BAD(rope_dims, 63);
    BAD(rope_dims, 96);
    BAD(rope_divisors[31], 0);
    m = good;
    m.family[0] = '\0';
    expect_failure(&m, "family");
}

static void test_bad_json(void **context)
{
    (void)context;
    oct_model good = smollm2(), untouched = good;
    char *text = oct_model_to_json(&good);
    static const char *const names[] = {
        "family",       "layers",     "hidden",          "ffn",      "tied", "qk_norm",
        "norm_epsilon", "rope_theta", "rope_convention", "rope_dims"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) { // a misspelled field is a missing one
        char *copy = strdup(text);
        char quoted[40] = "\"";
        strcat(strcat(quoted, names[i]), "\"");
        strstr(copy, quoted)[1] = '_';
        oct_failure_clear();
        assert_int_equal(oct_model_from_json(copy, &untouched), OCT_ERR_FILE);
        assert_non_null(strstr(oct_failure_text(), names[i]));
        free(copy);
    }
    for (size_t length = 0; length < strlen(text); length += 7) { // truncation
        char *copy = strndup(text, length);
        assert_int_equal(oct_model_from_json(copy, &untouched), OCT_ERR_FILE);
        free(copy);
    }
    assert_memory_equal(&good, &untouched, sizeof good);
    oct_failure_clear();
    free(text);
}

static void test_tensors(void **context)
{
    (void)context;
    oct_model m = smollm2();
    int32_t count;
    oct_tensor_spec *specs = oct_model_tensors(&m, &count);
    assert_int_equal(count, 30 * 9 + 2);
    assert_string_equal(specs[0].name, "embedding");
    assert_int_equal(specs[0].partition.units, 3072);
    assert_int_equal(specs[0].partition.granules, 128);
    assert_string_equal(specs[1].name, "layers.0.attention_norm");
    assert_string_equal(specs[count - 1].name, "output_norm");
    assert_string_equal(specs[count - 2].name, "layers.29.down");
    assert_int_equal(specs[count - 2].split, OCT_SPLIT_COLUMNS);
    assert_int_equal(specs[count - 2].partition.granules, 48);
    int64_t weights = 0;
    for (int32_t i = 0; i < count; i++) {
        weights += specs[i].rows * specs[i].columns;
        const oct_partition *p = &specs[i].partition;
        int64_t cut = specs[i].split == OCT_SPLIT_ROWS ? specs[i].rows : specs[i].columns;
        if (specs[i].split != OCT_SPLIT_NONE)
            assert_true((int64_t)p->units * p->unit_size >= cut &&
                        (int64_t)(p->units - 1) * p->unit_size < cut);
    }
    assert_int_equal(weights, 134515008); // the published parameter count of SmolLM2-135M
    free(specs);
    m.tied = false;
    m.qkv_bias = m.qk_norm = true;
    specs = oct_model_tensors(&m, &count);
    assert_int_equal(count, 30 * 14 + 3);
    assert_string_equal(specs[count - 1].name, "head");
    free(specs);
}

static void test_kv_runs(void **context)
{
    (void)context;
    oct_model m = smollm2();
    oct_run run = oct_model_kv_run(&m, (oct_run){0, 5}); // heads 3 and 4 share the second
    assert_int_equal(run.begin, 0);
    assert_int_equal(run.end, 2);
    run = oct_model_kv_run(&m, (oct_run){5, 9});
    assert_int_equal(run.begin, 1);
    assert_int_equal(run.end, 3);
    run = oct_model_kv_run(&m, (oct_run){4, 4});
    assert_int_equal(run.begin, run.end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_checks),
                                       cmocka_unit_test(test_bad_json), cmocka_unit_test(test_tensors),
                                       cmocka_unit_test(test_kv_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
