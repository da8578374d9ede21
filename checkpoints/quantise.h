// Quantisers: fp32 weights to the codes of an integer encoding.
#ifndef OCT_CHECKPOINTS_QUANTISE_H
#define OCT_CHECKPOINTS_QUANTISE_H

#include <stdint.h>

// Quantises a group of 32 weights symmetrically to codes of `bits` bits (8 or 4) with zero 2^(bits − 1) and
// writes codes [32]; returns the bits of the f16 scale. 8 bits: scale = largest magnitude / 127. 4 bits: of
// some scales around largest magnitude / 8 (of either sign, so that the largest weight may take the code 0),
// each refined by least squares, the one with the smallest squared error. Codes are rounded to nearest even
// for the scale as f16 holds it; weights that are not finite count as zero. LOCAL.
uint16_t oct_quantise_group(const float *weights, int bits, uint8_t *codes);

#endif
