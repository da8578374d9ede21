// The choice between q2_k and q2: the kinds of matrices in a fixed order, and the sizes that layout.h tells.
#include "checkpoints/two_bits.h"

#include <string.h>

#include "checkpoints/layout.h"

// From what loses least by q2 for the bits that it saves to what loses most, measured on SmolLM2 (docs/performance.md).
static const char *const kinds[] = {"down", "gate", "up", "o", "q", "embedding", "head", "v", "k"};

static bool is_kind(const oct_tensor_spec *spec, const char *kind)
{
    const char *dot = strrchr(spec->name, '.');
    return spec->split != OCT_SPLIT_NONE && strcmp(dot ? dot + 1 : spec->name, kind) == 0;
}

static double bits_a_weight(const oct_tensor_spec *specs, int32_t count, const oct_encoding *encodings)
{
    double bits = 0, weights = 0;
    for (int32_t i = 0; i < count; i++) {
        if (specs[i].split == OCT_SPLIT_NONE)
            continue;
        bits += 8 * (double)oct_matrix_bytes(&specs[i], encodings[i], NULL);
        weights += (double)specs[i].rows * (double)specs[i].columns;
    }
    return bits / weights;
}

void oct_two_bits_choose(const oct_tensor_spec *specs, int32_t count, oct_encoding *encodings)
{
    for (int32_t i = 0; i < count; i++)
        if (specs[i].split != OCT_SPLIT_NONE)
            encodings[i] = OCT_Q2_K;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (bits_a_weight(specs, count, encodings) <= OCT_TWO_BITS_MOST)
            return;
        for (int32_t i = 0; i < count; i++)
            if (is_kind(&specs[i], kinds[k]))
                encodings[i] = OCT_Q2;
    }
}
