// What the ranks hold adds up to the model: every granule of every matrix once, key-value heads wherever a
// query head needs them; and each rank's step program asks for exactly those bytes.
#include <mpi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/writer.h"
#include "ranks/shard.h"

// The granules of a matrix that a rank needs.
static oct_run granules_of(const oct_model *model, const oct_tensor_spec *spec, int ranks, int rank)
{
    const char *base = strrchr(spec->name, '.');
    if (!base || (strcmp(base, ".k") && strcmp(base, ".v")))
        return oct_partition_cut(spec->partition.granules, ranks, rank);
    oct_partition attention = oct_model_attention_partition(model);
    return oct_model_kv_run(model, oct_partition_units(&attention, ranks, rank));
}

// What the step program of a rank asks for.
static uint64_t planned_bytes(const oct_checkpoint *checkpoint, int ranks, int rank)
{
    oct_step_program program;
    uint64_t bytes = 0;
    assert_int_equal(oct_step_program_build(&program, oct_checkpoint_model(checkpoint), ranks, rank), OCT_OK);
    for (int32_t i = 0; i < program.matrix_count; i++) {
        const oct_tensor *tensor = oct_checkpoint_matrix(checkpoint, program.matrices[i].spec.name);
        bytes += tensor != NULL ? oct_tensor_run_bytes(tensor, program.matrices[i].granules) : 0;
    }
    oct_step_program_free(&program);
    return bytes;
}

static void check_ranks(const oct_checkpoint *checkpoint, int ranks)
{
    int32_t count;
    const oct_model *model = oct_checkpoint_model(checkpoint);
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    uint64_t expected[16] = {0};
    for (int32_t i = 0; i < count; i++) {
        const oct_tensor_spec *spec = &tensors[i].spec;
        int holders[OCT_MAX_VOCABULARY_GRANULES] = {0};
        bool shared = strstr(spec->name, ".k") || strstr(spec->name, ".v");
        for (int rank = 0; rank < ranks; rank++) {
            oct_run run = granules_of(model, spec, ranks, rank);
            expected[rank] += oct_tensor_run_bytes(&tensors[i], run);
            for (int32_t g = run.begin; g < run.end; g++)
                holders[g]++;
        }
        for (int32_t g = 0; g < spec->partition.granules; g++)
            assert_true(shared ? holders[g] >= 1 && holders[g] <= ranks : holders[g] == 1);
    }
    for (int rank = 0; rank < ranks; rank++)
        assert_int_equal(planned_bytes(checkpoint, ranks, rank), expected[rank]);
}

static void test_shards(void **context)
{
    (void)context;
    static const char *const shapes[] = {"heads-28-4", "heads-9-3", "tiny", "qwen3-tiny"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char folder[] = "/tmp/octet-test-shards-XXXXXX", path[64];
        oct_source source;
        oct_write_options options = {.encoding = -1};
        oct_checkpoint *checkpoint;
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof path, "%s/model.h5", folder);
        assert_int_equal(oct_source_open_synthetic(&source, shapes[i], 1), OCT_OK);
        assert_int_equal(oct_checkpoint_write(&source, path, &options, NULL), OCT_OK);
        oct_source_close(&source);
        assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
        for (int ranks = 1; ranks <= 10; ranks++)
            check_ranks(checkpoint, ranks);
        oct_checkpoint_close(checkpoint);
        unlink(path);
        rmdir(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shards)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
