// planted_bugs BUG: runs the example that the bug is planted in. Code 0: its result is right, 1: it is wrong;
// whatever else sees the bug ends the process in its own way. Without an argument: the names of all bugs.
#include "test_support.h"

static const struct {
    const char *name, *example;
} bugs[BUG_COUNT] = {
    {"none", nullptr},
    {"no-barrier", "scale_rows"},
    {"divergent-barrier", "scale_rows"},
    {"shared-bounds", "scale_rows"},
    {"unwritten-shared", "scale_rows"},
    {"waits-for-more", "scale_rows"},
    {"global-bounds", "matrix_vector"},
    {"left-collective", "matrix_vector"},
    {"misaligned", "matrix_vector"},
    {"no-warp-barrier", "matrix_vector_ring"},
    {"more-arrivals", "matrix_vector_ring"},
    {"no-init", "matrix_vector_ring"},
    {"not-awaited", "matrix_vector_ring"},
    {"no-grid-barrier", "two_phases"},
    {"not-cooperative", "two_phases"},
    {"no-fence", "sum_by_last_block"},
    {"waits-for-fewer", "matrix_product"},
    {"left-copy", "matrix_product"},
    {"fragment-order", "matrix_product"},
    {"early-read", "chain"},
    {"early-write", "chain"},
    {"early-copy", "chain"},
    {"no-wait", "chain"},
};

int main(int count, char **arguments)
{
    for (int bug = 0; bug < BUG_COUNT; bug++) {
        if (count < 2)
            puts(bugs[bug].name);
        else if (!strcmp(arguments[1], bugs[bug].name)) {
            bool good = true;
            for (const Example &example : examples)
                for (int shape = 0; shape < 2; shape++)
                    if (!bugs[bug].example || !strcmp(bugs[bug].example, example.name))
                        good &= example.run((Bug)bug, shape).good();
            return good ? 0 : 1;
        }
    }
    return count < 2 ? 0 : 2;
}
