// The read probe reads every byte, and percentiles by nearest rank.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/bandwidth.h"

static void touches_every_byte_once(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < 9000; bytes += bytes < 700 ? 1 : 97) {
        char *data = malloc(bytes + 9); // on the heap, so that sanitizers see a read behind it
        size_t offset = bytes % 9;
        for (size_t i = 0; i < bytes + offset; i++)
            data[i] = (char)(i * 37 + bytes);
        uint64_t expected = 0;
        for (size_t i = 0; i < bytes; i += 8) {
            uint64_t word = 0;
            memcpy(&word, data + offset + i, bytes - i < 8 ? bytes - i : 8);
            expected ^= word;
        }
        char *exact = malloc(bytes + offset);
        if (bytes + offset > 0)
            memcpy(exact, data, bytes + offset);
        for (int32_t streams = 1; streams <= OCT_READ_STREAMS; streams++)
            assert_true(oct_read_touch(exact + offset, bytes, streams) == expected);
        free(exact);
        free(data);
    }
}

static void percentiles_by_nearest_rank(void **state)
{
    (void)state;
    double values[] = {5, 1, 4, 2, 3};
    assert_true(oct_percentile(values, 5, 50) == 3);
    assert_true(oct_percentile(values, 5, 99) == 5);
    assert_true(oct_percentile(values, 5, 0) == 1);
    assert_true(oct_percentile(values, 5, 100) == 5);
    assert_true(oct_percentile(values, 4, 50) == 2);
    assert_true(oct_percentile(values, 1, 50) == 1);
    assert_true(oct_percentile(NULL, 0, 50) == 0);
    double many[200];
    for (int i = 0; i < 200; i++)
        many[i] = 200 - i;
    assert_true(oct_percentile(many, 200, 99) == 198);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(touches_every_byte_once),
        cmocka_unit_test(percentiles_by_nearest_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
