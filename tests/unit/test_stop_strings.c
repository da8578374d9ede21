// Stop strings: random texts over a small alphabet, cut into random pieces, against a search from scratch.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/stop_strings.h"

static uint32_t random_state = 12345;

static size_t random_below(size_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

// Which stop is complete first, in the first `end` bytes; the longest of those that end there.
static int32_t search(const char *text, size_t end, const char *const *stops, size_t count, size_t *begin)
{
    for (size_t e = 1; e <= end; e++) {
        int32_t hit = -1;
        for (size_t i = 0; i < count; i++) {
            size_t length = strlen(stops[i]);
            if (length <= e && memcmp(text + e - length, stops[i], length) == 0 &&
                (hit < 0 || length > strlen(stops[hit])))
                hit = (int32_t)i;
        }
        if (hit >= 0) {
            *begin = e - strlen(stops[hit]);
            return hit;
        }
    }
    return -1;
}

// Bytes at the end of text [end] that begin some stop.
static size_t held_back(const char *text, size_t end, const char *const *stops, size_t count)
{
    size_t held = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t n = 1; n <= strlen(stops[i]) && n <= end; n++)
            if (memcmp(text + end - n, stops[i], n) == 0 && n > held)
                held = n;
    return held;
}

static void equals_a_search_from_scratch(void **state)
{
    (void)state;
    int hits = 0;
    for (int round = 0; round < 20000; round++) {
        char text[64], stop_bytes[4][8];
        const char *stops[4];
        size_t count = random_below(5), letters = 2 + random_below(3);
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)('a' + random_below(letters));
        for (size_t i = 0; i < count; i++) {
            size_t length = 1 + random_below(7);
            for (size_t j = 0; j < length; j++)
                stop_bytes[i][j] = (char)('a' + random_below(letters));
            stop_bytes[i][length] = '\0';
            stops[i] = stop_bytes[i];
        }
        oct_stop_matcher *matcher;
        assert_int_equal(oct_stop_matcher_create(&matcher, stops, count), OCT_OK);
        size_t fed = 0, safe = 0, begin = 0;
        while (fed < sizeof text) {
            size_t n = random_below(6);
            n = n > sizeof text - fed ? sizeof text - fed : n;
            safe = oct_stop_matcher_feed(matcher, text + fed, n);
            fed += n;
            int32_t hit = search(text, fed, stops, count, &begin);
            assert_int_equal(oct_stop_matcher_hit(matcher), hit);
            assert_int_equal(safe, hit >= 0 ? begin : fed - held_back(text, fed, stops, count));
            assert_int_equal(oct_stop_matcher_finish(matcher), hit >= 0 ? begin : fed);
        }
        hits += oct_stop_matcher_hit(matcher) >= 0;
        oct_stop_matcher_destroy(matcher);
    }
    assert_true(hits > 5000 && hits < 19000);
}

static void examples(void **state)
{
    (void)state;
    const char *stops[] = {"<|end|>", "\n\n"};
    oct_stop_matcher *matcher;
    assert_int_equal(oct_stop_matcher_create(&matcher, stops, 2), OCT_OK);
    assert_int_equal(oct_stop_matcher_feed(matcher, "Yes <|", 6), 4);
    assert_int_equal(oct_stop_matcher_feed(matcher, "en", 2), 4);
    assert_int_equal(oct_stop_matcher_feed(matcher, "t\n", 2), 9);
    assert_int_equal(oct_stop_matcher_feed(matcher, "x<|end|>\n\n", 10), 11);
    assert_int_equal(oct_stop_matcher_hit(matcher), 0);
    assert_int_equal(oct_stop_matcher_feed(matcher, "more", 4), 11);
    oct_stop_matcher_destroy(matcher);
    const char *empty[] = {"a", ""};
    assert_int_equal(oct_stop_matcher_create(&matcher, empty, 2), OCT_ERR_USAGE);
    oct_failure_clear();
    oct_stop_matcher_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_search_from_scratch),
        cmocka_unit_test(examples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
