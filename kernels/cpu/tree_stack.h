// The stack of a reduction tree inside a dot product (oct_dot of kernels.h): the sums of a few strips for the columns
// of a pass, a level for each value that is not merged yet. Each table compiles this with its own flags.
#ifndef OCT_KERNELS_CPU_TREE_STACK_H
#define OCT_KERNELS_CPU_TREE_STACK_H

#include <string.h>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/traits.h"

// Replaces `merges` times the two top levels of `top` by (lower + upper); returns how many are left. A level has
// `level` floats.
OCT_INLINE int32_t oct_tree_merge(float *stack, size_t level, int32_t top, int32_t merges)
{
    for (; merges > 0; merges--, top--) {
        float *lower = stack + (size_t)(top - 2) * level;
        const float *upper = lower + level;
        for (size_t i = 0; i < level; i++)
            lower[i] = lower[i] + upper[i];
    }
    return top;
}

// Copies the nodes that are left of one strip to `out`: stack points to the strip's 16 rows of the first column in the
// first level, the next column's are `column` floats further.
OCT_INLINE void oct_tree_store(const oct_dot *dot, const float *stack, size_t level, size_t column, int32_t columns,
                               float *out)
{
    for (int32_t node = 0; node < dot->nodes; node++)
        for (int32_t c = 0; c < columns; c++)
            memcpy(out + (size_t)node * dot->node_stride + (size_t)c * dot->out_stride,
                   stack + (size_t)node * level + (size_t)c * column, OCT_TILE_ROWS * sizeof *out);
}

#endif
