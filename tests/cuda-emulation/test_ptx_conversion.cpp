// Conversions and 16-bit arithmetic of the PTX interpreter against the host's, and against NVIDIA's own host
// functions for f16 and bf16.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <limits>

#include "ptx_checks.h"

using namespace ptx_checks;

static const size_t many = 4000;

static void test_integers(void **)
{
    inputs in = mixed_inputs(many, special_integers());
    check_wide("cvt.s64.s32 %d9, %r0;", in,
               [](int32_t a, uint64_t, uint64_t, uint64_t) { return static_cast<int64_t>(a); });
    check_wide("cvt.u64.u32 %d9, %r0;", in, [](uint32_t a, uint64_t, uint64_t, uint64_t) { return a; });
    check("cvt.s32.s8 %r9, %r0;", in,
          [](int8_t a, uint64_t, uint64_t, uint64_t) { return static_cast<int32_t>(a); });
    check("cvt.s8.s32 %r9, %r0;", in,
          [](int8_t a, uint64_t, uint64_t, uint64_t) { return static_cast<int32_t>(a); });
    check("cvt.u32.u16 %r9, %h0;", in, [](uint16_t a, uint64_t, uint64_t, uint64_t) { return a; });
    check("cvt.u32.u64 %r9, %d0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) { return a; });
    check("cvt.sat.s8.s32 %r9, %r0;", in, [](int32_t a, uint64_t, uint64_t, uint64_t) {
        return a < -128 ? -128 : a > 127 ? 127 : a;
    });
    check("cvt.sat.u8.s32 %r9, %r0;", in, [](int32_t a, uint64_t, uint64_t, uint64_t) {
        return a < 0 ? 0 : a > 255 ? 255 : a;
    });
    check("cvt.sat.u32.s64 %r9, %d0;", in, [](int64_t a, uint64_t, uint64_t, uint64_t) {
        return a < 0 ? 0 : a > UINT32_MAX ? UINT32_MAX : a;
    });
}

// The float next below or at a number of 64 bits, by cutting its bits off.
static float cut(uint64_t value)
{
    int extra = value ? 40 - __builtin_clzll(value) : 0;
    return extra > 0 ? std::ldexp(static_cast<float>(value >> extra), extra) : static_cast<float>(value);
}

static void test_integers_to_floats(void **)
{
    inputs in = mixed_inputs(many, special_integers());
    check("cvt.rn.f32.s32 %r9, %r0;", in,
          [](int32_t a, uint64_t, uint64_t, uint64_t) { return bits_of(static_cast<float>(a)); });
    check("cvt.rn.f32.u32 %r9, %r0;", in,
          [](uint32_t a, uint64_t, uint64_t, uint64_t) { return bits_of(static_cast<float>(a)); });
    check("cvt.rz.f32.u64 %r9, %d0;", in,
          [](uint64_t a, uint64_t, uint64_t, uint64_t) { return bits_of(cut(a)); });
    check("cvt.rm.f32.u32 %r9, %r0;", in,
          [](uint32_t a, uint64_t, uint64_t, uint64_t) { return bits_of(cut(a)); });
    check("cvt.rp.f32.u64 %r9, %d0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) {
        float low = cut(a);
        bool exact = low < 0x1p64f && static_cast<uint64_t>(low) == a;
        return bits_of(exact ? low : std::nextafter(low, INFINITY));
    });
    check_wide("cvt.rn.f64.s64 %d9, %d0;", in,
               [](int64_t a, uint64_t, uint64_t, uint64_t) { return bits_of(static_cast<double>(a)); });
}

// By long double, which holds all 64 bits.
template <class T> static T clamp_to(long double value)
{
    if (std::isnan(value))
        return sizeof(T) < 8 ? T(0) : static_cast<T>(1ull << 63);
    if (value <= static_cast<long double>(std::numeric_limits<T>::min()))
        return std::numeric_limits<T>::min();
    return value >= static_cast<long double>(std::numeric_limits<T>::max()) ? std::numeric_limits<T>::max()
                                                                            : static_cast<T>(value);
}

static void test_floats_to_integers(void **)
{
    inputs in = mixed_inputs(many, special_floats());
    check("cvt.rni.s32.f32 %r9, %r0;", in,
          [](uint64_t a, uint64_t, uint64_t, uint64_t) { return clamp_to<int32_t>(std::rint(as_float(a))); });
    check("cvt.rzi.s32.f32 %r9, %r0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) {
        return clamp_to<int32_t>(std::trunc(as_float(a)));
    });
    check("cvt.rmi.s32.f32 %r9, %r0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) {
        return clamp_to<int32_t>(std::floor(as_float(a)));
    });
    check("cvt.rpi.u32.f32 %r9, %r0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) {
        return clamp_to<uint32_t>(std::ceil(as_float(a)));
    });
    check("cvt.rni.sat.s8.f32 %r9, %r0;", in,
          [](uint64_t a, uint64_t, uint64_t, uint64_t) { return clamp_to<int8_t>(std::rint(as_float(a))); });
    check_wide("cvt.rzi.s64.f32 %d9, %r0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) {
        return clamp_to<int64_t>(std::trunc(as_float(a)));
    });
    check_wide("cvt.rzi.u64.f32 %d9, %r0;", in, [](uint64_t a, uint64_t, uint64_t, uint64_t) {
        return clamp_to<uint64_t>(std::trunc(as_float(a)));
    });
    check_float("cvt.rni.f32.f32 %r9, %r0;", in, [](float a, float, float) { return std::rint(a); });
    check_float("cvt.rmi.ftz.f32.f32 %r9, %r0;", in, [](float a, float, float) { return std::floor(a); });
    check_float("cvt.sat.f32.f32 %r9, %r0;", in,
                [](float a, float, float) { return a > 0 ? std::fmin(a, 1.0f) : 0.0f; });
}

static void test_doubles(void **)
{
    inputs in = mixed_inputs(many, special_doubles());
    auto narrowed = [&](const std::string &name, auto expected) {
        std::vector<uint64_t> found = run("cvt." + name + ".f32.f64 %r9, %d0;\n\tcvt.u64.u32 %d9, %r9;", in);
        for (size_t k = 0; k < in.size(); k++) {
            float want = expected(as_double(in[k][0]));
            if (!(std::isnan(want) && std::isnan(as_float(found[k]))) && found[k] != bits_of(want))
                fail_case("cvt." + name + ".f32.f64", in[k], found[k], bits_of(want));
        }
    };
    narrowed("rn", [](double a) { return static_cast<float>(a); });
    narrowed("rm", [](double a) {
        float nearest = static_cast<float>(a);
        return static_cast<double>(nearest) > a ? std::nextafter(nearest, -INFINITY) : nearest;
    });
    narrowed("rz", [](double a) {
        float nearest = static_cast<float>(a);
        return std::fabs(static_cast<double>(nearest)) > std::fabs(a) ? std::nextafter(nearest, 0.0f)
                                                                      : nearest;
    });
}

// Every value of 16 bits, and floats around them: the value, the middle to the next, and the neighbours of
// both.
static inputs floats_near_halves(float (*value)(uint16_t))
{
    inputs in;
    for (uint32_t half = 0; half < 65536; half += 1 + random_word() % 3) {
        float here = value(static_cast<uint16_t>(half)), next = value(static_cast<uint16_t>(half + 1));
        float middle = static_cast<float>((static_cast<double>(here) + next) / 2);
        for (float f : {here, middle, std::nextafter(here, next), std::nextafter(middle, here),
                        std::nextafter(middle, next)})
            in.push_back({bits_of(f), bits_of(value(static_cast<uint16_t>(random_word()))), 0, 0});
    }
    for (const auto &words : mixed_inputs(many, special_floats()))
        in.push_back(words);
    return in;
}

static float value_of_bf16(uint16_t bits)
{
    return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
}
static float value_of_f16(uint16_t bits)
{
    return __half2float(__half(__half_raw{bits}));
}
static uint16_t raw(__nv_bfloat16 h)
{
    return static_cast<__nv_bfloat16_raw>(h).x;
}
static uint16_t raw(__half h)
{
    return static_cast<__half_raw>(h).x;
}

// NaN of any sign and payload is NaN.
template <class Expected>
static void check_half(const std::string &lines, const inputs &in, Expected expected,
                       float (*value)(uint16_t))
{
    std::vector<uint64_t> found = run(lines + "\n\tcvt.u64.u16 %d9, %h9;", in);
    for (size_t k = 0; k < in.size(); k++) {
        uint16_t want = expected(in[k]);
        bool both_nan = std::isnan(value(want)) && std::isnan(value(static_cast<uint16_t>(found[k])));
        if (!both_nan && found[k] != want)
            fail_case(lines, in[k], found[k], want);
    }
}

static void test_bf16(void **)
{
    inputs in = floats_near_halves(value_of_bf16);
    auto a = [](const std::array<uint64_t, 4> &w) { return as_float(w[0]); };
    check_half(
        "cvt.rn.bf16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2bfloat16_rn(a(w))); },
        value_of_bf16);
    check_half(
        "cvt.rz.bf16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2bfloat16_rz(a(w))); },
        value_of_bf16);
    check_half(
        "cvt.rm.bf16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2bfloat16_rd(a(w))); },
        value_of_bf16);
    check_half(
        "cvt.rp.bf16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2bfloat16_ru(a(w))); },
        value_of_bf16);
    inputs numbers;
    for (const auto &w : in)
        if (!std::isnan(as_float(w[0])) && !std::isnan(as_float(w[1])))
            numbers.push_back(w);
    check("cvt.rn.bf16x2.f32 %r9, %r0, %r1;", numbers,
          [](uint64_t upper, uint64_t lower, uint64_t, uint64_t) {
              return static_cast<uint32_t>(raw(__float2bfloat16_rn(as_float(upper)))) << 16 |
                     raw(__float2bfloat16_rn(as_float(lower)));
          });
    check_float("cvt.f32.bf16 %r9, %h0;", mixed_inputs(many, special_integers()),
                [](float bits, float, float) { return value_of_bf16(static_cast<uint16_t>(bits_of(bits))); });
}

static void test_f16(void **)
{
    inputs in = floats_near_halves(value_of_f16);
    auto a = [](const std::array<uint64_t, 4> &w) { return as_float(w[0]); };
    check_half(
        "cvt.rn.f16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2half_rn(a(w))); },
        value_of_f16);
    check_half(
        "cvt.rz.f16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2half_rz(a(w))); },
        value_of_f16);
    check_half(
        "cvt.rm.f16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2half_rd(a(w))); },
        value_of_f16);
    check_half(
        "cvt.rp.f16.f32 %h9, %r0;", in, [&](const auto &w) { return raw(__float2half_ru(a(w))); },
        value_of_f16);
    inputs all(65536);
    for (size_t k = 0; k < all.size(); k++)
        all[k] = {k, 0, 0, 0};
    check("cvt.f32.f16 %r9, %h0;\n\tcvt.rn.f16.f32 %h9, %r9;\n\tcvt.u32.u16 %r9, %h9;", all,
          [](uint16_t bits, uint64_t, uint64_t, uint64_t) {
              return std::isnan(value_of_f16(bits)) ? 0x7fff : bits;
          });
    check("cvt.f32.f16 %r9, %h0;\n\tabs.f32 %r9, %r9;\n\tmin.f32 %r9, %r9, 0f7F7FFFFF;", all,
          [](uint16_t bits, uint64_t, uint64_t, uint64_t) {
              return bits_of(std::fmin(std::fabs(value_of_f16(bits)), 0x1.fffffep127f));
          });
}

// Whether a half is the one nearest to an exact number: its neighbours are no nearer, and at a tie it is
// even.
static bool is_nearest(uint16_t half, __float128 exact, float (*value)(uint16_t))
{
    auto distance = [&](uint16_t h) {
        __float128 d = static_cast<__float128>(value(h)) - exact;
        return d < 0 ? -d : d;
    };
    uint16_t magnitude = half & 0x7fff;
    if (exact == 0 || magnitude == 0)
        return distance(half) <= distance(static_cast<uint16_t>((half & 0x8000) | 1));
    for (int step : {-1, 1}) {
        uint16_t other = static_cast<uint16_t>(half + step);
        if (distance(other) < distance(half) || (distance(other) == distance(half) && half & 1))
            return false;
    }
    return true;
}

// fma of both formats: one rounding of the exact a b + c, which 113 bits hold for these exponents.
static void test_half_arithmetic(void **)
{
    inputs in = mixed_inputs(20000, special_integers());
    const struct {
        const char *type;
        int mantissa_bits, bias;
        float (*value)(uint16_t);
    } formats[] = {{"bf16", 7, 127, value_of_bf16}, {"f16", 10, 15, value_of_f16}};
    for (const auto &f : formats) {
        for (auto &words : in) // exponents near 0: results far from the ends of the range
            for (uint64_t &word : words) {
                word &= 0x8000 | ((1u << f.mantissa_bits) - 1);
                word |= (static_cast<uint64_t>(f.bias) - 2 + random_word() % 5) << f.mantissa_bits;
            }
        // An addend far below decides where a product lies in the middle between two.
        for (size_t k = 0; k < in.size() && f.bias == 127; k += 2)
            in[k][2] = (in[k][2] & 0x807f) | (127 - 60 - random_word() % 5) << 7;
        std::string type = f.type;
        auto all_nearest = [&](const std::string &lines, auto exact) {
            std::vector<uint64_t> found = run(lines + "\n\tcvt.u64.u16 %d9, %h9;", in);
            for (size_t k = 0; k < in.size(); k++) {
                __float128 v[3];
                for (size_t j = 0; j < 3; j++)
                    v[j] = f.value(static_cast<uint16_t>(in[k][j]));
                if (!is_nearest(static_cast<uint16_t>(found[k]), exact(v[0], v[1], v[2]), f.value))
                    fail_case(lines, in[k], found[k], 0);
            }
        };
        all_nearest("fma.rn." + type + " %h9, %h0, %h1, %h2;",
                    [](__float128 a, __float128 b, __float128 c) { return a * b + c; });
        all_nearest("add." + type + " %h9, %h0, %h1;",
                    [](__float128 a, __float128 b, __float128) { return a + b; });
        all_nearest("mul." + type + " %h9, %h0, %h1;",
                    [](__float128 a, __float128 b, __float128) { return a * b; });
        // The pair's halves are two of the same.
        check("mov.b32 %r5, {%h0, %h1};\n\tmov.b32 %r6, {%h1, %h2};\n\tmov.b32 %r7, {%h2, %h3};\n\tfma.rn." +
                  type + "x2 %r8, %r5, %r6, %r7;\n\tfma.rn." + type + " %h4, %h0, %h1, %h2;\n\tfma.rn." +
                  type + " %h5, %h1, %h2, %h3;\n\tmov.b32 %r4, {%h4, %h5};\n\txor.b32 %r9, %r8, %r4;",
              in, [](uint64_t, uint64_t, uint64_t, uint64_t) { return 0; });
    }
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_integers_to_floats),
        cmocka_unit_test(test_floats_to_integers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_half_arithmetic),
    };
    return cmocka_run_group_tests_name("PTX: conversions", tests, nullptr, nullptr);
}
