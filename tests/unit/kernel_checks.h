// What the kernel tests share: the tables under test, a seeded generator, a checksum of all results.
//
// The seed is OCT_TEST_SEED or the time; it is printed when a test fails. With OCT_TEST_CHECKSUM=1 the
// programs end with a line `checksum …` over every result's bits: two processors must print the same for the
// same seed.
#ifndef OCT_TESTS_KERNEL_CHECKS_H
#define OCT_TESTS_KERNEL_CHECKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/cpu/kernels.h"

static uint64_t check_seed, check_state, check_sum = UINT64_C(14695981039346656037);

static inline void check_restart(uint64_t seed)
{
    check_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
static inline uint64_t check_random(void)
{
    uint64_t z = check_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline int64_t check_below(int64_t n)
{
    return (int64_t)(check_random() % (uint64_t)n);
}

// About normal with deviation 1: the sum of four uniform numbers.
static inline float check_normal(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)(check_random() >> 40) * 0x1p-24f - 0.5f;
    return sum * 1.7320508f;
}

// Every how many arguments of a sweep are taken: 1 with OCT_TEST_FULL, else OCT_TEST_STRIDE or `usual`.
static inline uint64_t check_stride(uint64_t usual)
{
    const char *text = getenv("OCT_TEST_STRIDE");
    if (getenv("OCT_TEST_FULL"))
        return 1;
    return text && atoll(text) > 0 ? (uint64_t)atoll(text) : usual;
}

// Adds results to the checksum (FNV-1a over bytes).
static inline void check_note(const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check_sum = (check_sum ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211);
}

static inline void *check_allocate(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(memory);
    return memory;
}

static inline int check_begin(void **state)
{
    (void)state;
    const char *text = getenv("OCT_TEST_SEED");
    check_seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    check_restart(check_seed);
    oct_cpu_enter_thread();
    return 0;
}

// Runs the tests of a program and says the seed where one failed.
static inline int check_finish(int failed)
{
    if (failed != 0)
        fprintf(stderr, "failed with OCT_TEST_SEED=%llu\n", (unsigned long long)check_seed);
    if (getenv("OCT_TEST_CHECKSUM"))
        printf("checksum %016llx\n", (unsigned long long)check_sum);
    return failed != 0;
}

#endif
