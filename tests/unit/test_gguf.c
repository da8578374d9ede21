// GGUF blocks: what Octet stores decodes to the values of an independent dequantiser, bit for bit (golden
// file of tests/golden/make_gguf_blocks.py); and the container's refusals.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "checkpoints/gguf.h"
#include "checkpoints/gguf_blocks.h"
#include "checkpoints/tile.h"

#define GOLDEN "golden/blocks/blocks.gguf"

// Packs the columns [first, last) of a tile and compares what the strip decodes to.
static void check_strip(const oct_tile *tile, int64_t first, int64_t last, int rows, const float *expected,
                        int64_t columns)
{
    uint8_t *strip = malloc(oct_strip_bytes(tile->encoding, first, last));
    oct_tile_pack(tile, first, last, strip);
    float *out = malloc((size_t)columns * sizeof *out);
    for (int row = 0; row < OCT_TILE_ROWS; row++) {
        oct_strip_decode_row(tile->encoding, strip, first, last, row, out);
        for (int64_t c = first; c < last; c++)
            if (row < rows)
                assert_memory_equal(&out[c - first], &expected[row * columns + c], sizeof *out);
            else
                assert_true(out[c - first] == 0);
    }
    free(out);
    free(strip);
}

static void check_type(const oct_gguf *gguf, const oct_gguf_tensor *tensor)
{
    char name[64];
    snprintf(name, sizeof name, "%s.values", tensor->name);
    const oct_gguf_tensor *values = oct_gguf_find_tensor(gguf, name);
    int64_t columns = tensor->shape[0], rows = tensor->shape[1];
    uint8_t *data = malloc(tensor->bytes);
    float *expected = malloc(values->bytes);
    assert_int_equal(oct_gguf_read(gguf, tensor, 0, data, tensor->bytes), OCT_OK);
    assert_int_equal(oct_gguf_read(gguf, values, 0, expected, values->bytes), OCT_OK);
    oct_tile tile;
    assert_int_equal(oct_tile_make(&tile, columns), OCT_OK);
    oct_tile_reset(&tile, (oct_encoding)oct_gguf_block_describe(tensor->type)->encoding);
    for (int row = 0; row < rows; row++) {
        oct_gguf_unpack_row(tensor->type, data + (uint64_t)row * (tensor->bytes / (uint64_t)rows), columns,
                            &tile, row);
        float out[512];
        oct_tile_decode_row(&tile, row, out);
        assert_memory_equal(out, expected + row * columns, sizeof out);
    }
    static const int64_t ranges[][2] = {{0, 512}, {32, 96}, {224, 288}, {96, 512}, {448, 480}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        check_strip(&tile, ranges[i][0], ranges[i][1], (int)rows, expected, columns);
    double growth = (double)oct_strip_bytes(tile.encoding, 0, 4096) / 16 /
                    (4096.0 / oct_gguf_block_describe(tensor->type)->columns *
                     oct_gguf_block_describe(tensor->type)->bytes);
    assert_true(growth <= 1.15);
    oct_tile_free(&tile);
    free(expected);
    free(data);
}

static void test_blocks(void **context)
{
    (void)context;
    oct_gguf gguf;
    int types = 0;
    assert_int_equal(oct_gguf_open(&gguf, GOLDEN), OCT_OK);
    for (uint64_t i = 0; i < gguf.tensor_count; i++)
        if (!strchr(gguf.tensors[i].name, '.')) {
            check_type(&gguf, &gguf.tensors[i]);
            types++;
        }
    assert_int_equal(types, 14);
    oct_gguf_close(&gguf);
}

static oct_status open_bytes(const uint8_t *bytes, size_t size)
{
    char path[] = "/tmp/octet-test-gguf-XXXXXX";
    int fd = mkstemp(path);
    assert_true(write(fd, bytes, size) == (ssize_t)size);
    close(fd);
    oct_gguf gguf;
    oct_failure_clear();
    oct_status status = oct_gguf_open(&gguf, path);
    oct_gguf_close(&gguf);
    unlink(path);
    return status;
}

static void expect_refusal(const uint8_t *bytes, size_t size, const char *word)
{
    assert_int_equal(open_bytes(bytes, size), OCT_ERR_FILE);
    if (!strstr(oct_failure_text(), word))
        fail_msg("\"%s\" does not say \"%s\"", oct_failure_text(), word);
}

static void test_refusals(void **context)
{
    (void)context;
    FILE *file = fopen(GOLDEN, "rb");
    static uint8_t good[1 << 20], bad[1 << 20];
    size_t size = fread(good, 1, sizeof good, file);
    fclose(file);
    assert_int_equal(open_bytes(good, size), OCT_OK);
#define PATCH(at, value) (memcpy(bad, good, size), memcpy(bad + (at), &(value), sizeof(value)))
    uint32_t one = 1, swapped = 0x03000000, four = 4;
    uint64_t huge = UINT64_MAX / 2, many = 1 << 19;
    PATCH(0, one);
    expect_refusal(bad, size, "begin with");
    PATCH(4, one);
    expect_refusal(bad, size, "version 1");
    PATCH(4, four);
    expect_refusal(bad, size, "version 4");
    PATCH(4, swapped);
    expect_refusal(bad, size, "big-endian");
    PATCH(8, huge);
    expect_refusal(bad, size, "number of tensors");
    PATCH(16, huge);
    expect_refusal(bad, size, "number of metadata values");
    PATCH(16, many);
    assert_int_equal(open_bytes(bad, size), OCT_ERR_FILE);
    PATCH(24, huge);
    expect_refusal(bad, size, "length of a string");
    for (size_t cut = 0; cut < size; cut += size / 97 + 1)
        assert_int_equal(open_bytes(good, cut), OCT_ERR_FILE);
    assert_int_equal(open_bytes(good, size - 1), OCT_ERR_FILE);
    oct_failure_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
