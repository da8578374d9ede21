// Page tables: after any calls each page has one owner or is free, and nobody's pages move.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/page_table.h"

enum { PAGES = 40, SLOTS = 5, SLOT_POSITIONS = 1000, SLOT_PAGES = 16 };

static uint32_t random_state = 7;

static int32_t random_below(int32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int32_t)((random_state >> 8) % (uint32_t)n);
}

static void check_owners(const oct_page_table *table)
{
    int owners[PAGES] = {0};
    for (int32_t i = 0; i < table->free_count; i++)
        owners[table->free_pages[i]]++;
    for (int32_t slot = 0; slot < SLOTS; slot++)
        for (int32_t i = 0; i < SLOT_PAGES; i++) {
            int32_t page = oct_page_table_slot(table, slot)[i];
            assert_true((page >= 0) == (i < oct_page_count(table->positions[slot])));
            if (page >= 0)
                owners[page]++;
        }
    for (int page = 0; page < PAGES; page++)
        assert_int_equal(owners[page], 1);
}

static void every_page_has_one_owner(void **state)
{
    (void)state;
    oct_page_table table;
    assert_int_equal(oct_page_table_create(&table, PAGES, SLOTS, SLOT_POSITIONS), OCT_OK);
    assert_int_equal(table.slot_pages, SLOT_PAGES);
    int full = 0, too_long = 0, given = 0;
    for (int round = 0; round < 20000; round++) {
        int32_t slot = random_below(SLOTS), before[SLOT_PAGES], positions = table.positions[slot];
        memcpy(before, oct_page_table_slot(&table, slot), sizeof before);
        int32_t wanted = random_below(1100), kept = wanted < positions ? wanted : positions,
                had = table.free_count;
        if (random_below(3) == 0) {
            oct_page_table_truncate(&table, slot, wanted);
            assert_int_equal(table.positions[slot], kept);
        } else {
            oct_failure_clear();
            oct_status status = oct_page_table_reserve(&table, slot, wanted);
            int32_t missing = oct_page_count(wanted) - oct_page_count(positions);
            oct_status expected = wanted <= positions                        ? OCT_OK
                                  : wanted > SLOT_PAGES * OCT_PAGE_POSITIONS ? OCT_ERR_USAGE
                                  : missing > had                            ? OCT_ERR_MACHINE
                                                                             : OCT_OK;
            assert_int_equal(status, expected);
            assert_int_equal(table.positions[slot], status || wanted < positions ? positions : wanted);
            kept = positions;
            too_long += status == OCT_ERR_USAGE;
            full += status == OCT_ERR_MACHINE;
            given += status == OCT_OK;
        }
        assert_memory_equal(before, oct_page_table_slot(&table, slot),
                            sizeof(int32_t) * (size_t)oct_page_count(kept));
        check_owners(&table);
    }
    assert_true(full > 100 && too_long > 100 && given > 1000);
    for (int32_t slot = 0; slot < SLOTS; slot++)
        oct_page_table_truncate(&table, slot, 0);
    assert_int_equal(table.free_count, PAGES);
    oct_failure_clear();
    oct_page_table_destroy(&table);
}

static void pages_come_in_order(void **state)
{
    (void)state;
    oct_page_table table;
    assert_int_equal(oct_page_table_create(&table, 4, 2, 256), OCT_OK);
    assert_int_equal(oct_page_table_reserve(&table, 1, 65), OCT_OK);
    assert_int_equal(oct_page_table_slot(&table, 1)[0], 0);
    assert_int_equal(oct_page_table_slot(&table, 1)[1], 1);
    assert_int_equal(oct_page_table_slot(&table, 1)[2], -1);
    oct_page_table_truncate(&table, 1, 64);
    assert_int_equal(table.free_count, 3);
    oct_page_table_destroy(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_has_one_owner),
        cmocka_unit_test(pages_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
