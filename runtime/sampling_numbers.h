// What the sampling law computes of one logit: its value, its place in the order of tokens, its mass. Inline functions
// for the files of the law and for the CUDA kernels, which compile them for the device. See runtime/sampling.h.
#ifndef OCT_RUNTIME_SAMPLING_NUMBERS_H
#define OCT_RUNTIME_SAMPLING_NUMBERS_H

#include "runtime/elementary.h"

// A logit as the law takes it: NaN counts as −infinity, −0 as 0.
OCT_ELEMENTARY float oct_law_logit(float logit)
{
    return logit == logit ? logit + 0.0f : -INFINITY;
}

// The order of tokens as one number: logit descending and token ascending is key descending. Keys of
// different tokens differ.
OCT_ELEMENTARY uint64_t oct_law_key(float logit, int32_t token)
{
    float value = oct_law_logit(logit);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)bits << 32 | (uint32_t)~token;
}

OCT_ELEMENTARY float oct_law_key_logit(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

OCT_ELEMENTARY int32_t oct_law_key_token(uint64_t key)
{
    return (int32_t) ~(uint32_t)key;
}

// rint(e · 2^40) for e in [0, 1]: adding 1.5 · 2^52 rounds to a whole number, to nearest even, and leaves it
// in the low bits; vectors have no conversion from floating point to 64-bit integers before AVX-512.
OCT_ELEMENTARY int64_t oct_law_round_mass(float e)
{
    double shifted = (double)e * 0x1p40 + 0x1.8p52;
    int64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4338000000000000;
}

// At −80 and below, and where it is not a number, the mass is 0; without a branch, for vectors.
OCT_ELEMENTARY float oct_law_exponent(float logit, float maximum, float inverse)
{
    float exponent = (logit - maximum) * inverse;
    return exponent > -80.0f ? exponent : -80.0f;
}

OCT_ELEMENTARY int64_t oct_law_mass(float logit, float maximum, float inverse)
{
    return oct_law_round_mass(oct_exp(oct_law_exponent(logit, maximum, inverse)));
}

#endif
