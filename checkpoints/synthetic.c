#include "checkpoints/source.h"
static const char *const shapes[] = {NULL};
const char *const *oct_synthetic_shapes(void)
{
    return shapes;
}
const char *oct_synthetic_summary(int i)
{
    (void)i;
    return "";
}
oct_status oct_source_open_synthetic(oct_source *s, const char *shape, double scale)
{
    (void)s;
    (void)shape;
    (void)scale;
    return OCT_ERR_USAGE;
}
