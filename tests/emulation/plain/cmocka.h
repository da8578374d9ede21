// A stand-in for the parts of cmocka that the kernel tests use, for processors that it is not installed for
// (tests/integration/check-aarch64): the first failed assertion ends the program.
#ifndef OCT_PLAIN_CMOCKA_H
#define OCT_PLAIN_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
};

#define cmocka_unit_test(function)                                                                           \
    {                                                                                                        \
#function, function                                                                                  \
    }
#define fail_msg(...)                                                                                        \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr),      \
     exit(1))
#define assert_true(condition)                                                                               \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fail_msg("%s", #condition);                                                                      \
    } while (0)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define print_message(...) printf(__VA_ARGS__)
#define skip() return

#define cmocka_run_group_tests(tests, begin, end) plain_run(tests, sizeof(tests) / sizeof *(tests), begin)

static inline int plain_run(const struct CMUnitTest *tests, size_t n, int (*begin)(void **state))
{
    void *state = NULL;
    if (begin != NULL && begin(&state) != 0)
        return 1;
    for (size_t i = 0; i < n; i++) {
        printf("%s\n", tests[i].name);
        tests[i].test(&state);
    }
    return 0;
}

#endif
