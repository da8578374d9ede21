// Counter-based Gumbel noise for sampling: the noise of a token at a position is a function of the seed, the
// position and the token alone.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with counter
// (token / 4 low, token / 4 high = 0, position low, position high) and key (seed low, seed high); the word
// r = output[token mod 4]; v = (r + 0.5) · 2^-32 rounded to fp32; noise = −log(−log1p(−v)), and −inf where v
// rounds to 1: precise where v is small, which is where the winners are.
#ifndef OCT_RUNTIME_NOISE_H
#define OCT_RUNTIME_NOISE_H

#include <stdint.h>

// The four words of one Philox4x32-10 block.
void oct_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// The noise of one word; the scalar law that vector versions repeat bit for bit.
float oct_gumbel(uint32_t word);

// The noise of one token.
float oct_noise(uint64_t seed, uint64_t position, int32_t token);

#endif
