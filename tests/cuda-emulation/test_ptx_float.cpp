// Floats and comparisons in the PTX interpreter against the host's arithmetic. Expectations are calculated
// another way than in the interpreter wherever there is one.
#include <cmath>

#include "ptx_checks.h"

using namespace ptx_checks;

static const size_t many = 4000;

static inputs integers()
{
    return mixed_inputs(many, special_integers());
}

// Among them equal and opposite operands, and all pairs of zeros.
static inputs floats()
{
    inputs in = mixed_inputs(many, special_floats());
    for (size_t k = 0; k < in.size(); k += 16) {
        in[k][1] = in[k][0] ^ (k % 32 ? 0x80000000 : 0);
        in[k + 1][0] = random_word() % 2 << 31;
        in[k + 1][1] = random_word() % 2 << 31;
    }
    return in;
}

// ---- floats ----
// The float at or next to the exact number sum + error (both double, |error| below half a unit of sum's last
// place) in a direction: that of rn first, then a step where it is on the wrong side.
enum direction { NEAREST, TO_ZERO, DOWN, UP };
static float directed(double sum, double error, direction mode)
{
    float nearest = static_cast<float>(sum);
    if (mode == NEAREST && nearest == sum)
        return nearest;
    if (mode == NEAREST) {
        // A tie in double's eyes is none if there is an error: the nearer neighbour.
        float toward = std::nextafter(nearest, sum > nearest ? INFINITY : -INFINITY);
        double middle =
            std::isinf(toward) || std::isinf(nearest) ? NAN : (static_cast<double>(nearest) + toward) / 2;
        if (sum == middle && error != 0)
            return (error > 0) == (toward > nearest) ? toward : nearest;
        return nearest;
    }
    if (std::isnan(sum) || std::isinf(sum))
        return nearest;
    bool above = nearest > sum || (nearest == sum && error < 0),
         below = nearest < sum || (nearest == sum && error > 0);
    bool negative = sum < 0 || (sum == 0 && error < 0);
    direction way = mode == TO_ZERO ? (negative ? UP : DOWN) : mode;
    if (way == DOWN && above)
        return std::nextafter(nearest, -INFINITY);
    return way == UP && below ? std::nextafter(nearest, INFINITY) : nearest;
}

// a b + c; a b is exact in double.
static float product_sum(float a, float b, float c, direction mode)
{
    double product = static_cast<double>(a) * b, sum = product + c;
    if (!std::isfinite(sum))
        return static_cast<float>(sum);
    double part = sum - product, error = (product - (sum - part)) + (c - part);
    float result = directed(sum, error, mode);
    // Of an exact zero the direction chooses the sign, unless both are zeros of one sign.
    if (sum == 0 && error == 0 && !(product == 0 && c == 0 && std::signbit(product) == std::signbit(c)))
        return mode == DOWN ? -0.0f : 0.0f;
    return result;
}

static void test_float_roundings(void **)
{
    inputs in = floats();
    // Sums of numbers of the same size too: random bits seldom have one exponent.
    for (size_t k = 0; k < in.size(); k += 2)
        for (int w = 1; w < 3; w++)
            in[k][w] = (in[k][w] & 0x807fffff) | ((in[k][0] + random_word() % 3 * 0x00800000) & 0x7f800000);
    const char *names[] = {"rn", "rz", "rm", "rp"};
    for (direction mode : {NEAREST, TO_ZERO, DOWN, UP}) {
        std::string name = names[mode];
        check_float("add." + name + ".f32 %r9, %r0, %r1;", in,
                    [&](float a, float b, float) { return product_sum(1, a, b, mode); });
        check_float("sub." + name + ".f32 %r9, %r0, %r1;", in,
                    [&](float a, float b, float) { return product_sum(1, a, -b, mode); });
        check_float("mul." + name + ".f32 %r9, %r0, %r1;", in, [&](float a, float b, float) {
            double product = static_cast<double>(a) * b;
            return std::isfinite(product) ? directed(product, 0, mode) : static_cast<float>(product);
        });
        check_float("fma." + name + ".f32 %r9, %r0, %r1, %r2;", in,
                    [&](float a, float b, float c) { return product_sum(a, b, c, mode); });
    }
}

static float flushed(float v)
{
    return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v;
}

static void test_float_modifiers(void **)
{
    inputs in = floats();
    check_float("add.ftz.f32 %r9, %r0, %r1;", in,
                [](float a, float b, float) { return flushed(flushed(a) + flushed(b)); });
    check_float("mul.rn.ftz.f32 %r9, %r0, %r1;", in,
                [](float a, float b, float) { return flushed(flushed(a) * flushed(b)); });
    check_float("add.sat.f32 %r9, %r0, %r1;", in, [](float a, float b, float) {
        float sum = a + b;
        return std::isnan(sum) ? 0.0f : std::fmin(std::fmax(sum, 0.0f), 1.0f) + 0.0f;
    });
    check_float("neg.f32 %r9, %r0;", in, [](float a, float, float) { return -a; });
    check_float("abs.f32 %r9, %r0;", in, [](float a, float, float) { return std::fabs(a); });
    check_float("copysign.f32 %r9, %r0, %r1;", in,
                [](float a, float b, float) { return std::copysign(b, a); });
    auto least = [](float a, float b) {
        return std::isnan(a) ? b : std::isnan(b) ? a : a == b ? (std::signbit(a) ? a : b) : std::fmin(a, b);
    };
    check_float("min.f32 %r9, %r0, %r1;", in, [&](float a, float b, float) { return least(a, b); });
    check_float("max.f32 %r9, %r0, %r1;", in, [&](float a, float b, float) { return -least(-a, -b); });
    check_float("max.f32 %r9, %r0, %r1, %r2;", in,
                [&](float a, float b, float c) { return -least(-a, least(-b, -c)); });
    check_float("min.NaN.f32 %r9, %r0, %r1;", in,
                [&](float a, float b, float) { return std::isunordered(a, b) ? NAN : least(a, b); });
}

// Rounding the double result again is innocent: 53 >= 2 · 24 + 2 (Figueroa, "When is double rounding
// innocuous?", SIGNUM Newsletter 30(3), 1995), denormal results apart.
static void test_quotients_and_roots(void **)
{
    inputs in;
    for (const auto &words : floats())
        if (std::fabs(as_float(words[0])) > 0x1p-60f && std::fabs(as_float(words[1])) < 0x1p60f)
            in.push_back(words);
    check_float("div.rn.f32 %r9, %r0, %r1;", in,
                [](float a, float b, float) { return static_cast<float>(static_cast<double>(a) / b); });
    check_float("sqrt.rn.f32 %r9, %r0;", in,
                [](float a, float, float) { return static_cast<float>(std::sqrt(static_cast<double>(a))); });
    check_float("rcp.rn.f32 %r9, %r1;", in, [](float, float b, float) {
        return std::fabs(b) > 0x1p126f ? 1.0f / b : static_cast<float>(1.0 / static_cast<double>(b));
    });
    check_float("sqrt.rp.f32 %r9, %r0;", in, [](float a, float, float) {
        double root = std::sqrt(static_cast<double>(a));
        return std::isfinite(root) ? directed(root, std::fma(-root, root, static_cast<double>(a)), UP)
                                   : static_cast<float>(root);
    });
}

// Functions that are approximate on a device: here within its documented error, with denormals flushed where
// asked.
static void test_approximations(void **)
{
    inputs in;
    while (in.size() < many) {
        float x = as_float(random_word());
        if (std::fabs(x) < 0x1p8f && std::fabs(x) > 0x1p-100f)
            in.push_back({bits_of(x), 0, 0, 0});
    }
    auto near = [&](const std::string &lines, double (*exact)(double), double bound, bool positive) {
        std::vector<uint64_t> found = run(lines + "\n\tcvt.u64.u32 %d9, %r9;", in);
        for (size_t k = 0; k < in.size(); k++) {
            double x = static_cast<double>(as_float(in[k][0])), want = exact(x);
            if ((positive && x < 0) || std::fabs(want) > 0x1p127)
                continue;
            if (std::fabs(want) < 0x1p-126)
                assert_true(as_float(found[k]) == 0);
            else if (!(std::fabs(static_cast<double>(as_float(found[k])) - want) <= bound * std::fabs(want)))
                fail_case(lines, in[k], found[k], bits_of(static_cast<float>(want)));
        }
    };
    near("ex2.approx.ftz.f32 %r9, %r0;", std::exp2, 0x1p-22, false);
    near("lg2.approx.ftz.f32 %r9, %r0;", std::log2, 0x1p-22, true);
    near(
        "rsqrt.approx.ftz.f32 %r9, %r0;", [](double x) { return 1 / std::sqrt(x); }, 0x1p-22, true);
    near(
        "rcp.approx.ftz.f32 %r9, %r0;", [](double x) { return 1 / x; }, 0x1p-23, false);
}

static void test_doubles(void **)
{
    inputs in = mixed_inputs(many, special_doubles());
    auto check_double = [&](const std::string &lines, auto expected) {
        std::vector<uint64_t> found = run(lines, in);
        for (size_t k = 0; k < in.size(); k++) {
            double want = expected(as_double(in[k][0]), as_double(in[k][1]), as_double(in[k][2]));
            if (found[k] != bits_of(want) && !(std::isnan(want) && std::isnan(as_double(found[k]))))
                fail_case(lines, in[k], found[k], bits_of(want));
        }
    };
    check_double("add.f64 %d9, %d0, %d1;", [](double a, double b, double) { return a + b; });
    check_double("mul.rn.f64 %d9, %d0, %d1;", [](double a, double b, double) { return a * b; });
    check_double("fma.rn.f64 %d9, %d0, %d1, %d2;",
                 [](double a, double b, double c) { return std::fma(a, b, c); });
    check_double("div.rn.f64 %d9, %d0, %d1;", [](double a, double b, double) { return a / b; });
}

// Two floats in 64 bits: as sm_100 computes them.
static void test_pairs(void **)
{
    inputs in = floats();
    for (auto &words : in)
        for (uint64_t &word : words)
            word = (word & 0xffffffff) | random_word() << 32;
    auto pairs = [](uint64_t a, uint64_t b, uint64_t c, float (*operation)(float, float, float)) {
        uint64_t low = bits_of(operation(as_float(a), as_float(b), as_float(c)));
        return low | static_cast<uint64_t>(
                         bits_of(operation(as_float(a >> 32), as_float(b >> 32), as_float(c >> 32))))
                         << 32;
    };
    auto without_nan = [&](float (*operation)(float, float, float)) {
        inputs kept;
        for (const auto &w : in)
            if (!std::isnan(operation(as_float(w[0]), as_float(w[1]), as_float(w[2]))) &&
                !std::isnan(operation(as_float(w[0] >> 32), as_float(w[1] >> 32), as_float(w[2] >> 32))))
                kept.push_back(w);
        return kept;
    };
    float (*fma)(float, float, float) = [](float a, float b, float c) { return std::fma(a, b, c); };
    float (*add)(float, float, float) = [](float a, float b, float) { return a + b; };
    check_wide("fma.rn.f32x2 %d9, %d0, %d1, %d2;", without_nan(fma),
               [&](uint64_t a, uint64_t b, uint64_t c, uint64_t) { return pairs(a, b, c, fma); });
    check_wide("add.rn.f32x2 %d9, %d0, %d1;", without_nan(add),
               [&](uint64_t a, uint64_t b, uint64_t c, uint64_t) { return pairs(a, b, c, add); });
}

// ---- comparisons ----
static void test_setp(void **)
{
    inputs in = floats();
    for (size_t k = 0; k < in.size(); k += 4)
        in[k][1] = in[k][0];
    struct {
        const char *name;
        bool less, equal, greater, unordered;
    } how[] = {{"eq", 0, 1, 0, 0},  {"ne", 1, 0, 1, 0},  {"lt", 1, 0, 0, 0},  {"le", 1, 1, 0, 0},
               {"gt", 0, 0, 1, 0},  {"ge", 0, 1, 1, 0},  {"equ", 0, 1, 0, 1}, {"neu", 1, 0, 1, 1},
               {"ltu", 1, 0, 0, 1}, {"leu", 1, 1, 0, 1}, {"gtu", 0, 0, 1, 1}, {"geu", 0, 1, 1, 1},
               {"num", 1, 1, 1, 0}, {"nan", 0, 0, 0, 1}};
    for (const auto &h : how) {
        auto holds = [&](uint64_t a, uint64_t b) {
            float x = as_float(a), y = as_float(b);
            return std::isunordered(x, y) ? h.unordered
                   : std::isless(x, y)    ? h.less
                   : std::isgreater(x, y) ? h.greater
                                          : h.equal;
        };
        check(std::string("setp.") + h.name + ".f32 %p1, %r0, %r1;\n\tselp.u32 %r9, 1, 0, %p1;", in,
              [&](uint64_t a, uint64_t b, uint64_t, uint64_t) { return holds(a, b); });
        check(std::string("setp.lt.u32 %p2, %r2, %r3;\n\tsetp.") + h.name +
                  ".and.f32 %p1|%p3, %r0, %r1, !%p2;\n\tselp.u32 %r8, 2, 0, %p3;\n\tselp.u32 %r7, 1, 0, "
                  "%p1;\n\tor.b32 %r9, %r7, %r8;",
              in, [&](uint64_t a, uint64_t b, uint32_t c, uint32_t d) {
                  return c < d ? 0 : holds(a, b) ? 1 : 2;
              });
    }
    inputs whole = integers();
    check("setp.gt.s32 %p1, %r0, %r1;\n\tselp.u32 %r9, 1, 0, %p1;", whole,
          [](int32_t a, int32_t b, uint64_t, uint64_t) { return a > b; });
    check("setp.hi.u32 %p1, %r0, %r1;\n\tselp.u32 %r9, 1, 0, %p1;", whole,
          [](uint32_t a, uint32_t b, uint64_t, uint64_t) { return a > b; });
    check("setp.le.s64 %p1, %d0, %d1;\n\tselp.u32 %r9, 1, 0, %p1;", whole,
          [](int64_t a, int64_t b, uint64_t, uint64_t) { return a <= b; });
    check("setp.ne.s16 %p1, %h0, %h1;\n\tselp.u32 %r9, 1, 0, %p1;", whole,
          [](uint16_t a, uint16_t b, uint64_t, uint64_t) { return a != b; });
    check("setp.lt.s32 %p1, %r0, %r1;\n\tsetp.lt.s32 %p2, %r2, %r3;\n\txor.pred %p3, %p1, %p2;\n\tnot.pred "
          "%p4, %p3;\n\tselp.u32 %r9, 1, 0, %p4;",
          whole, [](int32_t a, int32_t b, int32_t c, int32_t d) { return (a < b) == (c < d); });
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float_roundings),
        cmocka_unit_test(test_float_modifiers),
        cmocka_unit_test(test_quotients_and_roots),
        cmocka_unit_test(test_approximations),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_setp),
    };
    return cmocka_run_group_tests_name("PTX: floats and comparisons", tests, nullptr, nullptr);
}
