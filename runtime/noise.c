// Philox4x32-10 and the Gumbel noise made of it: the scalar law.
#include "runtime/noise.h"

#include "runtime/noise_law.h"

void oct_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    oct_law_philox(counter, key, out);
}

float oct_gumbel(uint32_t word)
{
    return oct_law_gumbel(word);
}

float oct_noise(uint64_t seed, uint64_t position, int32_t token)
{
    uint32_t counter[4] = {(uint32_t)token / 4, 0, (uint32_t)position, (uint32_t)(position >> 32)};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    oct_philox(counter, key, words);
    return oct_gumbel(words[(uint32_t)token % 4]);
}
