// Suffix indexes beyond what test_drafter_suffix.c sees of them: position numbers that go around, and places that are
// far away.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/suffix_index.h"

static uint32_t random_state = 7;

static int32_t random_below(int32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int32_t)((random_state >> 8) % (uint32_t)n);
}

static void fill(int32_t *tokens, int32_t count, int32_t alphabet)
{
    for (int32_t i = 0; i < count; i++)
        tokens[i] = random_below(alphabet);
}

// How many tokens in front of the places `end` of a text and `context_end` of another agree, up to the most that
// counts.
static int32_t agreement(const int32_t *text, int32_t end, const int32_t *context, int32_t context_end)
{
    int32_t length = 0;
    while (length < OCT_SUFFIX_MATCH && length < end && length < context_end &&
           text[end - 1 - length] == context[context_end - 1 - length])
        length++;
    return length;
}

// Positions are numbers of 32 bits that go around after `left` tokens.
static void check_around(uint32_t left)
{
    enum { LENGTH = 600 };
    oct_suffix_index index;
    assert_int_equal(oct_suffix_index_create(&index, 256), OCT_OK);
    index.end = UINT32_MAX - left;
    int32_t text[LENGTH], context[OCT_SUFFIX_MATCH];
    oct_suffix_matches matches;
    fill(text, LENGTH, 4);
    for (int32_t count = 1; count <= LENGTH; count++) {
        oct_suffix_index_append(&index, text + count - 1, 1);
        oct_suffix_index_chain(&index, 1);
        const int32_t held = count < 256 ? count : 256;
        for (int32_t i = 0; i < OCT_SUFFIX_MATCH && i < held; i++)
            context[i] = text[count - 1 - i];
        oct_suffix_index_find(&index, context, held, &matches);
        int32_t longest = 0, places = 0, chained = 1, seen = 0, length;
        for (int32_t place = 1; place < held; place++) {
            length = agreement(text + count - held, place, text + count - held, held);
            longest = length > longest ? length : longest;
        }
        while (chained * 2 <= longest)
            chained *= 2;
        for (int32_t place = held - 1; place >= 1; place--) {
            length = agreement(text + count - held, place, text + count - held, held);
            if (longest > 0 && length >= chained && seen++ < OCT_SUFFIX_LINKS && length == longest)
                assert_int_equal(matches.positions[places++], index.end - (uint32_t)held + (uint32_t)place - 1);
        }
        assert_int_equal(matches.count, places);
        assert_int_equal(matches.length, places > 0 ? longest : 0);
    }
    assert_true(index.end < LENGTH);
    oct_suffix_index_destroy(&index);
}

static void an_index_outlives_its_numbers(void **state)
{
    (void)state;
    for (uint32_t left = 0; left < 300; left++)
        check_around(left);
}

// A table of which every row has the same 8 tokens in its middle: the old row that agrees longer is found behind more
// places than are looked at.
static void a_far_place_that_agrees_longer_is_found(void **state)
{
    (void)state;
    enum { ROWS = 3 * OCT_SUFFIX_LINKS, KEY = 8, COMMON = 8, ROW = KEY + COMMON + 1 };
    oct_suffix_index index;
    oct_suffix_matches matches;
    // So roomy that no other context shares a hash and takes up one of the links.
    assert_int_equal(oct_suffix_index_create(&index, 1 << 16), OCT_OK);
    int32_t row[ROW], context[KEY + COMMON];
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t i = 0; i < ROW; i++)
            row[i] = i < KEY || i == ROW - 1 ? 100 + r * ROW + i : i;
        oct_suffix_index_append(&index, row, ROW);
        oct_suffix_index_chain(&index, ROW);
    }
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t i = 0; i < KEY + COMMON; i++)
            context[KEY + COMMON - 1 - i] = i < KEY ? 100 + r * ROW + i : i;
        oct_suffix_index_find(&index, context, KEY + COMMON, &matches);
        assert_int_equal(matches.length, KEY + COMMON);
        assert_int_equal(matches.count, 1);
        assert_int_equal(oct_suffix_index_token(&index, matches.positions[0] + 1), 100 + r * ROW + ROW - 1);
        // Without the key: the rows that are looked at, newest first.
        oct_suffix_index_find(&index, context, COMMON, &matches);
        assert_int_equal(matches.length, COMMON);
        assert_int_equal(matches.count, OCT_SUFFIX_LINKS);
        for (int32_t i = 0; i < matches.count; i++)
            assert_int_equal(matches.positions[i], index.end - 2 - (uint32_t)(i * ROW));
    }
    oct_suffix_index_destroy(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_outlives_its_numbers),
        cmocka_unit_test(a_far_place_that_agrees_longer_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
