// Fault injection: what OCTET_FAULT means, and that a malformed value is refused.
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/fault.h"

#ifdef OCTET_FAULTS

static oct_status configure(const char *value)
{
    setenv("OCTET_FAULT", value, 1);
    oct_failure_clear();
    return oct_fault_configure(1);
}

static void malformed_values_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"1",
                                      "1:decode:1",
                                      "1:decode:0:kill",
                                      "-1:decode:1:kill",
                                      "1:idle:1:kill",
                                      "1:decode:1:burn",
                                      "1:decode:1:kill:",
                                      "1:decode:x:kill",
                                      "x:decode:1:kill",
                                      " :::",
                                      "1:decode:1:killx",
                                      "::::"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(configure(bad[i]), OCT_ERR_USAGE);
    assert_int_equal(configure(""), OCT_OK);
    assert_int_equal(configure("0:finish:12:slow"), OCT_OK);
}

static void error_comes_at_its_point_only(void **state)
{
    (void)state;
    assert_int_equal(configure("1:load:3:error"), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_LOAD), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_OPEN), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_LOAD), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_LOAD), OCT_ERR_FILE);
    assert_int_equal(oct_fault_point(OCT_PHASE_LOAD), OCT_OK);
    assert_int_equal(configure("0:load:1:error"), OCT_OK); // another rank's
    assert_int_equal(oct_fault_point(OCT_PHASE_LOAD), OCT_OK);
    assert_int_equal(configure("1:decode:1:error"), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_DECODE), OCT_ERR_MACHINE);
}

static void syncs_are_points_of_their_own(void **state)
{
    (void)state;
    assert_int_equal(configure("1:sync:2:error"), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_FINISH), OCT_OK);
    assert_int_equal(oct_fault_sync(), 0);
    assert_int_equal(oct_fault_sync(), EIO);
    assert_int_equal(oct_fault_sync(), 0);
    assert_int_equal(configure("1:finish:1:error"), OCT_OK);
    assert_int_equal(oct_fault_sync(), 0);
}

static int death_of(const char *value)
{
    pid_t child = fork();
    if (child == 0) {
        configure(value);
        oct_fault_point(OCT_PHASE_DECODE);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (!WIFSTOPPED(status))
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return SIGSTOP;
}

static void signals_strike(void **state)
{
    (void)state;
    assert_int_equal(death_of("1:decode:1:kill"), SIGKILL);
    assert_int_equal(death_of("1:decode:1:segv"), SIGSEGV);
    assert_int_equal(death_of("1:decode:1:stop"), SIGSTOP);
    assert_int_equal(death_of("2:decode:1:kill"), 0);
}

static void slow_is_slow(void **state)
{
    (void)state;
    configure("1:decode:2:slow");
    int64_t began = oct_now_ns();
    oct_fault_point(OCT_PHASE_DECODE);
    assert_true(oct_now_ns() - began < 50000000);
    oct_fault_point(OCT_PHASE_DECODE);
    oct_fault_point(OCT_PHASE_DECODE);
    assert_true(oct_now_ns() - began >= 100000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_values_are_refused),
        cmocka_unit_test(error_comes_at_its_point_only),
        cmocka_unit_test(syncs_are_points_of_their_own),
        cmocka_unit_test(signals_strike),
        cmocka_unit_test(slow_is_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void costs_nothing(void **state)
{
    (void)state;
    setenv("OCTET_FAULT", "nonsense", 1);
    assert_int_equal(oct_fault_configure(0), OCT_OK);
    assert_int_equal(oct_fault_point(OCT_PHASE_INIT), OCT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(costs_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
