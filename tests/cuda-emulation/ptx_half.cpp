// Arithmetic of f16 and bf16, alone or in pairs (PTX ISA, 9.7.4): computed in double and rounded once, to
// nearest.
#include "ptx_rounding.h"
#include "ptx_types.h"

namespace ptx
{

namespace
{

enum operation { ADD, SUBTRACT, MULTIPLY, ADD_PRODUCT, NEGATE, ABSOLUTE, MINIMUM, MAXIMUM };

// Sums of two and products of two 16-bit floats fit a double, or are beyond its last bit (see
// add_product_to_odd()).
double in_double(operation what, double a, double b, double c)
{
    switch (what) {
    case ADD:
        return add_product_to_odd(1, a, b);
    case SUBTRACT:
        return add_product_to_odd(1, a, -b);
    case MULTIPLY:
        return a * b;
    default:
        return add_product_to_odd(a, b, c);
    }
}

uint16_t minimum_or_maximum(operation what, uint16_t a, uint16_t b, double x, double y)
{
    if (std::isnan(x) || std::isnan(y))
        return std::isnan(x) && std::isnan(y) ? HALF_NAN : std::isnan(x) ? b : a;
    bool first_is_less = x < y || (x == y && std::signbit(x));
    return first_is_less == (what == MINIMUM) ? a : b;
}

uint16_t in_half(operation what, half_format format, uint16_t a, uint16_t b, uint16_t c)
{
    double x = half_value(a, format), y = half_value(b, format), z = half_value(c, format);
    switch (what) {
    case NEGATE:
        return a ^ 0x8000;
    case ABSOLUTE:
        return a & 0x7fff;
    case MINIMUM:
    case MAXIMUM:
        return minimum_or_maximum(what, a, b, x, y);
    default:
        return half_bits(in_double(what, x, y, z), format, NEAREST);
    }
}

// Choice 0: relu, which makes negative results and NaN +0.
template <operation WHAT, bool IS_BF16, int COUNT> void execute(thread &t, const instruction &i)
{
    uint32_t operands[3] = {}, result = 0;
    for (int k = 1; k < i.operand_count; k++)
        operands[k - 1] = value_of<uint32_t>(t, i, k);
    for (int half = 0; half < 16 * COUNT; half += 16) {
        uint16_t made =
            in_half(WHAT, IS_BF16 ? BF16 : F16, static_cast<uint16_t>(operands[0] >> half),
                    static_cast<uint16_t>(operands[1] >> half), static_cast<uint16_t>(operands[2] >> half));
        if (i.choice[0] != NO_CHOICE && (made & 0x8000 || made == HALF_NAN))
            made = 0;
        result |= static_cast<uint32_t>(made) << half;
    }
    set_value(t, i, 0, result);
}

template <bool IS_BF16, int COUNT> void add_rows(form_table &table, const std::string &type)
{
    table.add("add rn? " + type, "d,s,s", execute<ADD, IS_BF16, COUNT>);
    table.add("sub rn? " + type, "d,s,s", execute<SUBTRACT, IS_BF16, COUNT>);
    table.add("mul rn? " + type, "d,s,s", execute<MULTIPLY, IS_BF16, COUNT>);
    table.add("fma rn <relu>? " + type, "d,s,s,s", execute<ADD_PRODUCT, IS_BF16, COUNT>);
    table.add("neg " + type, "d,s", execute<NEGATE, IS_BF16, COUNT>);
    table.add("abs " + type, "d,s", execute<ABSOLUTE, IS_BF16, COUNT>);
    table.add("min " + type, "d,s,s", execute<MINIMUM, IS_BF16, COUNT>);
    table.add("max " + type, "d,s,s", execute<MAXIMUM, IS_BF16, COUNT>);
}

} // namespace

void add_half_forms(form_table &table)
{
    add_rows<false, 1>(table, "f16");
    add_rows<false, 2>(table, "f16x2");
    add_rows<true, 1>(table, "bf16");
    add_rows<true, 2>(table, "bf16x2");
}

} // namespace ptx
