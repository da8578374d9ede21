// The counting wrappers. The linker's --wrap=NAME makes calls of NAME reach __wrap_NAME, and __real_NAME the original.
#include "runtime/allocations.h"

#ifdef OCTET_COUNT_ALLOCATIONS

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static _Atomic int64_t count;
static _Thread_local bool left_out;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
char *__wrap_strdup(const char *text);

static void bump(void)
{
    if (!left_out)
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
}

void *__wrap_malloc(size_t bytes)
{
    bump();
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    bump();
    return __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    bump();
    return __real_realloc(old, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    bump();
    return __real_aligned_alloc(alignment, bytes);
}

char *__wrap_strdup(const char *text)
{
    bump();
    return __real_strdup(text);
}

int64_t oct_allocations_count(void)
{
    return atomic_load_explicit(&count, memory_order_relaxed);
}

void oct_allocations_leave_out(void)
{
    left_out = true;
}

#else

int64_t oct_allocations_count(void)
{
    return -1;
}

void oct_allocations_leave_out(void)
{
}

#endif
