// XXH3-64 through libxxhash's dispatch where it was built with one: its plain entry points take SSE2, which is less
// than a third as fast as AVX-512 and would cost a quarter of the loading rate.
#include "checkpoints/checksum.h"

#ifdef OCT_HAVE_XXHASH_DISPATCH
#include <xxh_x86dispatch.h> // gives XXH3_64bits and XXH3_64bits_update this meaning

// The dispatch (seen with 0.8.1) returns with the upper halves of the vector registers in use, which makes every
// SSE instruction after it wait for them: measured, 2.6 times the time.
__attribute__((target("avx"))) static void clear_upper_halves(void)
{
    __builtin_ia32_vzeroupper();
}

static void leave(void)
{
    if (__builtin_cpu_supports("avx"))
        clear_upper_halves();
}
#else
static void leave(void)
{
}
#endif

uint64_t oct_checksum(const void *bytes, size_t size)
{
    const uint64_t sum = XXH3_64bits(bytes, size);
    leave();
    return sum;
}

void oct_checksum_update(XXH3_state_t *stream, const void *bytes, size_t size)
{
    XXH3_64bits_update(stream, bytes, size);
    leave();
}
