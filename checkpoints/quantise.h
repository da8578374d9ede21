// Quantisers: fp32 weights to the codes of an integer encoding. Scales and minima are chosen by least squares:
// what they minimise is the sum of the squared differences between the weights and what will be decoded. Weights
// that are not finite count as zero, those beyond what the encoding can express as the farthest that it can. What
// comes out depends on the weights alone.
#ifndef OCT_CHECKPOINTS_QUANTISE_H
#define OCT_CHECKPOINTS_QUANTISE_H

#include <stdint.h>

// Quantises `count` groups of 32 weights symmetrically to codes of `bits` bits (8 or 4) with zero 2^(bits − 1):
// writes codes [count][32] and the bits of the f16 scales [count]. 8 bits: scale = largest magnitude / 127. 4
// bits: from several scales around largest magnitude / 8 (of either sign, so that the largest weight may take the
// code 0) codes and scale are improved in turn; the scale with the smallest error wins. Codes are rounded to
// nearest even for the scale as f16 holds it. LOCAL.
void oct_quantise_groups(const float *weights, int64_t count, int bits, uint8_t *codes, uint16_t *scales);

// What up to 256 columns of a row have in q2_k or q2: scale D · S and minimum M · T of each group.
typedef struct oct_quantised_pair {
    uint16_t d, m;                  // bits of the f16 numbers; D >= 0, M of either sign
    uint8_t scales[16], minima[16]; // the factors S and T, 0…15; 16 groups, or 8
    uint8_t codes[256];             // 0…3
} oct_quantised_pair;

// Quantises `columns` weights (at most 256, a multiple of 32) in groups of `size`: 16 (q2_k) or 32 (q2). What lies
// behind them in `out` is zero.
// First each group's own best scale and minimum, by least squares from several starts; then, in turn, the factors
// and codes that are best for D and M as f16 holds them, and the D and M that are best for these. LOCAL.
void oct_quantise_pair(const float *weights, int columns, int size, oct_quantised_pair *out);

#endif
