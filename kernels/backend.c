// The kinds of backends that this program is built with.
#include "kernels/backend.h"

#include <string.h>

static const oct_backend_kind *const kinds[] = {
#if defined(OCT_HAVE_CUDA)
    &oct_cuda_backend_kind,
#endif
    &oct_cpu_backend_kind,
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

const oct_backend_kind *oct_backend_kind_at(int32_t i)
{
    return i < KINDS ? kinds[i] : NULL;
}

const oct_backend_kind *oct_backend_find(const char *name)
{
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    return NULL;
}
