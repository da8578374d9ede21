// Roundings that C++ has no types for: directed modes, 16-bit formats, flushed denormals.
#ifndef OCT_TESTS_PTX_ROUNDING_H
#define OCT_TESTS_PTX_ROUNDING_H

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace ptx
{

// In the order of <rn|rz|rm|rp> and <rni|rzi|rmi|rpi> in patterns; NO_CHOICE (−1) is to nearest even.
enum rounding { NEAREST, TO_ZERO, DOWN, UP };

// Calculates `operation(operands…)` in a direction. Volatile keeps the compiler from moving it out of the
// mode.
template <class T, class Operation, class... Operands>
T rounded(int mode, Operation operation, Operands... operands)
{
    if (mode <= NEAREST)
        return static_cast<T>(operation(operands...));
    static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    fesetround(modes[mode]);
    volatile T result = [&](volatile Operands... reread) {
        return static_cast<T>(operation(Operands(reread)...));
    }(operands...);
    fesetround(FE_TONEAREST);
    return result;
}

// A denormal becomes a zero of its sign (.ftz).
inline float flush(float value)
{
    return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value;
}

// .sat: to [0, 1]; NaN becomes +0.
template <class T> T saturate(T value)
{
    return value > T(0) ? value < T(1) ? value : T(1) : T(0);
}

// A float of 16 bits: sign, exponent, mantissa; the largest exponent is infinity and NaN.
struct half_format {
    int exponent_bits, mantissa_bits;
};
constexpr half_format F16 = {5, 10};
constexpr half_format BF16 = {8, 7};
constexpr uint16_t HALF_NAN = 0x7fff; // what operations on both give for NaN

// Exact.
double half_value(uint16_t bits, half_format format);
// Rounds once. What is too large becomes infinity, or the largest number where the mode points away from
// infinity.
uint16_t half_bits(double value, half_format format, int mode);

// a b + c with the last bit set where it is not exact: rounding this again to fewer bits gives what one
// rounding would have (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms
// using rounding to odd", IEEE Transactions on Computers 57(4), 2008). a and b have at most 26 bits.
double add_product_to_odd(double a, double b, double c);

} // namespace ptx

#endif
