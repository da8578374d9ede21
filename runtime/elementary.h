// exp, log and log1p in fp32, as fixed sequences of fmaf and exact bit operations: the law that the vector
// versions (kernels/cpu/vector_math.h) repeat bit for bit. The same bits on every processor, compiler and C
// library; no table, no branch on the result's path. Errors against the exact values, measured over every
// argument by tests/unit/test_math.c: exp 0.95, log 0.95 and log1p 0.95 units in the last place.
//
// Denormal arguments and results are taken as zero, as everywhere in the kernels: the calling thread is
// expected to flush them (oct_cpu_enter_thread()), and nothing here depends on it.
//
// The coefficients: exp is its Taylor polynomial (next term 5.2e-9 where |r| <= ln 2 / 2); log(1 + f) is
// f − f²/2 + f³ P(f), P of degree 8 interpolating at the Chebyshev nodes of [−1/4, 1/2], rounded to fp32;
// reduction by ln 2 in two parts after Cody and Waite ("Software Manual for the Elementary Functions", 1980).
#ifndef OCT_RUNTIME_ELEMENTARY_H
#define OCT_RUNTIME_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef OCT_ELEMENTARY // the CUDA kernels compile them for the device too
#define OCT_ELEMENTARY static inline
#endif

#define OCT_EXP_LOG2E 0x1.715476p+0f
#define OCT_LN2_HIGH 0x1.62e4p-1f   // 17 bits: a product with an exponent is exact
#define OCT_LN2_LOW 0x1.7f7d1cp-20f // ln 2 − OCT_LN2_HIGH
#define OCT_EXP_ROUND 0x1.8p+23f    // adding it rounds to an integer, kept in the low mantissa bits
#define OCT_EXP_LIMIT 110.0f        // beyond it exp is 0 or infinite

#define OCT_EXP_C2 0x1.0p-1f
#define OCT_EXP_C3 0x1.555556p-3f
#define OCT_EXP_C4 0x1.555556p-5f
#define OCT_EXP_C5 0x1.111112p-7f
#define OCT_EXP_C6 0x1.6c16c2p-10f
#define OCT_EXP_C7 0x1.a01a02p-13f

#define OCT_LOG_P0 0x1.555556p-2f
#define OCT_LOG_P1 (-0x1.000026p-2f)
#define OCT_LOG_P2 0x1.999a56p-3f
#define OCT_LOG_P3 (-0x1.5536aap-3f)
#define OCT_LOG_P4 0x1.243704p-3f
#define OCT_LOG_P5 (-0x1.02da64p-3f)
#define OCT_LOG_P6 0x1.de70d4p-4f
#define OCT_LOG_P7 (-0x1.87a1eap-4f)
#define OCT_LOG_P8 0x1.5f350ep-5f
#define OCT_LOG_BIAS 0x3f400000 // bits of 0.75: mantissas are taken in [0.75, 1.5)

OCT_ELEMENTARY uint32_t oct_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

OCT_ELEMENTARY float oct_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// e^x. Infinity above 88.72, 0 below −87.34; NaN for NaN.
OCT_ELEMENTARY float oct_exp(float x)
{
    x = OCT_EXP_LIMIT < x ? OCT_EXP_LIMIT : x;
    x = -OCT_EXP_LIMIT > x ? -OCT_EXP_LIMIT : x;
    float rounded = fmaf(x, OCT_EXP_LOG2E, OCT_EXP_ROUND);
    float n = rounded - OCT_EXP_ROUND;
    int32_t k = (int32_t)(oct_float_bits(rounded) - oct_float_bits(OCT_EXP_ROUND));
    float r = fmaf(-n, OCT_LN2_LOW, fmaf(-n, OCT_LN2_HIGH, x));
    float p = fmaf(OCT_EXP_C7, r, OCT_EXP_C6);
    p = fmaf(p, r, OCT_EXP_C5);
    p = fmaf(p, r, OCT_EXP_C4);
    p = fmaf(p, r, OCT_EXP_C3);
    p = fmaf(p, r, OCT_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    // 2^k in two factors, so that neither leaves the range of normal numbers. A shift that keeps the sign is
    // what every compiler that builds Octet does, and test_math.c would notice another.
    int32_t half = (k >> 1);
    float low = oct_bits_float((uint32_t)(half + 127) << 23);
    float high = oct_bits_float((uint32_t)(k - half + 127) << 23);
    float y = p * low * high;
    return y < 0x1p-126f ? 0.0f : y;
}

// log(1 + f) + k · ln 2 for f in [−1/4, 1/2).
OCT_ELEMENTARY float oct_log_reduced(float f, float k)
{
    float p = fmaf(OCT_LOG_P8, f, OCT_LOG_P7);
    p = fmaf(p, f, OCT_LOG_P6);
    p = fmaf(p, f, OCT_LOG_P5);
    p = fmaf(p, f, OCT_LOG_P4);
    p = fmaf(p, f, OCT_LOG_P3);
    p = fmaf(p, f, OCT_LOG_P2);
    p = fmaf(p, f, OCT_LOG_P1);
    p = fmaf(p, f, OCT_LOG_P0);
    p = fmaf(p, f, -0.5f);
    float tail = fmaf(k, OCT_LN2_LOW, f * f * p);
    return fmaf(k, OCT_LN2_HIGH, f + tail);
}

// log x; −infinity for 0 and denormals, infinity for infinity, NaN for x < 0 and NaN.
OCT_ELEMENTARY float oct_log(float x)
{
    uint32_t exponent = (oct_float_bits(x) - OCT_LOG_BIAS) & 0xff800000u;
    float f = oct_bits_float(oct_float_bits(x) - exponent) - 1.0f;
    float y = oct_log_reduced(f, (float)((int32_t)exponent >> 23));
    if (!(x >= 0x1p-126f)) // zero, negative or not a number
        return x > -0x1p-126f ? -INFINITY : NAN;
    return x > 0x1.fffffep+127f ? x : y;
}

// log(1 + x), precise where x is small; −infinity for −1, infinity for infinity, NaN for x < −1 and NaN.
OCT_ELEMENTARY float oct_log1p(float x)
{
    float u = 1.0f + x;
    uint32_t exponent = (oct_float_bits(u) - OCT_LOG_BIAS) & 0xff800000u;
    // f = (1 + x) / 2^k − 1 with one rounding: the factor and (factor − 1) are exact where x is in [−1, 2^24]
    float factor = oct_bits_float(oct_float_bits(1.0f) - exponent);
    float f = fmaf(factor, x, factor - 1.0f);
    float y = oct_log_reduced(f, (float)((int32_t)exponent >> 23));
    if (!(u > 0.0f))
        return u == 0.0f ? -INFINITY : NAN;
    return u > 0x1.fffffep+127f ? u : y;
}

#endif
