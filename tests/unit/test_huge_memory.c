// Regions in huge pages: on a huge page's border, zeroed, and really in huge pages where the system gives them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/huge_memory.h"

enum { PAGES = 8 };

static bool offered(void)
{
    char words[64] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (file == NULL)
        return false;
    const bool read = fgets(words, sizeof words, file) != NULL;
    fclose(file);
    return read && strstr(words, "[never]") == NULL;
}

// Bytes in huge pages of the mapping that holds `at`, which may have grown together with neighbours of its kind.
static uint64_t huge_bytes(const void *at)
{
    char line[512];
    unsigned long first, last, kib = 0;
    bool inside = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &first, &last) == 2)
            inside = (uintptr_t)at >= first && (uintptr_t)at < last;
        else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
            break;
    }
    fclose(file);
    return (uint64_t)kib << 10;
}

static void test_region(void **context)
{
    (void)context;
    static const size_t sizes[] = {0, 1, OCT_HUGE_PAGE_BYTES - 1, OCT_HUGE_PAGE_BYTES, 3 * OCT_HUGE_PAGE_BYTES + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *region = NULL;
        assert_int_equal(oct_huge_map(sizes[i], "a test", &region), OCT_OK);
        assert_int_equal((uintptr_t)region % OCT_HUGE_PAGE_BYTES, 0);
        for (size_t at = 0; at < sizes[i]; at += 4096)
            assert_int_equal(region[at], 0);
        if (sizes[i] > 0)
            region[sizes[i] - 1] = 1;
        oct_huge_unmap(region, sizes[i]);
    }
    uint8_t *none = NULL;
    assert_int_equal(oct_huge_map((size_t)1 << 60, "a test", &none), OCT_ERR_MACHINE);
    assert_null(none);
    oct_huge_unmap(NULL, 5);
}

static void test_pages(void **context)
{
    (void)context;
    uint8_t *region;
    if (!offered()) {
        printf("not looked at: this system has no transparent huge pages\n");
        return;
    }
    // The last page is only partly asked for and is a huge one all the same.
    const size_t bytes = PAGES * OCT_HUGE_PAGE_BYTES - 4096;
    assert_int_equal(oct_huge_map(bytes, "a test", &region), OCT_OK);
    for (size_t at = 0; at < bytes; at += 4096)
        region[at] = 1;
    const uint64_t huge = huge_bytes(region);
    printf("%.1f of %d MiB in huge pages\n", (double)huge / (1 << 20), PAGES * 2);
    assert_true(huge >= PAGES * OCT_HUGE_PAGE_BYTES);
    oct_huge_unmap(region, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_region), cmocka_unit_test(test_pages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
