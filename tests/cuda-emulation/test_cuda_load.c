// Weights on their way into the CUDA backend: pieces of whole granules and parts of larger ones, by several loaders in
// turn, must stand on the device as the host's own permutation of the checkpoint's strips says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/layout.h"

enum { LOADERS = 2, CONTEXT = 64 };

static uint64_t random_state;

// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
static uint64_t random_word(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

// Shapes that end in padded tiles, with granules of several sizes.
static oct_model make_model(void)
{
    oct_model m = {.family = "llama",
                   .name = "test",
                   .layers = 1,
                   .hidden = 288,
                   .heads = 9,
                   .kv_heads = 3,
                   .head_dim = 32,
                   .ffn = 1000,
                   .vocabulary = 2500,
                   .context = CONTEXT,
                   .norm_epsilon = 1e-5f,
                   .rope_theta = 10000,
                   .rope_dims = 32};
    for (int i = 0; i < 16; i++)
        m.rope_divisors[i] = 1;
    return m;
}

static size_t granule_bytes(const oct_program_matrix *matrix, oct_encoding encoding, int32_t g)
{
    const oct_partition *partition = &matrix->spec.partition;
    if (matrix->spec.split == OCT_SPLIT_COLUMNS) {
        const oct_column_run columns = oct_program_granule_columns(matrix, g);
        return (size_t)oct_tile_count(matrix->rows) * oct_strip_bytes(encoding, columns.begin, columns.end);
    }
    int64_t rows[2];
    for (int i = 0; i < 2; i++) {
        rows[i] = (int64_t)oct_granule_unit(partition, g + i) * partition->unit_size;
        rows[i] = rows[i] < matrix->spec.rows ? rows[i] : matrix->spec.rows;
    }
    return (size_t)oct_tile_count(rows[1] - rows[0]) * oct_strip_bytes(encoding, 0, matrix->spec.columns);
}

static size_t run_bytes(const oct_program_matrix *matrix, oct_encoding encoding)
{
    size_t bytes = 0;
    for (int32_t g = matrix->granules.begin; g < matrix->granules.end; g++)
        bytes += granule_bytes(matrix, encoding, g);
    return bytes;
}

// The strips of a K range, `count` of them, from *from to *to; both go on behind them.
static void lay_out_strips(oct_encoding encoding, int64_t first, int64_t last, int64_t count, const uint8_t **from,
                           uint8_t **to)
{
    for (int64_t i = 0; i < count; i++) {
        oct_cuda_layout_strip(encoding, first, last, *from, *to);
        *from += oct_strip_bytes(encoding, first, last);
        *to += oct_strip_bytes(oct_cuda_encoding(encoding), first, last);
    }
}

static void check_matrix(const oct_cuda_backend *backend, int32_t i, const uint8_t *from)
{
    const oct_cuda_shard_matrix *matrix = &backend->matrices[i];
    const oct_program_matrix *shard = &backend->program->matrices[i];
    uint8_t *expected = malloc(matrix->bytes + 1), *found = malloc(matrix->bytes + 1), *to = expected;
    assert_non_null(expected);
    assert_non_null(found);
    const int64_t tiles = oct_tile_count(matrix->rows);
    if (shard->spec.split == OCT_SPLIT_ROWS)
        lay_out_strips(matrix->encoding, 0, shard->spec.columns, tiles, &from, &to);
    else
        for (int32_t g = shard->granules.begin; g < shard->granules.end; g++) {
            const oct_column_run columns = oct_program_granule_columns(shard, g);
            lay_out_strips(matrix->encoding, columns.begin, columns.end, tiles, &from, &to);
        }
    assert_int_equal(to - expected, matrix->bytes);
    assert_int_equal(cudaMemcpy(found, matrix->weights, matrix->bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    assert_memory_equal(expected, found, matrix->bytes);
    free(expected);
    free(found);
}

static void send(oct_backend *backend, int32_t thread, int32_t i, const uint8_t *bytes, size_t offset, size_t count)
{
    void *to = NULL;
    assert_int_equal(backend->kind->place(backend, thread, i, offset, count, &to), OCT_OK);
    memcpy(to, bytes + offset, count);
    assert_int_equal(backend->kind->accept(backend, thread, i, offset, count), OCT_OK);
}

// A matrix, as checkpoints/load.c reads it: as many granules as fit in a piece, or one in parts, by any thread.
static void load_matrix(oct_backend *backend, const oct_program_matrix *matrix, oct_encoding encoding, int32_t i,
                        const uint8_t *bytes, size_t piece_bytes)
{
    size_t offset = 0;
    for (int32_t g = matrix->granules.begin; g < matrix->granules.end;) {
        const int32_t thread = (int32_t)(random_word() % LOADERS);
        size_t count = granule_bytes(matrix, encoding, g++);
        for (; count > piece_bytes; offset += piece_bytes, count -= piece_bytes)
            send(backend, thread, i, bytes, offset, piece_bytes);
        const bool whole = count == granule_bytes(matrix, encoding, g - 1);
        while (whole && g < matrix->granules.end && count + granule_bytes(matrix, encoding, g) <= piece_bytes)
            count += granule_bytes(matrix, encoding, g++);
        send(backend, thread, i, bytes, offset, count);
        offset += count;
    }
}

static oct_status allocate(void *context, size_t bytes, oct_device_memory *memory)
{
    (void)context;
    *memory = (oct_device_memory){.bytes = bytes};
    return oct_cuda_check(cudaMalloc(&memory->own, bytes), "allocating");
}

static uint8_t *random_bytes(size_t count)
{
    uint8_t *bytes = malloc(count + 8);
    assert_non_null(bytes);
    for (size_t at = 0; at < count; at += 8) {
        const uint64_t word = random_word();
        memcpy(bytes + at, &word, 8);
    }
    return bytes;
}

static void check_load(oct_encoding encoding, int32_t ranks, int32_t rank, size_t piece_bytes)
{
    static float zeros[CONTEXT * 32 + 4096];
    const oct_model model = make_model();
    const oct_device_exchange exchange = {.ranks = ranks, .rank = rank, .allocate = allocate};
    const oct_backend_options options = {.max_columns = 4,
                                         .max_logit_columns = 4,
                                         .max_sampled_columns = 4,
                                         .context = CONTEXT,
                                         .pages = 1,
                                         .loaders = LOADERS,
                                         .piece_bytes = piece_bytes,
                                         .device_exchange = &exchange};
    oct_step_program program;
    assert_int_equal(oct_step_program_build(&program, &model, ranks, rank), OCT_OK);
    oct_encoding encodings[16];
    size_t matrix_bytes[16];
    const float *vectors[16];
    uint8_t *bytes[16];
    assert_true(program.matrix_count <= 16 && program.vector_count <= 16);
    for (int32_t i = 0; i < program.matrix_count; i++) {
        encodings[i] = encoding;
        matrix_bytes[i] = run_bytes(&program.matrices[i], encoding);
        bytes[i] = random_bytes(matrix_bytes[i]);
    }
    for (int32_t i = 0; i < program.vector_count; i++)
        vectors[i] = zeros;
    const oct_backend_kind *kind = &oct_cuda_backend_kind;
    oct_backend_offer offer;
    oct_backend *backend = NULL;
    assert_int_equal(kind->offer(0, 1, false, &offer), OCT_OK);
    assert_int_equal(kind->create(&backend, &program, encodings, matrix_bytes, vectors, zeros, NULL, &options), OCT_OK);
    for (int32_t i = 0; i < program.matrix_count; i++)
        load_matrix(backend, &program.matrices[i], encoding, i, bytes[i], piece_bytes);
    assert_int_equal(kind->finish_load(backend), OCT_OK);
    for (int32_t i = 0; i < program.matrix_count; i++) {
        check_matrix(oct_cuda_backend_of(backend), i, bytes[i]);
        free(bytes[i]);
    }
    if (ranks > 1) {
        cudaFree(oct_cuda_backend_of(backend)->nodes.own);
        cudaFree(oct_cuda_backend_of(backend)->gathered.own);
    }
    kind->destroy(backend);
    oct_step_program_free(&program);
}

static void test_pieces(void **state)
{
    (void)state;
    const oct_encoding encodings[] = {OCT_F32, OCT_BF16, OCT_Q8, OCT_Q5_1, OCT_Q2_K};
    for (size_t i = 0; i < sizeof encodings / sizeof encodings[0]; i++) {
        check_load(encodings[i], 1, 0, 1 << 18); // many granules in a piece
        check_load(encodings[i], 3, 1, 20000);
        check_load(encodings[i], 1, 0, 4096); // strips in parts
    }
}

static size_t buffer_bytes(int32_t sampled_columns, int32_t logit_columns, int32_t context)
{
    const oct_model model = make_model();
    const oct_backend_options options = {.max_columns = logit_columns,
                                         .max_logit_columns = logit_columns,
                                         .max_sampled_columns = sampled_columns,
                                         .context = context,
                                         .pages = 1,
                                         .loaders = LOADERS,
                                         .piece_bytes = 4096};
    oct_step_program program;
    size_t matrix_bytes[16] = {0};
    oct_backend_sizes sizes;
    assert_int_equal(oct_step_program_build(&program, &model, 1, 0), OCT_OK);
    oct_cuda_backend_kind.measure(&program, matrix_bytes, &options, &sizes);
    oct_step_program_free(&program);
    return sizes.buffers;
}

// What a sampled column may need more than another: all its penalties and biases, however many there are together; and
// columns that only want logits need none of them.
static void test_buffers(void **state)
{
    (void)state;
    const int32_t many = 1 << 21, context = 4000;
    const size_t rows = (size_t)make_model().vocabulary / 16 * 16 + 16;
    const size_t one = rows * sizeof(oct_cuda_penalty) + OCT_MAX_LOGIT_BIASES * sizeof(oct_logit_bias);
    const size_t without = buffer_bytes(0, many, context), all = buffer_bytes(many, many, context);
    assert_true(rows * (size_t)many > UINT32_MAX); // penalties
    assert_true(without > (size_t)many * rows * sizeof(float)); // the logits
    assert_int_equal(all - without, one * (size_t)many);
    assert_int_equal(buffer_bytes(64, many, context) - without, one * 64);
}

int main(void)
{
    const char *seed = getenv("OCT_TEST_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 0) : 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces), cmocka_unit_test(test_buffers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
