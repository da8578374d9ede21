// The scheduler: fibers for the threads of a grid, the queue of those that can run, and the life of a grid.
// Blocks of an ordinary launch run one after another (settings.resident_blocks at once), all blocks of a
// cooperative launch are there at once.
#include "scheduler.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "asynchronous_copies.h"
#include "chained_launches.h"
#include "fiber.h"
#include "grid.h"
#include "sanitizers.h"
#include "settings.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulation
{
// More fibers than any grid of the tests needs would slow ThreadSanitizer down, and it has a limit of its own.
enum { SANITIZER_FIBERS = 4096, GUARDED_STACKS = 16384, PAGE = 4096 };
enum { DIE_CODE = 86, SPINS_A_LOOK = 256, WAITING_PLACES = 64 };

static Thread host; // stands for whoever launches
Thread *cur = &host;
Statistics statistics;

static Grid *running;
static Thread *finished; // the thread whose end brought the scheduler back
static const void *host_stack;
static size_t host_stack_bytes;

// One fiber per slot. Slots grow with the largest grid and are never given back.
static char *stacks;
static std::vector<Thread *> slots;
static std::deque<int> free_slots;

// The threads that can run, in a ring whose size is a power of two.
static Thread **ready;
static size_t ready_size, ready_first, ready_end;

static int64_t last_progress_ns; // 0: since the last look
static uint64_t spins;

static Thread *&ready_at(size_t place)
{
    return ready[place & (ready_size - 1)];
}

void thread_make_ready(Thread *thread)
{
    thread->state = THREAD_READY;
    ready_at(ready_end++) = thread;
}

static Thread *next_ready()
{
    if (ready_first == ready_end)
        waiting_threads_release();
    if (ready_first == ready_end)
        return nullptr;
    if (settings.schedule == Schedule::LIFO)
        return ready_at(--ready_end);
    if (settings.schedule == Schedule::RANDOM)
        std::swap(ready_at(ready_first),
                  ready_at(ready_first + random_below((unsigned)(ready_end - ready_first))));
    return ready_at(ready_first++);
}

static void change_to(Thread *thread)
{
    Thread *from = cur;
    if (thread->early != memory_is_hidden())
        memory_hide(thread->early);
    if (thread == from)
        return;
    statistics.switches++;
    cur = thread;
    if (thread != &host) {
        threadIdx = thread->index;
        blockIdx = thread->block->index;
    }
    if (sanitizers::thread())
        __tsan_switch_to_fiber(thread->sanitizer_fiber, 1);
    if (sanitizers::address()) {
        void **fake_stack = from->state == THREAD_DONE ? nullptr : &from->fake_stack;
        if (thread == &host)
            __sanitizer_start_switch_fiber(fake_stack, host_stack, host_stack_bytes);
        else
            __sanitizer_start_switch_fiber(fake_stack, stacks + (size_t)thread->slot * settings.stack_bytes,
                                           settings.stack_bytes);
    }
    fiber_change(&from->stack_pointer, thread->stack_pointer);
    if (sanitizers::address())
        __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
}

void thread_wait(const char *file, int line)
{
    cur->state = THREAD_WAITS;
    cur->file = file;
    cur->line = line;
    Thread *next = next_ready();
    change_to(next ? next : &host); // the scheduler starts another block or sees the deadlock
}

void thread_yield_at_random()
{
    if (settings.schedule != Schedule::RANDOM)
        return;
    thread_make_ready(cur);
    change_to(next_ready());
}

void progress_note()
{
    last_progress_ns = 0;
}

static void look_for_livelock()
{
    sched_yield(); // what is waited for may be another process's work
    int64_t now = now_ns();
    if (!last_progress_ns)
        last_progress_ns = now;
    else if (now - last_progress_ns > settings.spin_ms * 1000000)
        die("livelock: threads poll memory that nothing changes (a spin loop outside a cooperative launch?)");
}

void spin()
{
    if (++spins % SPINS_A_LOOK == 0) {
        look_for_livelock();
        waiting_threads_release(); // perhaps it polls for what one of them does
    }
    if (settings.schedule == Schedule::LIFO) { // behind all others, or it would poll for ever
        cur->state = THREAD_READY;
        ready_at(--ready_first) = cur;
        if (ready_first + 1 == ready_end) {
            ready_first++;
            return;
        }
    } else {
        thread_make_ready(cur);
    }
    change_to(next_ready());
}

void report_waiting_threads()
{
    if (!running)
        return;
    struct {
        const char *file;
        int line, threads;
    } places[WAITING_PLACES];
    int count = 0;
    for (Thread *thread : slots) {
        if (!thread->block || thread->state != THREAD_WAITS)
            continue;
        const char *file = thread->file ? thread->file : "?";
        int i = 0;
        while (i < count && (places[i].line != thread->line || strcmp(places[i].file, file) != 0))
            i++;
        if (i == count && count < WAITING_PLACES)
            places[count++] = {file, thread->line, 0};
        if (i < count)
            places[i].threads++;
    }
    for (int i = 0; i < count; i++)
        fprintf(stderr, "cuda_emulation:   %d threads wait at %s:%d\n", places[i].threads, places[i].file,
                places[i].line);
}

// Fibers, queues and captures have no locks: another thread of the host than the first that calls the runtime would
// find that one in the middle of them.
static bool is_other_host_thread()
{
    static std::atomic<const char *> first{nullptr};
    static thread_local char own;
    const char *nobody = nullptr;
    return !first.compare_exchange_strong(nobody, &own) && nobody != &own;
}

void check_host_thread()
{
    if (is_other_host_thread())
        die("a second thread of the host calls the runtime, and the emulation is for one (octet: --threads 1)");
}

// In the program, where it has a name there (ENABLE_EXPORTS); else as addr2line takes it.
static void name_kernel(const void *function, char *text, size_t bytes)
{
    Dl_info found;
    if (!function || !dladdr(function, &found))
        snprintf(text, bytes, "a kernel");
    else if (found.dli_sname && found.dli_saddr == function)
        snprintf(text, bytes, "%s", found.dli_sname);
    else
        snprintf(text, bytes, "%s+%#zx", found.dli_fname,
                 (size_t)((const char *)function - (const char *)found.dli_fbase));
}

// Called in the handler of a signal too (chained_launches.cpp): allocates nothing.
void die(const char *format, ...)
{
    char message[2000], kernel[1000], where[1200] = "", text[3300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const bool knows_where = !is_other_host_thread(); // else what follows is the first one's
    if (knows_where && cur != &host) {
        uint3 thread = cur->index, block = cur->block->index;
        name_kernel(cur->block->grid->function, kernel, sizeof kernel);
        snprintf(where, sizeof where, "cuda_emulation:   in thread (%u,%u,%u) of block (%u,%u,%u) of %s\n",
                 thread.x, thread.y, thread.z, block.x, block.y, block.z, kernel);
    }
    snprintf(text, sizeof text, "cuda_emulation: error: %s\n%s", message, where);
    fputs(text, stderr); // at once: other ranks may write too
    if (knows_where)
        report_waiting_threads();
    fflush(stderr);
    _exit(DIE_CODE);
}

static void thread_main()
{
    if (sanitizers::address()) {
        const void *bottom;
        size_t bytes;
        __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
        if (!host_stack) { // the first fiber of all comes from the host
            host_stack = bottom;
            host_stack_bytes = bytes;
        }
    }
    Thread *thread = cur;
    Grid *grid = thread->block->grid;
    sanitizers::acquire(&grid->start);
    grid->body();
    if (thread->copies)
        die("a thread leaves the kernel with %d cp.async copies that it has not waited for", thread->copies);
    if (thread->early)
        die("a thread of a chained kernel leaves without having waited for the kernels in front of it: the kernel "
            "behind would not wait for them either");
    sanitizers::release(&grid->end);
    thread->state = THREAD_DONE;
    block_leave(thread);
    finished = thread;
    change_to(&host);
    __builtin_unreachable();
}

// Stacks begin at different places of their pages, or all of them would share a few sets of the cache.
static char *stack_top(int slot)
{
    return stacks + (size_t)(slot + 1) * settings.stack_bytes - (size_t)slot * 832 % 16384;
}

static Thread *thread_start(Block *block, int number)
{
    int slot = free_slots.front();
    free_slots.pop_front();
    Thread *thread = slots[(size_t)slot];
    dim3 size = block->grid->threads;
    unsigned n = (unsigned)number;
    thread->index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
    thread->lane = n % WARP_LANES;
    thread->block = block;
    thread->warp = &block->warp[n / WARP_LANES];
    thread->warp->lane[thread->lane] = thread;
    thread->warp->live |= 1u << thread->lane;
    thread->file = nullptr;
    thread->fake_stack = nullptr;
    thread->fenced = false;
    thread->reads = thread->copies = 0;
    thread->copy_group = 0;
    thread->early = block->grid->chained;
    thread->stack_pointer = fiber_prepare(stack_top(slot), thread_main);
    statistics.threads++;
    thread_make_ready(thread);
    return thread;
}

static void block_start(Grid *grid, unsigned number)
{
    Block *block = new Block();
    dim3 size = grid->blocks;
    block->grid = grid;
    block->index = {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
    block->threads = block->live = (int)(grid->threads.x * grid->threads.y * grid->threads.z);
    if (grid->dynamic_bytes)
        block->dynamic = shared_memory_create(grid->dynamic_bytes);
    for (int i = 0; i < block->threads; i++)
        block->thread[i] = thread_start(block, i);
    grid->live_blocks++;
    statistics.blocks++;
}

static void block_finish(Block *block)
{
    // ThreadSanitizer: a fiber is used again as late as can be, since it orders its former block before the next.
    for (int i = 0; i < block->threads; i++) {
        block->thread[i]->block = nullptr;
        if (sanitizers::thread())
            free_slots.push_back(block->thread[i]->slot);
        else
            free_slots.push_front(block->thread[i]->slot);
    }
    for (int i = 0; i < block->shared_objects; i++)
        shared_memory_destroy(block->shared_object[i].at, block->shared_object[i].bytes);
    if (block->dynamic)
        shared_memory_destroy(block->dynamic, block->grid->dynamic_bytes);
    for (Barrier *barrier : block->barrier)
        if (barrier)
            barrier_destroy(barrier);
    block->grid->live_blocks--;
    delete block;
}

static void slots_reserve(size_t count)
{
    if (count <= slots.size())
        return;
    if (stacks)
        munmap(stacks, slots.size() * settings.stack_bytes);
    void *memory = mmap(nullptr, count * settings.stack_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die("no memory for the stacks of %zu threads", count);
    stacks = (char *)memory;
    if (count <= GUARDED_STACKS) // a stack that overflows meets a page that nobody may touch
        for (size_t i = 0; i < count; i++)
            mprotect(stacks + i * settings.stack_bytes, PAGE, PROT_NONE);
    while (slots.size() < count) {
        Thread *thread = (Thread *)memory_never_used(sizeof(Thread));
        thread->slot = (int)slots.size();
        if (sanitizers::thread())
            thread->sanitizer_fiber = __tsan_create_fiber(0);
        slots.push_back(thread);
    }
    for (ready_size = 1; ready_size < count + 2; ready_size *= 2) {
    }
    free(ready);
    ready = (Thread **)malloc(ready_size * sizeof *ready);
    free_slots.clear();
    for (size_t i = 0; i < count; i++)
        free_slots.push_back((int)i);
}

static std::vector<unsigned> order_of_blocks(unsigned count)
{
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; i++)
        order[i] = settings.schedule == Schedule::LIFO ? count - 1 - i : i;
    if (settings.schedule == Schedule::RANDOM)
        for (unsigned i = count; i > 1; i--)
            std::swap(order[i - 1], order[random_below(i)]);
    return order;
}

static void grid_prepare(Grid *grid, size_t all_threads, size_t resident_threads)
{
    size_t fibers = resident_threads;
    if (sanitizers::thread())
        fibers = std::max(fibers, std::min(all_threads, (size_t)SANITIZER_FIBERS));
    slots_reserve(fibers);
    if (sanitizers::thread())
        host.sanitizer_fiber = __tsan_get_current_fiber();
    sanitizers::release(&grid->start);
    if (grid->cooperative)
        grid->waits = (Thread **)malloc(all_threads * sizeof(Thread *));
    running = grid;
    blockDim = grid->threads;
    gridDim = grid->blocks;
    memory_watch(grid);
    ready_first = ready_end = ready_size; // spin() can put a thread before the first
    statistics.launches++;
    progress_note();
}

void grid_run(Grid *grid)
{
    if (cur != &host)
        die("a kernel launches a kernel");
    unsigned blocks = grid->blocks.x * grid->blocks.y * grid->blocks.z;
    unsigned threads = grid->threads.x * grid->threads.y * grid->threads.z;
    unsigned resident = grid->cooperative ? blocks : std::min(blocks, (unsigned)settings.resident_blocks);
    grid_prepare(grid, (size_t)blocks * threads, (size_t)resident * threads);
    std::vector<unsigned> order = order_of_blocks(blocks);
    for (unsigned started = 0, done = 0; done < blocks;) {
        while (started < blocks && grid->live_blocks < resident)
            block_start(grid, order[started++]);
        Thread *thread = next_ready();
        if (!thread)
            die("deadlock: no thread can run");
        finished = nullptr;
        change_to(thread);
        if (!finished || finished->block->live)
            continue;
        block_finish(finished->block);
        done++;
    }
    memory_watch_end(grid);
    sanitizers::acquire(&grid->end);
    bulk_copies_check_empty();
    free(grid->waits);
    grid->waits = nullptr;
    running = nullptr;
}
} // namespace cuda_emulation
