// Regions in huge pages: a mapping with room for one more, cut at the borders.
#include "runtime/huge_memory.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static size_t whole_pages(size_t bytes)
{
    return (bytes + OCT_HUGE_PAGE_BYTES - 1) / OCT_HUGE_PAGE_BYTES * OCT_HUGE_PAGE_BYTES;
}

oct_status oct_huge_map(size_t bytes, const char *purpose, void *out)
{
    const size_t size = whole_pages(bytes + !bytes);
    uint8_t *mapped =
        mmap(NULL, size + OCT_HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return oct_fail(OCT_ERR_MACHINE, "%.2f GiB of memory for %s cannot be had; use more hosts, a smaller "
                        "--context or a smaller encoding", (double)bytes / (double)(1 << 30), purpose);
    // What lies before the first border would be in small pages, one fault each.
    const size_t before = (OCT_HUGE_PAGE_BYTES - (uintptr_t)mapped % OCT_HUGE_PAGE_BYTES) % OCT_HUGE_PAGE_BYTES;
    uint8_t *region = mapped + before;
    if (before > 0)
        munmap(mapped, before);
    munmap(region + size, OCT_HUGE_PAGE_BYTES - before);
    madvise(region, size, MADV_HUGEPAGE);
    memcpy(out, &region, sizeof region);
    return OCT_OK;
}

void oct_huge_unmap(void *region, size_t bytes)
{
    if (region != NULL)
        munmap(region, whole_pages(bytes + !bytes));
}
