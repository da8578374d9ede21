// exp, log, log1p and the Gumbel noise over 16 lanes: the steps of runtime/elementary.h and runtime/noise.c
// one by one, so that every lane has their bits. Include lanes_….h first.
#ifndef OCT_KERNELS_CPU_VECTOR_MATH_H
#define OCT_KERNELS_CPU_VECTOR_MATH_H

#include "runtime/elementary.h"

OCT_INLINE lanes lanes_exp(lanes x)
{
    lanes one = lanes_set(1.0f), round = lanes_set(OCT_EXP_ROUND);
    x = lanes_min(lanes_set(OCT_EXP_LIMIT), x); // the second operand where x is NaN
    x = lanes_max(lanes_set(-OCT_EXP_LIMIT), x);
    lanes rounded = lanes_fma(x, lanes_set(OCT_EXP_LOG2E), round);
    lanes n = lanes_sub(rounded, round);
    lanes_int k = lanes_int_sub(lanes_bits(rounded), lanes_bits(round));
    lanes r = lanes_fnma(n, lanes_set(OCT_LN2_LOW), lanes_fnma(n, lanes_set(OCT_LN2_HIGH), x));
    lanes p = lanes_fma(lanes_set(OCT_EXP_C7), r, lanes_set(OCT_EXP_C6));
    p = lanes_fma(p, r, lanes_set(OCT_EXP_C5));
    p = lanes_fma(p, r, lanes_set(OCT_EXP_C4));
    p = lanes_fma(p, r, lanes_set(OCT_EXP_C3));
    p = lanes_fma(p, r, lanes_set(OCT_EXP_C2));
    p = lanes_fma(p, r, one);
    p = lanes_fma(p, r, one);
    lanes_int half = lanes_int_right(k, 1), bias = lanes_int_set(127);
    lanes low = lanes_from_bits(lanes_int_left(lanes_int_add(half, bias), 23));
    lanes high = lanes_from_bits(lanes_int_left(lanes_int_add(lanes_int_sub(k, half), bias), 23));
    lanes y = lanes_mul(lanes_mul(p, low), high);
    return lanes_select(lanes_less(y, lanes_set(0x1p-126f)), lanes_set(0.0f), y);
}

OCT_INLINE lanes lanes_log_reduced(lanes f, lanes k)
{
    lanes p = lanes_fma(lanes_set(OCT_LOG_P8), f, lanes_set(OCT_LOG_P7));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P6));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P5));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P4));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P3));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P2));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P1));
    p = lanes_fma(p, f, lanes_set(OCT_LOG_P0));
    p = lanes_fma(p, f, lanes_set(-0.5f));
    lanes tail = lanes_fma(k, lanes_set(OCT_LN2_LOW), lanes_mul(lanes_mul(f, f), p));
    return lanes_fma(k, lanes_set(OCT_LN2_HIGH), lanes_add(f, tail));
}

OCT_INLINE lanes_int lanes_log_exponent(lanes x)
{
    return lanes_int_and(lanes_int_sub(lanes_bits(x), lanes_int_set(OCT_LOG_BIAS)),
                         lanes_int_set((int32_t)0xff800000));
}

// −log(−log1p(−v)) of v = (word + 0.5) · 2^-32 rounded once. Both logarithms get arguments inside their range
// but for v = 1, where log1p is −infinity and the noise too: the one special case that is left of the scalar
// functions.
OCT_INLINE lanes lanes_gumbel(lanes_int word)
{
    lanes one = lanes_set(1.0f);
    lanes high = lanes_from_int(lanes_int_right_zero(word, 16));
    lanes low = lanes_add(lanes_from_int(lanes_int_and(word, lanes_int_set(0xffff))), lanes_set(0.5f));
    lanes v = lanes_mul(lanes_fma(high, lanes_set(65536.0f), low), lanes_set(0x1p-32f));
    lanes x = lanes_negate(v), u = lanes_add(one, x);
    lanes_int exponent = lanes_log_exponent(u);
    lanes factor = lanes_from_bits(lanes_int_sub(lanes_bits(one), exponent));
    lanes f = lanes_fma(factor, x, lanes_sub(factor, one));
    lanes e = lanes_negate(lanes_log_reduced(f, lanes_from_int(lanes_int_right(exponent, 23))));
    exponent = lanes_log_exponent(e);
    f = lanes_sub(lanes_from_bits(lanes_int_sub(lanes_bits(e), exponent)), one);
    lanes y = lanes_negate(lanes_log_reduced(f, lanes_from_int(lanes_int_right(exponent, 23))));
    return lanes_select(lanes_less(lanes_set(0.0f), u), y, lanes_set(-INFINITY));
}

#endif
