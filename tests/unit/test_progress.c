// The progress page: what is stored is seen, from another process too.
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/progress.h"

static void phases_have_names(void **state)
{
    (void)state;
    for (int phase = 0; phase < OCT_PHASE_COUNT; phase++)
        assert_int_equal(oct_phase_parse(oct_phase_name(phase)), phase);
    assert_int_equal(oct_phase_parse("nowhere"), -1);
    assert_string_equal(oct_phase_name(-1), "unknown");
    assert_string_equal(oct_phase_name(OCT_PHASE_COUNT), "unknown");
}

static void page_outlives_its_writer(void **state)
{
    (void)state;
    oct_progress *before = oct_progress_page;
    assert_non_null(before);
    assert_true(oct_progress_share());
    assert_ptr_not_equal(oct_progress_page, before);
    pid_t child = fork();
    if (child == 0) {
        oct_progress_identify(3, 8, "a-host");
        oct_progress_phase(OCT_PHASE_DECODE);
        oct_progress_step(41);
        oct_progress_wait_begin(2);
        oct_progress_goodbye(75);
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    const oct_progress *page = oct_progress_page;
    assert_int_equal(page->rank, 3);
    assert_int_equal(page->size, 8);
    assert_string_equal(page->host, "a-host");
    assert_int_equal(page->phase, OCT_PHASE_DECODE);
    assert_int_equal(page->step, 41);
    assert_int_equal(page->count, 2);
    assert_int_equal(page->waiting, 1);
    assert_int_equal(page->waiting_for, 2);
    assert_int_equal(page->goodbye, 76);
    oct_progress_wait_end();
    assert_int_equal(page->waiting, 0);
    assert_int_equal(page->count, 3);
}

static void long_host_name_is_cut(void **state)
{
    (void)state;
    char name[300];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    oct_progress_identify(0, 1, name);
    assert_int_equal(strlen(oct_progress_page->host), OCT_HOST_NAME_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_have_names),
        cmocka_unit_test(page_outlives_its_writer),
        cmocka_unit_test(long_host_name_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
