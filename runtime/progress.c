// The progress page of this process. Owns the page; who reads it is up to the guard and the monitor.
#include "runtime/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static oct_progress private_page = {.step = -1, .waiting_for = -1, .rank = -1, .start_deadline_ms = 600000};
oct_progress *oct_progress_page = &private_page;
static oct_progress_place private_mirror;
oct_progress_place *oct_progress_mirror = &private_mirror;

static const char *const phase_names[OCT_PHASE_COUNT] = {"init",   "open",   "load", "prefill",
                                                         "decode", "finish", "idle", "done"};

bool oct_progress_share(void)
{
    void *map = mmap(NULL, sizeof(oct_progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    memcpy(map, &private_page, sizeof private_page);
    oct_progress_page = map;
    return true;
}

void oct_progress_reflect(oct_progress_place *place)
{
    oct_progress_mirror = place != NULL ? place : &private_mirror;
    atomic_store(&oct_progress_mirror->step, atomic_load(&oct_progress_page->step));
    atomic_store(&oct_progress_mirror->phase, atomic_load(&oct_progress_page->phase));
}

void oct_progress_identify(int rank, int size, const char *host)
{
    oct_progress *page = oct_progress_page;
    snprintf(page->host, sizeof page->host, "%s", host);
    atomic_store_explicit(&page->rank, rank, memory_order_relaxed);
    atomic_store_explicit(&page->size, size, memory_order_release);
}

void oct_progress_goodbye(int code)
{
    atomic_store_explicit(&oct_progress_page->goodbye, 1 + code, memory_order_release);
}

const char *oct_phase_name(int phase)
{
    return phase >= 0 && phase < OCT_PHASE_COUNT ? phase_names[phase] : "unknown";
}

int oct_phase_parse(const char *name)
{
    for (int phase = 0; phase < OCT_PHASE_COUNT; phase++)
        if (strcmp(name, phase_names[phase]) == 0)
            return phase;
    return -1;
}

int64_t oct_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
