// What threads of chained kernels touch before they wait for their predecessors, by the protection of pages: compiled
// kernels and PTX alike, whatever instruction touches them.
#include "chained_launches.h"

#include <algorithm>
#include <cstdio>

#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "settings.h"

namespace cuda_emulation
{
enum { RARELY = 512 };

// An allocation, while a grid runs.
struct Watched {
    MemoryRange range;
    bool written; // by this kernel, or by one in front
};

static std::vector<Watched> watched; // in the order of addresses
static bool watching, hidden;
static int pauses;
static struct sigaction former;

// Threads that have waited for the kernels in front, while others have not yet: so memory is hidden and shown once, not
// at every change between the two kinds.
static Thread *waiting_first, **waiting_end = &waiting_first;

static bool overlap(const MemoryRange &range, const void *at, size_t bytes)
{
    const char *begin = (const char *)range.at, *first = (const char *)at;
    return first < begin + range.bytes && begin < first + bytes;
}

static bool is_written(const std::vector<MemoryRange> &written, const void *at, size_t bytes)
{
    return std::any_of(written.begin(), written.end(),
                       [=](const MemoryRange &range) { return overlap(range, at, bytes); });
}

static char *end_of(const Watched &memory)
{
    return (char *)memory.range.at + round_up_to_pages(memory.range.bytes);
}

static void protect(const Watched &first, const Watched &last, int protection)
{
    if (mprotect(first.range.at, (size_t)(end_of(last) - (char *)first.range.at), protection))
        die("the protection of memory at %p cannot be changed", first.range.at);
}

// All of it, in as few calls as can be.
static void protect_all(int written, int others)
{
    for (size_t first = 0, next; first < watched.size(); first = next) {
        const int protection = watched[first].written ? written : others;
        next = first + 1;
        while (watched[first].range.owned && next < watched.size() && watched[next].range.owned &&
               (watched[next].written ? written : others) == protection)
            next++;
        protect(watched[first], watched[next - 1], protection);
    }
}

static const char *access_of(const void *context)
{
#if defined(__x86_64__)
    enum { WRITES = 2 }; // in the code of a page fault
    return ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & WRITES ? "writes" : "reads";
#else
    (void)context;
    return "touches";
#endif
}

// Of the code, as addr2line takes it; empty where it is not known.
static void place_of(const void *context, char *text, size_t bytes)
{
    *text = 0;
#if defined(__x86_64__)
    const char *at = (const char *)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    Dl_info found;
    if (dladdr(at, &found) && found.dli_fname)
        snprintf(text, bytes, ", at %s+%#zx", found.dli_fname, (size_t)(at - (const char *)found.dli_fbase));
#else
    (void)context;
    (void)bytes;
#endif
}

static void on_fault(int, siginfo_t *information, void *context)
{
    const char *at = (const char *)information->si_addr;
    for (Watched &memory : watched) {
        if (!overlap({memory.range.at, round_up_to_pages(memory.range.bytes), true}, at, 1))
            continue;
        if (hidden) {
            char place[500];
            place_of(context, place, sizeof place);
            die("a thread of a chained kernel %s global memory before it has waited for the kernels in front of it: "
                "byte %zu of an allocation of %zu%s",
                access_of(context), (size_t)(at - (const char *)memory.range.at), memory.range.bytes, place);
        }
        if (!memory.written) {
            memory.written = true;
            protect(memory, memory, PROT_READ | PROT_WRITE);
            return;
        }
    }
    sigaction(SIGSEGV, &former, nullptr); // not ours: it happens again
}

void memory_watch(Grid *grid)
{
    watched.clear();
    if (pauses || !grid->front)
        return;
    for (const MemoryRange &range : device_memory_ranges())
        watched.push_back({range, is_written(grid->front->written, range.at, range.bytes)});
    // Every time: MPI, started meanwhile, may have a handler too.
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &former);
    watching = true;
    memory_hide(false);
}

void memory_watch_end(Grid *grid)
{
    if (!watching)
        return;
    watching = false;
    protect_all(PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE);
    for (const Watched &memory : watched) {
        if (memory.written && !is_written(grid->front->written, memory.range.at, memory.range.bytes))
            grid->front->written.push_back(memory.range);
    }
    sigaction(SIGSEGV, &former, nullptr);
}

bool memory_is_hidden()
{
    return hidden;
}

void memory_hide(bool hide)
{
    if (!watching)
        return;
    hidden = hide;
    if (hide)
        protect_all(PROT_NONE, PROT_NONE);
    else
        protect_all(PROT_READ | PROT_WRITE, PROT_READ);
}

void memory_watch_pause(int by)
{
    pauses += by;
}

void wait_for_predecessors(const char *file, int line)
{
    if (!cur->early)
        return;
    cur->early = false;
    if (settings.schedule == Schedule::RANDOM && !random_below(RARELY)) { // far ahead of the others
        memory_hide(false);
        return;
    }
    cur->next_waiting = nullptr;
    *waiting_end = cur;
    waiting_end = &cur->next_waiting;
    thread_wait(file, line);
}

void waiting_threads_release()
{
    for (; waiting_first; waiting_first = waiting_first->next_waiting)
        thread_make_ready(waiting_first);
    waiting_end = &waiting_first;
}

bool landing_begins()
{
    const bool was_hidden = hidden;
    if (was_hidden)
        memory_hide(false);
    return was_hidden;
}

void landing_ends(bool was_hidden)
{
    if (was_hidden)
        memory_hide(true);
}

// Weights may be asked for early, what a kernel in front or another process writes may not.
void early_copy_check(const void *from, size_t bytes)
{
    if (!cur->early)
        return;
    bool foreign = std::any_of(watched.begin(), watched.end(), [=](const Watched &memory) {
        return !memory.range.owned && overlap(memory.range, from, bytes);
    });
    if (foreign || is_written(cur->block->grid->front->written, from, bytes))
        die("a thread of a chained kernel asks for a copy of %zu bytes before it has waited for the kernels in front "
            "of it, of memory that %s write",
            bytes, foreign ? "other processes" : "they");
}
} // namespace cuda_emulation
