// exp over 16 lanes: the steps of runtime/elementary.h one by one, so that every lane has its bits. Include lanes_….h
// first.
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

#endif
