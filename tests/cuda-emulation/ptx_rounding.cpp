// 16-bit floats, and sums that can be rounded a second time.
#include "ptx_rounding.h"

namespace ptx
{

double half_value(uint16_t bits, half_format format)
{
    int exponent = bits >> format.mantissa_bits & ((1 << format.exponent_bits) - 1);
    int mantissa = bits & ((1 << format.mantissa_bits) - 1);
    int bias = (1 << (format.exponent_bits - 1)) - 1;
    double magnitude;
    if (exponent == (1 << format.exponent_bits) - 1)
        magnitude = mantissa ? NAN : INFINITY;
    else if (exponent)
        magnitude =
            std::ldexp((1 << format.mantissa_bits) + mantissa, exponent - bias - format.mantissa_bits);
    else
        magnitude = std::ldexp(mantissa, 1 - bias - format.mantissa_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

// Whether a number with this fraction of a unit in the last place goes to the next larger magnitude.
static bool rounds_away(double fraction, bool odd, bool negative, int mode)
{
    switch (mode) {
    case TO_ZERO:
        return false;
    case DOWN:
        return negative && fraction > 0;
    case UP:
        return !negative && fraction > 0;
    default:
        return fraction > 0.5 || (fraction == 0.5 && odd);
    }
}

uint16_t half_bits(double value, half_format format, int mode)
{
    if (std::isnan(value))
        return HALF_NAN;
    bool negative = std::signbit(value);
    int bias = (1 << (format.exponent_bits - 1)) - 1;
    uint32_t infinity = ((1u << format.exponent_bits) - 1) << format.mantissa_bits;
    uint32_t sign = negative ? 0x8000 : 0, magnitude = infinity;
    if (!std::isinf(value)) {
        int exponent, least = 1 - bias - format.mantissa_bits; // of a unit in the last place
        std::frexp(value, &exponent);
        int unit = exponent - 1 - format.mantissa_bits;
        unit = value == 0 || unit < least ? least : unit;
        double scaled = std::ldexp(std::fabs(value), -unit), whole = std::floor(scaled);
        uint64_t units = static_cast<uint64_t>(whole);
        units += rounds_away(scaled - whole, units & 1, negative, mode);
        // A normal number's leading bit counts as one more exponent, and so does a carry.
        uint64_t encoded = units ? (static_cast<uint64_t>(unit - least) << format.mantissa_bits) + units : 0;
        bool finite_only = mode == TO_ZERO || (mode == DOWN && !negative) || (mode == UP && negative);
        magnitude = encoded < infinity ? static_cast<uint32_t>(encoded) : infinity - finite_only;
    }
    return static_cast<uint16_t>(sign | magnitude);
}

double add_product_to_odd(double a, double b, double c)
{
    double product = a * b, sum = product + c;
    if (!std::isfinite(sum))
        return sum;
    // The error of the sum, exactly (Knuth's TwoSum; Møller 1965).
    double c_part = sum - product, error = (product - (sum - c_part)) + (c - c_part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (error != 0 && !(bits & 1))
        sum = std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
    return sum;
}

} // namespace ptx
