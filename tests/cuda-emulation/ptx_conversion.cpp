// cvt (PTX ISA, 9.7.9.21): every pair of integer and floating-point types, with saturation and rounding.
#include <limits>

#include "ptx_rounding.h"
#include "ptx_types.h"

namespace ptx
{

namespace
{

// A result narrower than its register is extended by its own sign.
template <class T> void set_extended(thread &t, const instruction &i, T value)
{
    using extended = std::conditional_t<std::is_signed<T>::value, int64_t, uint64_t>;
    set_value(t, i, 0, static_cast<extended>(value));
}

// Choice 0: sat.
template <class To, class From> void integer_to_integer(thread &t, const instruction &i)
{
    From value = value_of<From>(t, i, 1);
    __int128 wide = value;
    if (i.choice[0] != NO_CHOICE) {
        __int128 least = std::numeric_limits<To>::min(), most = std::numeric_limits<To>::max();
        wide = wide < least ? least : wide > most ? most : wide;
    }
    set_extended(t, i, static_cast<To>(wide));
}

// Choice 0: the rounding.
template <class To, class From> void integer_to_float(thread &t, const instruction &i)
{
    set_value(t, i, 0,
              rounded<To>(
                  i.choice[0], [](From value) { return static_cast<To>(value); }, value_of<From>(t, i, 1)));
}

template <class T> T round_to_integer(T value, int mode)
{
    switch (mode) {
    case TO_ZERO:
        return std::trunc(value);
    case DOWN:
        return std::floor(value);
    case UP:
        return std::ceil(value);
    default:
        return std::nearbyint(value);
    }
}

// NaN is 0, but in 64 bits, to or from, the most significant bit; what is out of range becomes the nearest
// number.
template <class To, class From> To clamped(From value)
{
    if (value != value)
        return sizeof(To) < 8 && sizeof(From) < 8
                   ? To(0)
                   : static_cast<To>(static_cast<To>(1) << (8 * sizeof(To) - 1));
    // One more than the largest number is a power of two, exact in From.
    From above = std::ldexp(From(1), std::numeric_limits<To>::digits);
    if (value >= above)
        return std::numeric_limits<To>::max();
    From least = static_cast<From>(std::numeric_limits<To>::min());
    return value <= least ? std::numeric_limits<To>::min() : static_cast<To>(value);
}

// Choice 0: the rounding, 1: ftz.
template <class To, class From> void float_to_integer(thread &t, const instruction &i)
{
    From value = value_of<From>(t, i, 1);
    if (i.choice[1] != NO_CHOICE)
        value = static_cast<From>(flush(static_cast<float>(value)));
    set_extended(t, i, clamped<To>(round_to_integer(value, i.choice[0])));
}

// Choice 0: the rounding (of a narrowing), 1: ftz, 2: sat.
template <class To, class From> void float_to_float(thread &t, const instruction &i)
{
    To value = rounded<To>(
        i.choice[0], [](From from) { return static_cast<To>(from); }, value_of<From>(t, i, 1));
    if (i.choice[1] != NO_CHOICE)
        value = static_cast<To>(flush(static_cast<float>(value)));
    set_value(t, i, 0, i.choice[2] != NO_CHOICE ? saturate(value) : value);
}

// The same with rounding to an integer.
template <class T> void float_to_whole(thread &t, const instruction &i)
{
    T value = round_to_integer(value_of<T>(t, i, 1), i.choice[0]);
    if (i.choice[1] != NO_CHOICE)
        value = static_cast<T>(flush(static_cast<float>(value)));
    set_value(t, i, 0, i.choice[2] != NO_CHOICE ? saturate(value) : value);
}

template <bool IS_BF16> constexpr half_format format = IS_BF16 ? BF16 : F16;

template <bool IS_BF16, class To> void half_to_float(thread &t, const instruction &i)
{
    set_value(t, i, 0, static_cast<To>(half_value(value_of<uint16_t>(t, i, 1), format<IS_BF16>)));
}

// Choice 0: the rounding, 1: relu.
template <bool IS_BF16> uint32_t made_half(const instruction &i, double value)
{
    uint16_t bits = half_bits(value, format<IS_BF16>, i.choice[0]);
    return i.choice[1] != NO_CHOICE && (bits & 0x8000 || bits == HALF_NAN) ? 0 : bits;
}
template <bool IS_BF16, class From> void float_to_half(thread &t, const instruction &i)
{
    set_value(t, i, 0, made_half<IS_BF16>(i, static_cast<double>(value_of<From>(t, i, 1))));
}
// The first operand becomes the upper half.
template <bool IS_BF16> void floats_to_pair(thread &t, const instruction &i)
{
    uint32_t upper = made_half<IS_BF16>(i, value_of<float>(t, i, 1)),
             lower = made_half<IS_BF16>(i, value_of<float>(t, i, 2));
    set_value(t, i, 0, upper << 16 | lower);
}

template <bool IS_BF16, class To> void half_to_integer(thread &t, const instruction &i)
{
    float value = static_cast<float>(half_value(value_of<uint16_t>(t, i, 1), format<IS_BF16>));
    set_extended(t, i, clamped<To>(round_to_integer(value, i.choice[0])));
}
// An integer of 64 bits need not fit a double: to odd first, as add_product_to_odd() does.
template <bool IS_BF16, class From> void integer_to_half(thread &t, const instruction &i)
{
    __int128 value = value_of<From>(t, i, 1);
    double high = static_cast<double>(static_cast<int64_t>(value >> 32)) * 0x1p32;
    double low = static_cast<double>(static_cast<uint32_t>(value));
    set_value(t, i, 0, made_half<IS_BF16>(i, add_product_to_odd(1, high, low)));
}

template <class Add> void each_convertible_integer(Add add)
{
    each_small_integer(add);
    each_integer(add);
}

void add_integer_rows(form_table &table)
{
    each_convertible_integer([&](auto to_tag, const std::string &to) {
        each_convertible_integer([&](auto from_tag, const std::string &from) {
            table.add("cvt <sat>? " + to + " " + from, "d,s",
                      integer_to_integer<typename decltype(to_tag)::type, typename decltype(from_tag)::type>);
        });
    });
}

void add_mixed_rows(form_table &table)
{
    each_convertible_integer([&](auto integer_tag, const std::string &integer) {
        using I = typename decltype(integer_tag)::type;
        each_float([&](auto float_tag, const std::string &real) {
            using R = typename decltype(float_tag)::type;
            table.add("cvt <rn|rz|rm|rp> " + real + " " + integer, "d,s", integer_to_float<R, I>);
            table.add("cvt <rni|rzi|rmi|rpi> <ftz>? sat? " + integer + " " + real, "d,s",
                      float_to_integer<I, R>);
        });
        table.add("cvt <rn|rz|rm|rp> f16 " + integer, "d,s", integer_to_half<false, I>);
        table.add("cvt <rn|rz|rm|rp> bf16 " + integer, "d,s", integer_to_half<true, I>);
        table.add("cvt <rni|rzi|rmi|rpi> " + integer + " f16", "d,s", half_to_integer<false, I>);
        table.add("cvt <rni|rzi|rmi|rpi> " + integer + " bf16", "d,s", half_to_integer<true, I>);
    });
}

template <bool IS_BF16> void add_half_rows(form_table &table, const std::string &half)
{
    table.add("cvt f32 " + half, "d,s", half_to_float<IS_BF16, float>);
    table.add("cvt f64 " + half, "d,s", half_to_float<IS_BF16, double>);
    table.add("cvt <rn|rz|rm|rp> <relu>? " + half + " f32", "d,s", float_to_half<IS_BF16, float>);
    table.add("cvt <rn|rz|rm|rp> " + half + " f64", "d,s", float_to_half<IS_BF16, double>);
    table.add("cvt <rn|rz> <relu>? " + half + "x2 f32", "d,s,s", floats_to_pair<IS_BF16>);
}

} // namespace

void add_conversion_forms(form_table &table)
{
    add_integer_rows(table);
    add_mixed_rows(table);
    add_half_rows<false>(table, "f16");
    add_half_rows<true>(table, "bf16");
    table.add("cvt <rni|rzi|rmi|rpi> <ftz>? <sat>? f32 f32", "d,s", float_to_whole<float>);
    table.add("cvt <rni|rzi|rmi|rpi> f64 f64", "d,s", float_to_whole<double>);
    table.add("cvt <rn|rz|rm|rp>? <ftz>? <sat>? f32 f32", "d,s", float_to_float<float, float>);
    table.add("cvt <rn|rz|rm|rp> <ftz>? <sat>? f32 f64", "d,s", float_to_float<float, double>);
    table.add("cvt <rn|rz|rm|rp>? <ftz>? f64 f32", "d,s", float_to_float<double, float>);
}

} // namespace ptx
