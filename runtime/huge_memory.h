// Large regions of memory in huge pages.
#ifndef OCT_RUNTIME_HUGE_MEMORY_H
#define OCT_RUNTIME_HUGE_MEMORY_H

#include <stddef.h>

#include "runtime/status.h"

// Of x86-64 and, with pages of 4 KiB, of aarch64. Elsewhere a multiple or a part of it: slower, no less right.
#define OCT_HUGE_PAGE_BYTES ((size_t)2 << 20)

// Maps `bytes` of zeroed memory from a huge page's border on, whole huge pages where the system gives them.
// Nothing is touched: a page is placed near the thread that writes to it first. `purpose` is for the message;
// `out` is the address of the pointer to set, on success only. The caller unmaps. Errors: OCT_ERR_MACHINE. LOCAL.
oct_status oct_huge_map(size_t bytes, const char *purpose, void *out);

// Unmaps a region of `bytes` bytes as they were given to oct_huge_map(); NULL is allowed. LOCAL.
void oct_huge_unmap(void *region, size_t bytes);

#endif
