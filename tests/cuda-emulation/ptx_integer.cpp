// Integer arithmetic (PTX ISA, 9.7.1). Sums and products wrap; shapes of results as the ISA has them.
#include "ptx_types.h"

namespace ptx
{

namespace
{

template <class T> using unsigned_of = std::make_unsigned_t<T>;

// Twice as wide, of the same sign: holds any product.
template <class T> struct wider;
template <> struct wider<uint16_t> {
    using type = uint32_t;
};
template <> struct wider<int16_t> {
    using type = int32_t;
};
template <> struct wider<uint32_t> {
    using type = uint64_t;
};
template <> struct wider<int32_t> {
    using type = int64_t;
};
template <> struct wider<uint64_t> {
    using type = unsigned __int128;
};
template <> struct wider<int64_t> {
    using type = __int128;
};
template <class T> using wide = typename wider<T>::type;

template <class T> T wrap(uint64_t value)
{
    return static_cast<T>(static_cast<unsigned_of<T>>(value));
}

template <class T> T add(T a, T b)
{
    return wrap<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
template <class T> T subtract(T a, T b)
{
    return wrap<T>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}
template <class T> T multiply_low(T a, T b)
{
    return wrap<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
template <class T> T multiply_high(T a, T b)
{
    return static_cast<T>((static_cast<wide<T>>(a) * static_cast<wide<T>>(b)) >> (8 * sizeof(T)));
}
template <class T> T add_product_low(T a, T b, T c)
{
    return add(multiply_low(a, b), c);
}
template <class T> T add_product_high(T a, T b, T c)
{
    return add(multiply_high(a, b), c);
}
template <class T> T minimum(T a, T b)
{
    return a < b ? a : b;
}
template <class T> T maximum(T a, T b)
{
    return a > b ? a : b;
}
template <class T> T negate(T a)
{
    return subtract(T(0), a);
}
template <class T> T absolute(T a)
{
    return a < 0 ? negate(a) : a;
}

// The quotient by 0 is not specified; the hardware gives all ones. The least number divided by −1 wraps.
template <class T> T divide(T a, T b)
{
    if (b == 0)
        return static_cast<T>(-1);
    return std::is_signed<T>::value && b == static_cast<T>(-1) ? negate(a) : static_cast<T>(a / b);
}
template <class T> T remainder(T a, T b)
{
    if (b == 0)
        return a;
    return std::is_signed<T>::value && b == static_cast<T>(-1) ? T(0) : static_cast<T>(a % b);
}

int32_t saturate(int64_t value)
{
    return static_cast<int32_t>(value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value);
}
int32_t add_saturated(int32_t a, int32_t b)
{
    return saturate(static_cast<int64_t>(a) + b);
}
int32_t subtract_saturated(int32_t a, int32_t b)
{
    return saturate(static_cast<int64_t>(a) - b);
}

// d has twice the bits of a and b.
template <class T> void multiply_wide(thread &t, const instruction &i)
{
    set_value(t, i, 0,
              static_cast<wide<T>>(value_of<T>(t, i, 1)) * static_cast<wide<T>>(value_of<T>(t, i, 2)));
}
template <class T> void add_product_wide(thread &t, const instruction &i)
{
    using result = wide<T>;
    result product = static_cast<result>(value_of<T>(t, i, 1)) * static_cast<result>(value_of<T>(t, i, 2));
    set_value(t, i, 0, add(product, value_of<result>(t, i, 3)));
}

// Four products of bytes, signed or not as each operand says.
template <class A, class B> void dot_4_bytes(thread &t, const instruction &i)
{
    uint32_t a = value_of<uint32_t>(t, i, 1), b = value_of<uint32_t>(t, i, 2),
             sum = value_of<uint32_t>(t, i, 3);
    for (int k = 0; k < 32; k += 8)
        sum += static_cast<uint32_t>(static_cast<A>(a >> k) * static_cast<B>(b >> k));
    set_value(t, i, 0, sum);
}

template <class T> void add_rows(form_table &table, const std::string &type)
{
    table.add("add " + type, "d,s,s", execute_binary<T, add<T>>);
    table.add("sub " + type, "d,s,s", execute_binary<T, subtract<T>>);
    table.add("mul lo " + type, "d,s,s", execute_binary<T, multiply_low<T>>);
    table.add("mul hi " + type, "d,s,s", execute_binary<T, multiply_high<T>>);
    table.add("mad lo " + type, "d,s,s,s", execute_ternary<T, add_product_low<T>>);
    table.add("mad hi " + type, "d,s,s,s", execute_ternary<T, add_product_high<T>>);
    table.add("min " + type, "d,s,s", execute_binary<T, minimum<T>>);
    table.add("max " + type, "d,s,s", execute_binary<T, maximum<T>>);
    table.add("div " + type, "d,s,s", execute_binary<T, divide<T>>);
    table.add("rem " + type, "d,s,s", execute_binary<T, remainder<T>>);
}

template <class T> void add_wide_rows(form_table &table, const std::string &type)
{
    table.add("mul wide " + type, "d,s,s", multiply_wide<T>);
    table.add("mad wide " + type, "d,s,s,s", add_product_wide<T>);
}

template <class T> void add_signed_rows(form_table &table, const std::string &type)
{
    table.add("neg " + type, "d,s", execute_unary<T, negate<T>>);
    table.add("abs " + type, "d,s", execute_unary<T, absolute<T>>);
}

} // namespace

void add_integer_forms(form_table &table)
{
    each_integer(
        [&](auto tag, const std::string &type) { add_rows<typename decltype(tag)::type>(table, type); });
    add_wide_rows<uint16_t>(table, "u16");
    add_wide_rows<int16_t>(table, "s16");
    add_wide_rows<uint32_t>(table, "u32");
    add_wide_rows<int32_t>(table, "s32");
    add_signed_rows<int16_t>(table, "s16");
    add_signed_rows<int32_t>(table, "s32");
    add_signed_rows<int64_t>(table, "s64");
    table.add("add sat s32", "d,s,s", execute_binary<int32_t, add_saturated>);
    table.add("sub sat s32", "d,s,s", execute_binary<int32_t, subtract_saturated>);
    table.add("dp4a u32 u32", "d,s,s,s", dot_4_bytes<uint8_t, uint8_t>);
    table.add("dp4a u32 s32", "d,s,s,s", dot_4_bytes<uint8_t, int8_t>);
    table.add("dp4a s32 u32", "d,s,s,s", dot_4_bytes<int8_t, uint8_t>);
    table.add("dp4a s32 s32", "d,s,s,s", dot_4_bytes<int8_t, int8_t>);
}

} // namespace ptx
