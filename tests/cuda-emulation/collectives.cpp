// Barriers of a block and of the grid, and warp collectives: who waits for whom, and mistakes in their use.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "grid.h"
#include "sanitizers.h"

namespace cuda_emulation
{
static std::vector<Barrier *> spare_barriers;

Barrier *barrier_create()
{
    if (spare_barriers.empty())
        return (Barrier *)memory_never_used(sizeof(Barrier));
    Barrier *barrier = spare_barriers.back();
    spare_barriers.pop_back();
    barrier->arrived = 0;
    return barrier;
}

void barrier_destroy(Barrier *barrier)
{
    if (!sanitizers::thread()) // used again its address would order the blocks
        spare_barriers.push_back(barrier);
}

static char *order_address(Order *order)
{
    return &order->address[order->uses & 1];
}

static void barrier_open(Barrier *barrier)
{
    for (int i = 0; i < barrier->arrived; i++)
        thread_make_ready(barrier->waits[i]);
    barrier->arrived = 0;
    barrier->order.uses++;
    progress_note();
}

static void check_same_place(const char *operation, Barrier *barrier, const char *file, int line)
{
    if (!barrier->arrived) {
        barrier->file = file;
        barrier->line = line;
    } else if (barrier->line != line || strcmp(barrier->file, file)) {
        die("divergent %s: this thread is at %s:%d, others of the block wait at %s:%d", operation, file, line,
            barrier->file, barrier->line);
    }
}

void block_barrier(const char *operation, int id, unsigned count, const char *file, int line)
{
    Block *block = cur->block;
    if (id < 0 || id >= BARRIERS_MAX)
        die("%s: barrier %d of %d", operation, id, (int)BARRIERS_MAX);
    if (!block->barrier[id])
        block->barrier[id] = barrier_create();
    Barrier *barrier = block->barrier[id];
    statistics.barriers++;
    if (!count)
        check_same_place(operation, barrier, file, line);
    char *order = order_address(&barrier->order);
    sanitizers::release(order);
    if (barrier->arrived + 1 == (count ? (int)count : block->live)) {
        barrier_open(barrier);
        thread_yield_at_random();
    } else {
        barrier->waits[barrier->arrived++] = cur;
        thread_wait(file, line);
    }
    sanitizers::acquire(order);
}

static void collective_complete(Warp *warp, Collective *collective)
{
    Thread *lanes[WARP_LANES];
    for (int i = 0; i < WARP_LANES; i++)
        lanes[i] = collective->arrived >> i & 1 ? warp->lane[i] : nullptr;
    if (collective->combine)
        collective->combine(lanes, collective->mask);
    for (Thread *lane : lanes)
        if (lane && lane != cur)
            thread_make_ready(lane);
    collective->mask = collective->arrived = 0;
    collective->order.uses++;
    progress_note();
}

// The one that lanes wait in already, or a free one.
static Collective *collective_join(Warp *warp, unsigned mask, const void *operation,
                                   void (*combine)(Thread **, unsigned))
{
    Collective *free_one = nullptr;
    for (Collective &collective : warp->collective) {
        if (collective.mask == mask && collective.operation == operation)
            return &collective;
        if (!collective.mask && !free_one)
            free_one = &collective;
    }
    if (free_one) {
        free_one->mask = mask;
        free_one->arrived = 0;
        free_one->operation = operation;
        free_one->combine = combine;
    }
    return free_one;
}

unsigned warp_collective(unsigned mask, const void *operation, void *payload,
                         void (*combine)(Thread **lanes, unsigned mask), const char *file, int line)
{
    Warp *warp = cur->warp;
    statistics.collectives++;
    if (!(mask >> cur->lane & 1))
        die("%s:%d: lane %u calls a warp collective whose mask %08x leaves it out", file, line, cur->lane,
            mask);
    Collective *collective = collective_join(warp, mask, operation, combine);
    if (!collective)
        die("%s:%d: lanes of a warp wait in more than %d collectives", file, line, (int)COLLECTIVES_MAX);
    char *order = order_address(&collective->order);
    bool orders_memory = !combine; // shuffles and votes do not
    if (orders_memory)
        sanitizers::release(order);
    collective->arrived |= 1u << cur->lane;
    cur->payload = payload;
    unsigned taking_part = mask & warp->live;
    if (collective->arrived == taking_part) {
        collective_complete(warp, collective);
        thread_yield_at_random();
    } else {
        thread_wait(file, line);
    }
    if (orders_memory)
        sanitizers::acquire(order);
    return taking_part;
}

void grid_barrier(const char *file, int line)
{
    Grid *grid = cur->block->grid;
    if (!grid->cooperative)
        die("%s:%d: a grid barrier in a kernel that was not launched cooperatively", file, line);
    size_t all = (size_t)grid->blocks.x * grid->blocks.y * grid->blocks.z * (size_t)cur->block->threads;
    char *order = order_address(&grid->order);
    sanitizers::release(order);
    if (grid->arrived + 1 == all) {
        for (size_t i = 0; i < grid->arrived; i++)
            thread_make_ready(grid->waits[i]);
        grid->arrived = 0;
        grid->order.uses++;
        progress_note();
        thread_yield_at_random();
    } else {
        grid->waits[grid->arrived++] = cur;
        thread_wait(file, line);
    }
    sanitizers::acquire(order);
}

void block_leave(Thread *thread)
{
    Block *block = thread->block;
    Warp *warp = thread->warp;
    block->live--;
    warp->live &= ~(1u << thread->lane);
    warp->lane[thread->lane] = nullptr;
    progress_note();
    Barrier *all = block->barrier[0];
    if (all && all->arrived && all->arrived == block->live)
        barrier_open(all);
    for (Collective &collective : warp->collective)
        if (collective.arrived && collective.arrived == (collective.mask & warp->live))
            collective_complete(warp, &collective);
}
} // namespace cuda_emulation
