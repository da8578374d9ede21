// Step programs: which part of a model each rank holds, for every number of ranks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/step_program.h"

static oct_model make_model(const char *family, int32_t heads, int32_t kv_heads, int32_t ffn)
{
    oct_model m;
    memset(&m, 0, sizeof m);
    strcpy(m.family, family);
    strcpy(m.name, "test");
    m.layers = 2;
    m.heads = heads;
    m.kv_heads = kv_heads;
    m.head_dim = m.rope_dims = 32;
    m.hidden = heads * 32;
    m.ffn = ffn;
    m.vocabulary = 1000;
    m.context = 512;
    m.norm_epsilon = 1e-5f;
    m.rope_theta = 10000;
    m.qkv_bias = strcmp(family, "qwen2") == 0;
    for (int i = 0; i < 16; i++)
        m.rope_divisors[i] = 1;
    return m;
}

static void follows(oct_run *before, oct_run run)
{
    assert_int_equal(run.begin, before->end);
    assert_true(run.end >= run.begin);
    *before = run;
}

// Every unit of everything has one owner; key-value heads are where the query heads that use them are.
static void check_shards(const oct_model *model, int32_t ranks)
{
    const int32_t group = model->heads / model->kv_heads;
    oct_run heads = {0, 0}, ffn = {0, 0}, tiles = {0, 0}, granules[64];
    memset(granules, 0, sizeof granules);
    for (int32_t rank = 0; rank < ranks; rank++) {
        oct_step_program program;
        assert_int_equal(oct_step_program_build(&program, model, ranks, rank), OCT_OK);
        follows(&heads, program.heads);
        follows(&ffn, program.ffn_units);
        follows(&tiles, program.vocabulary_tiles);
        if (heads.end > heads.begin) {
            assert_int_equal(program.kv_heads.begin, heads.begin / group);
            assert_int_equal(program.kv_heads.end, (heads.end - 1) / group + 1);
        }
        assert_true(program.matrix_count <= 64);
        for (int32_t i = 0; i < program.matrix_count; i++) {
            const oct_program_matrix *matrix = &program.matrices[i];
            const size_t length = strlen(matrix->spec.name);
            if (strcmp(matrix->spec.name + length - 2, ".k") != 0 &&
                strcmp(matrix->spec.name + length - 2, ".v") != 0)
                follows(&granules[i], matrix->granules);
            if (rank == ranks - 1 && granules[i].end > 0)
                assert_int_equal(granules[i].end, matrix->spec.partition.granules);
        }
        oct_step_program_free(&program);
    }
    assert_int_equal(heads.end, model->heads);
    assert_int_equal(ffn.end, model->ffn / 32);
    assert_int_equal(tiles.end, (model->vocabulary + 15) / 16);
}

static void test_shards_add_up(void **context)
{
    (void)context;
    const oct_model models[] = {make_model("llama", 9, 3, 416), make_model("qwen2", 28, 4, 1184)};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        for (int32_t ranks = 1; ranks <= OCT_MAX_RANKS; ranks++)
            check_shards(&models[i], ranks);
}

static void test_too_many_ranks(void **context)
{
    (void)context;
    const oct_model model = make_model("llama", 9, 3, 416);
    oct_step_program program;
    oct_failure_clear();
    assert_int_equal(oct_step_program_build(&program, &model, OCT_MAX_RANKS + 1, 0), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "65 ranks for one model: at most 64"));
    oct_failure_clear();
    assert_int_equal(oct_step_program_build(&program, &model, OCT_MAX_RANKS, OCT_MAX_RANKS - 1), OCT_OK);
    oct_step_program_free(&program);
}

static void test_unknown_family(void **context)
{
    (void)context;
    const oct_model model = make_model("mamba", 9, 3, 416);
    oct_step_program program;
    oct_failure_clear();
    assert_int_equal(oct_step_program_build(&program, &model, 1, 0), OCT_ERR_FILE);
    assert_non_null(strstr(oct_failure_text(), "mamba"));
    oct_failure_clear();
}

static void test_vectors(void **context)
{
    (void)context;
    const oct_model model = make_model("qwen2", 28, 4, 1184);
    oct_step_program program;
    assert_int_equal(oct_step_program_build(&program, &model, 3, 1), OCT_OK);
    assert_true(program.vector_count > 0);
    for (int32_t i = 0; i < program.vector_count; i++) {
        const char *name = program.vectors[i].name;
        const int64_t size =
            strstr(name, "k_bias") != NULL || strstr(name, "v_bias") != NULL ? 4 * 32 : 28 * 32;
        assert_int_equal(program.vectors[i].size, size);
    }
    oct_step_program_free(&program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shards_add_up),
                                       cmocka_unit_test(test_too_many_ranks),
                                       cmocka_unit_test(test_unknown_family), cmocka_unit_test(test_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
