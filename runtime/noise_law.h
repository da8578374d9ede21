// Philox4x32-10 and the Gumbel noise of a word as inline functions: runtime/noise.c gives them their names, the CUDA
// kernels compile them for the device. See runtime/noise.h.
#ifndef OCT_RUNTIME_NOISE_LAW_H
#define OCT_RUNTIME_NOISE_LAW_H

#include "runtime/elementary.h"

// The constants of Philox4x32 (Salmon et al. 2011, table 2 and section 3.3).
#define PHILOX_MULTIPLIER_0 0xD2511F53u
#define PHILOX_MULTIPLIER_1 0xCD9E8D57u
#define PHILOX_WEYL_0 0x9E3779B9u
#define PHILOX_WEYL_1 0xBB67AE85u
#define PHILOX_ROUNDS 10

OCT_ELEMENTARY void oct_law_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t a = (uint64_t)PHILOX_MULTIPLIER_0 * c0;
        uint64_t b = (uint64_t)PHILOX_MULTIPLIER_1 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += PHILOX_WEYL_0;
        k1 += PHILOX_WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

OCT_ELEMENTARY float oct_law_gumbel(uint32_t word)
{
    // word + 0.5 has 33 bits and is rounded once: both parts and the product with 65536 are exact
    float high = (float)(int32_t)(word >> 16), low = (float)(int32_t)(word & 0xffff) + 0.5f;
    float v = fmaf(high, 65536.0f, low) * 0x1p-32f;
    return -oct_log(-oct_log1p(-v));
}

#endif
