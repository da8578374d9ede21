// Floating-point arithmetic (PTX ISA, 9.7.3 to 9.7.5): the IEEE operations bit for bit in every rounding
// mode, fused ones with one rounding. For the approximate ones (ex2, lg2, sin, cos, tanh, rsqrt, div.full,
// .approx) the host's function stands in, as it does in the emulated instructions: on a GPU their last bits
// differ.
#include "ptx_rounding.h"
#include "ptx_types.h"

namespace ptx
{

namespace
{

template <class T> T add(T a, T b)
{
    return a + b;
}
template <class T> T subtract(T a, T b)
{
    return a - b;
}
template <class T> T multiply(T a, T b)
{
    return a * b;
}
template <class T> T divide(T a, T b)
{
    return a / b;
}
template <class T> T add_product(T a, T b, T c)
{
    return std::fma(a, b, c);
}
template <class T> T negate(T a)
{
    return -a;
}
template <class T> T absolute(T a)
{
    return std::fabs(a);
}
template <class T> T reciprocal(T a)
{
    return T(1) / a;
}
template <class T> T square_root(T a)
{
    return std::sqrt(a);
}
template <class T> T sign_of_first(T a, T b)
{
    return std::copysign(b, a);
}
float reciprocal_root(float a)
{
    return 1.0f / std::sqrt(a);
}

// A NaN gives the other operand; −0 is less than +0.
template <class T> T minimum(T a, T b)
{
    if (a != a || b != b)
        return a != a ? b : a;
    return a < b || (a == b && std::signbit(a)) ? a : b;
}
template <class T> T maximum(T a, T b)
{
    if (a != a || b != b)
        return a != a ? b : a;
    return a > b || (a == b && !std::signbit(a)) ? a : b;
}
template <float (*OPERATION)(float, float)> float of_three(float a, float b, float c)
{
    return OPERATION(OPERATION(a, b), c);
}
// .NaN: a NaN wins.
template <float (*OPERATION)(float, float)> float or_nan(float a, float b)
{
    return a != a || b != b ? from_bits<float>(0x7fffffff) : OPERATION(a, b);
}

// The rows with modifiers: choice 0 is the rounding, 1 ftz, 2 sat.
template <class T> T finish(const instruction &i, T value)
{
    if (i.choice[1] != NO_CHOICE)
        value = static_cast<T>(flush(static_cast<float>(value)));
    return i.choice[2] != NO_CHOICE ? saturate(value) : value;
}
template <class T> T operand_value(const thread &t, const instruction &i, int which)
{
    T value = value_of<T>(t, i, which);
    return i.choice[1] != NO_CHOICE ? static_cast<T>(flush(static_cast<float>(value))) : value;
}
template <class T, T (*OPERATION)(T)> void execute_modified_unary(thread &t, const instruction &i)
{
    set_value(t, i, 0, finish(i, rounded<T>(i.choice[0], OPERATION, operand_value<T>(t, i, 1))));
}
template <class T, T (*OPERATION)(T, T)> void execute_modified_binary(thread &t, const instruction &i)
{
    T a = operand_value<T>(t, i, 1), b = operand_value<T>(t, i, 2);
    set_value(t, i, 0, finish(i, rounded<T>(i.choice[0], OPERATION, a, b)));
}
template <class T, T (*OPERATION)(T, T, T)> void execute_modified_ternary(thread &t, const instruction &i)
{
    T a = operand_value<T>(t, i, 1), b = operand_value<T>(t, i, 2), c = operand_value<T>(t, i, 3);
    set_value(t, i, 0, finish(i, rounded<T>(i.choice[0], OPERATION, a, b, c)));
}

// Two floats in a register of 64 bits. 1 to 3 operands of the same shape.
template <class Operation> void execute_pair(thread &t, const instruction &i, Operation operation)
{
    uint64_t result = 0;
    for (int half = 0; half < 2; half++) {
        float v[3] = {};
        for (int k = 1; k < i.operand_count; k++) {
            v[k - 1] = from_bits<float>(value_of<uint64_t>(t, i, k) >> (32 * half));
            v[k - 1] = i.choice[1] != NO_CHOICE ? flush(v[k - 1]) : v[k - 1];
        }
        float value = finish(i, rounded<float>(i.choice[0], operation, v[0], v[1], v[2]));
        result |= to_bits(value) << (32 * half);
    }
    set_value(t, i, 0, result);
}
void add_pair(thread &t, const instruction &i)
{
    execute_pair(t, i, [](float a, float b, float) { return a + b; });
}
void subtract_pair(thread &t, const instruction &i)
{
    execute_pair(t, i, [](float a, float b, float) { return a - b; });
}
void multiply_pair(thread &t, const instruction &i)
{
    execute_pair(t, i, [](float a, float b, float) { return a * b; });
}
void add_product_pair(thread &t, const instruction &i)
{
    execute_pair(t, i, [](float a, float b, float c) { return std::fma(a, b, c); });
}

template <class T> void add_rows(form_table &table, const std::string &type)
{
    // Without modifiers but "to nearest" the plain functions do, and most instructions are of this kind.
    table.add("add rn? " + type, "d,s,s", execute_binary<T, add<T>>);
    table.add("sub rn? " + type, "d,s,s", execute_binary<T, subtract<T>>);
    table.add("mul rn? " + type, "d,s,s", execute_binary<T, multiply<T>>);
    table.add("fma rn " + type, "d,s,s,s", execute_ternary<T, add_product<T>>);
    table.add("div rn " + type, "d,s,s", execute_binary<T, divide<T>>);
    table.add("rcp rn " + type, "d,s", execute_unary<T, reciprocal<T>>);
    table.add("sqrt rn " + type, "d,s", execute_unary<T, square_root<T>>);
    std::string modified = type == "f32" ? " <rn|rz|rm|rp>? <ftz>? <sat>? f32" : " <rn|rz|rm|rp>? f64";
    table.add("add" + modified, "d,s,s", execute_modified_binary<T, add<T>>);
    table.add("sub" + modified, "d,s,s", execute_modified_binary<T, subtract<T>>);
    table.add("mul" + modified, "d,s,s", execute_modified_binary<T, multiply<T>>);
    table.add("fma" + modified, "d,s,s,s", execute_modified_ternary<T, add_product<T>>);
    table.add("mad" + modified, "d,s,s,s", execute_modified_ternary<T, add_product<T>>);
    std::string rounded = type == "f32" ? " <rn|rz|rm|rp> <ftz>? f32" : " <rn|rz|rm|rp> f64";
    table.add("div" + rounded, "d,s,s", execute_modified_binary<T, divide<T>>);
    table.add("rcp" + rounded, "d,s", execute_modified_unary<T, reciprocal<T>>);
    table.add("sqrt" + rounded, "d,s", execute_modified_unary<T, square_root<T>>);
    table.add("neg " + type, "d,s", execute_unary<T, negate<T>>);
    table.add("abs " + type, "d,s", execute_unary<T, absolute<T>>);
    table.add("min " + type, "d,s,s", execute_binary<T, minimum<T>>);
    table.add("max " + type, "d,s,s", execute_binary<T, maximum<T>>);
    table.add("copysign " + type, "d,s,s", execute_binary<T, sign_of_first<T>>);
}

// Choice 0 is "approx" or "full", which round as they like; 1 is ftz.
void add_approximate_rows(form_table &table)
{
    table.add("div <approx|full> <ftz>? f32", "d,s,s", execute_modified_binary<float, divide<float>>);
    table.add("rcp <approx> <ftz>? f32", "d,s", execute_modified_unary<float, reciprocal<float>>);
    table.add("sqrt <approx> <ftz>? f32", "d,s", execute_modified_unary<float, square_root<float>>);
    table.add("rsqrt <approx> <ftz>? f32", "d,s", execute_modified_unary<float, reciprocal_root>);
    table.add("ex2 <approx> <ftz>? f32", "d,s", execute_modified_unary<float, exp2f>);
    table.add("lg2 <approx> <ftz>? f32", "d,s", execute_modified_unary<float, log2f>);
    table.add("sin <approx> <ftz>? f32", "d,s", execute_modified_unary<float, sinf>);
    table.add("cos <approx> <ftz>? f32", "d,s", execute_modified_unary<float, cosf>);
    table.add("tanh <approx> f32", "d,s", execute_modified_unary<float, tanhf>);
}

} // namespace

void add_float_forms(form_table &table)
{
    each_float(
        [&](auto tag, const std::string &type) { add_rows<typename decltype(tag)::type>(table, type); });
    add_approximate_rows(table);
    table.add("min f32", "d,s,s,s", execute_ternary<float, of_three<minimum<float>>>);
    table.add("max f32", "d,s,s,s", execute_ternary<float, of_three<maximum<float>>>);
    table.add("min NaN f32", "d,s,s", execute_binary<float, or_nan<minimum<float>>>);
    table.add("max NaN f32", "d,s,s", execute_binary<float, or_nan<maximum<float>>>);
    table.add("add <rn|rz|rm|rp>? <ftz>? f32x2", "d,s,s", add_pair);
    table.add("sub <rn|rz|rm|rp>? <ftz>? f32x2", "d,s,s", subtract_pair);
    table.add("mul <rn|rz|rm|rp>? <ftz>? f32x2", "d,s,s", multiply_pair);
    table.add("fma <rn|rz|rm|rp> <ftz>? f32x2", "d,s,s,s", add_product_pair);
}

} // namespace ptx
