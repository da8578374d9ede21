// The best noisy score of a shard. The noise of most tokens is too small to win whatever its exact value,
// which the leading bits of its random word show: only the others get their logarithms. The words of 64
// tokens are made at once, in a form that compilers turn into vectors; they are those of oct_philox(), which
// the tests compare.
#include "runtime/sampling.h"

#include "runtime/sampling_law.h"

enum { BLOCK = 64, LANES = BLOCK / 4 };

// Philox4x32-10 for the counters of 16 blocks of four tokens, beginning with `block`; the constants are those
// of runtime/noise.c. words[i][j]: token 4 (block + j) + i.
static inline __attribute__((always_inline)) void make_words(uint32_t block, uint64_t position, uint64_t seed,
                                                             uint32_t words[4][LANES])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (uint32_t j = 0; j < LANES; j++) {
        words[0][j] = block + j;
        words[1][j] = 0;
        words[2][j] = (uint32_t)position;
        words[3][j] = (uint32_t)(position >> 32);
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        for (int j = 0; j < LANES; j++) {
            uint64_t a = (uint64_t)0xD2511F53u * words[0][j];
            uint64_t b = (uint64_t)0xCD9E8D57u * words[2][j];
            words[0][j] = (uint32_t)(b >> 32) ^ words[1][j] ^ k0;
            words[1][j] = (uint32_t)b;
            words[2][j] = (uint32_t)(a >> 32) ^ words[3][j] ^ k1;
            words[3][j] = (uint32_t)a;
        }
    }
}

// At least the noise of a word: −log1p(−v) >= v, and v >= 2^(e − 31) where word / 2, rounded to fp32, has the
// exponent e, but for a rounding up, which the last addend covers.
static inline float noise_bound(uint32_t word)
{
    float half = (float)(int32_t)(word >> 1);
    int32_t exponent = (int32_t)(oct_float_bits(half) >> 23) - 127; // −127 where half is 0
    return (float)(31 - exponent) * 0.6932f + 0.001f;
}

// Could one of 64 tokens have a score above `best`? The same fused operation as the score's, so that its
// rounding keeps the order.
static inline __attribute__((always_inline)) int any_could_win(const float *logits, uint32_t words[4][LANES],
                                                               float inverse, float best)
{
    float bounds[BLOCK];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < LANES; j++)
            bounds[4 * j + i] = noise_bound(words[i][j]);
    int any = 0;
    for (int t = 0; t < BLOCK; t++)
        any |= fmaf(logits[t], inverse, bounds[t]) > best;
    return any;
}

static void try_token(oct_best *best, int32_t token, float logit, float inverse, uint32_t word)
{
    if (!(fmaf(logit, inverse, noise_bound(word)) > best->score))
        return;
    float score = fmaf(logit, inverse, oct_gumbel(word));
    if (score > best->score)
        *best = (oct_best){token, score, oct_law_logit(logit)};
}

static inline __attribute__((always_inline)) void noisy_best(oct_best *best, const oct_sampling *s,
                                                             uint64_t position, const float *logits,
                                                             int32_t first, int32_t n)
{
    const float inverse = oct_sampling_inverse_temperature(s);
    const int64_t end = (int64_t)first + n;
    uint32_t words[4][LANES];
    for (int64_t begin = first / BLOCK * BLOCK; begin < end; begin += BLOCK) {
        make_words((uint32_t)(begin / 4), position, s->seed, words);
        int64_t from = begin < first ? first : begin, to = begin + BLOCK < end ? begin + BLOCK : end;
        if (to - from == BLOCK && !any_could_win(logits + (from - first), words, inverse, best->score))
            continue;
        for (int64_t token = from; token < to; token++)
            try_token(best, (int32_t)token, logits[token - first], inverse,
                      words[token % 4][(token - begin) / 4]);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void noisy_best_avx2(oct_best *best, const oct_sampling *s,
                                                                uint64_t position, const float *logits,
                                                                int32_t first, int32_t n)
{
    noisy_best(best, s, position, logits, first, n);
}
#endif

oct_best oct_law_noisy_best(const oct_sampling *s, uint64_t position, const float *logits, int32_t first,
                            int32_t n)
{
    oct_best best = {-1, -INFINITY, -INFINITY};
    if (n > 0)
        best = (oct_best){first, -INFINITY, oct_law_logit(logits[0])};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        noisy_best_avx2(&best, s, position, logits, first, n);
        return best;
    }
#endif
    noisy_best(&best, s, position, logits, first, n);
    return best;
}
