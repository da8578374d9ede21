// exp, log and log1p against double precision, in units of the last place (ulp). By default over every 1009th
// argument; OCT_TEST_FULL=1 takes every one (minutes).
#include "tests/unit/kernel_checks.h"

#include <math.h>

#include "runtime/elementary.h"

// Distance of `found` from `exact` in ulp of exact's binade.
static double ulps(float found, double exact)
{
    int exponent;
    frexp(exact, &exponent);
    return fabs((double)found - exact) / ldexp(1.0, exponent - 24);
}

typedef struct worst {
    double ulps;
    float at;
} worst;

static void note(worst *w, float x, float found, double exact)
{
    double error = ulps(found, exact);
    if (!(error <= w->ulps)) {
        w->ulps = error;
        w->at = x;
    }
}

// Runs over the bits [begin, end) of a float argument.
static worst sweep(float (*function)(float), double (*exact)(double), float first, float last)
{
    worst w = {0, 0};
    uint64_t begin = oct_float_bits(first), end = oct_float_bits(last), stride = check_stride(1009);
    for (uint64_t bits = begin; bits < end; bits += stride) {
        float x = oct_bits_float((uint32_t)bits);
        float found = function(x);
        if ((bits - begin) / stride % 64 == 0)
            check_note(&found, sizeof found);
        note(&w, x, found, exact((double)x));
    }
    return w;
}

static void expect(const char *name, worst w, double bound)
{
    print_message("%s: at most %.3f ulp, at %a\n", name, w.ulps, (double)w.at);
    if (!(w.ulps <= bound))
        fail_msg("%s is %.3f ulp off at %a, the bound is %.2f", name, w.ulps, (double)w.at, bound);
}

static void test_exp(void **state)
{
    (void)state;
    expect("exp, x > 0", sweep(oct_exp, exp, 0x1p-126f, 0x1.62e42ep+6f), 0.95);
    expect("exp, x < 0", sweep(oct_exp, exp, -0x1p-126f, -0x1.5d589ep+6f), 0.95);
    assert_true(oct_exp(0.0f) == 1.0f && oct_exp(-0.0f) == 1.0f);
    assert_true(oct_exp(INFINITY) == INFINITY && oct_exp(89.0f) == INFINITY &&
                oct_exp(0x1p+127f) == INFINITY);
    assert_true(oct_exp(-INFINITY) == 0.0f && oct_exp(-87.5f) == 0.0f && oct_exp(-0x1p+127f) == 0.0f);
    assert_true(isnan(oct_exp(NAN)));
}

static void test_log(void **state)
{
    (void)state;
    expect("log", sweep(oct_log, log, 0x1p-126f, INFINITY), 0.95);
    assert_true(oct_log(1.0f) == 0.0f && oct_log(0.0f) == -INFINITY && oct_log(-0.0f) == -INFINITY);
    assert_true(oct_log(INFINITY) == INFINITY && isnan(oct_log(-1.0f)) && isnan(oct_log(NAN)));
}

static void test_log1p(void **state)
{
    (void)state;
    expect("log1p, x > 0", sweep(oct_log1p, log1p, 0x1p-126f, 0x1p+24f), 0.95);
    expect("log1p, x < 0", sweep(oct_log1p, log1p, -0x1p-126f, -1.0f), 0.95);
    assert_true(oct_log1p(0.0f) == 0.0f && oct_log1p(-1.0f) == -INFINITY && isnan(oct_log1p(-1.5f)));
    assert_true(isnan(oct_log1p(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_log1p),
    };
    return check_finish(cmocka_run_group_tests(tests, check_begin, NULL));
}
