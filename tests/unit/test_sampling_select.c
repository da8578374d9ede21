// The kernels' select() and maximum() say the same as the law of sampling, bit for bit, with each instruction
// set that this processor has.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/kernels.h"
#include "runtime/sampling.h"

enum { N = 2100 };

static uint32_t random_state = 3;

static uint32_t random_word(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return random_state >> 8;
}

static void compare(const oct_cpu_kernels *kernels)
{
    if (!kernels) {
        print_message("skipped: an instruction set that this build or processor lacks\n");
        return;
    }
    static float logits[N];
    oct_cpu_enter_thread();
    for (int round = 0; round < 600; round++) {
        int32_t first = (int32_t)(random_word() % 200000),
                n = 1 + (int32_t)(random_word() % (round % 2 ? N : 70));
        uint64_t position = random_word() | (uint64_t)(random_word() % 3) << 32;
        for (int32_t i = 0; i < n; i++) {
            logits[i] = ((float)random_word() * 0x1p-24f - 0.5f) * (round % 5 == 0 ? 0.5f : 20);
            if (round % 3 == 0)
                logits[i] = rintf(logits[i]);
            if (round % 7 == 0 && random_word() % 4 == 0)
                logits[i] = random_word() % 2 ? -INFINITY : NAN;
        }
        oct_sampling s = oct_sampling_default();
        s.temperature = round % 4 == 0 ? 0 : 0.2f + 0.25f * (float)(round % 11);
        s.seed = (uint64_t)random_word() << 40 | random_word();
        oct_best best = oct_sampling_best(&s, position, logits, first, n);
        float score;
        int32_t index = kernels->select(logits, n, oct_sampling_inverse_temperature(&s),
                                        !oct_sampling_is_greedy(&s), s.seed, position, first, &score);
        assert_int_equal(first + index, best.token);
        assert_true(score == best.score);
        if (round % 7 != 0)
            assert_true(kernels->maximum(logits, n) == oct_sampling_maximum(logits, n));
    }
}

static void scalar_select(void **state)
{
    (void)state;
    compare(oct_cpu_kernels_scalar());
}

static void avx2_select(void **state)
{
    (void)state;
    compare(oct_cpu_kernels_avx2());
}

static void avx512_select(void **state)
{
    (void)state;
    compare(oct_cpu_kernels_avx512());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_select),
        cmocka_unit_test(avx2_select),
        cmocka_unit_test(avx512_select),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
