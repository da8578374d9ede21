// Shared memory of blocks: each object has memory of its own, exactly as long as it is, filled with 0xff
// bytes (NaN as a float or a bf16, -1 as an integer), so that what a kernel forgets to write shows in its
// results, and surrounded by bytes that AddressSanitizer guards.
#include <cstdlib>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "grid.h"
#include "sanitizers.h"

namespace cuda_emulation
{
static size_t round_up(size_t bytes)
{
    return (bytes + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
}

void *memory_never_used(size_t bytes)
{
    enum { CHUNK = 1 << 30 };
    static char *next, *end;
    bytes = round_up(bytes);
    if (next + bytes > end) {
        size_t chunk = bytes > CHUNK ? bytes : (size_t)CHUNK;
        // Not mmap(): ThreadSanitizer would watch the call and touch the shadow of the whole range.
        next = (char *)syscall(SYS_mmap, nullptr, chunk, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (next == MAP_FAILED)
            die("no memory: %zu bytes", chunk);
        end = next + chunk;
    }
    void *at = next;
    next += bytes;
    return at;
}

void *shared_memory_create(size_t bytes)
{
    // ThreadSanitizer would see the next block race with the last one if both had the same addresses.
    void *at =
        sanitizers::thread() ? memory_never_used(bytes) : aligned_alloc(SHARED_ALIGNMENT, round_up(bytes));
    if (!at)
        die("no memory: %zu bytes of shared memory", bytes);
    for (size_t i = 0; i < bytes; i++)
        ((volatile unsigned char *)at)[i] = 0xff;
    sanitizers::forbid((char *)at + bytes, round_up(bytes) - bytes);
    return at;
}

void shared_memory_destroy(void *at, size_t bytes)
{
    sanitizers::allow(at, round_up(bytes));
    if (!sanitizers::thread())
        free(at);
}

void *shared(const void *tag, size_t bytes, size_t alignment)
{
    if (alignment > SHARED_ALIGNMENT)
        die("shared memory aligned to %zu bytes: at most %d", alignment, (int)SHARED_ALIGNMENT);
    Block *block = cur->block;
    for (int i = 0; i < block->shared_objects; i++)
        if (block->shared_object[i].tag == tag)
            return block->shared_object[i].at;
    if (block->shared_objects == SHARED_OBJECTS_MAX)
        die("more than %d shared objects in a block", (int)SHARED_OBJECTS_MAX);
    void *at = shared_memory_create(bytes);
    block->shared_object[block->shared_objects++] = {tag, at, bytes};
    return at;
}

void *dyn_shared(size_t *bytes)
{
    if (bytes)
        *bytes = cur->block->grid->dynamic_bytes;
    return cur->block->dynamic;
}
} // namespace cuda_emulation
