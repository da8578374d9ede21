// The monitor thread. Owns the host's shared sight of progress; the judgement is in watch.c.
#include "ranks/monitor.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ranks/host_memory.h"
#include "ranks/watch.h"

// A rank's part of the shared memory. The host's first rank's `spoken` and `lost` hold for the host.
typedef struct shown {
    _Alignas(128) _Atomic uint64_t heartbeat;
    _Atomic uint64_t count;
    oct_progress_place place; // written by the main thread
    _Atomic int32_t waiting;
    _Atomic int32_t on_device;
    _Atomic int32_t spoken;
    _Atomic int32_t lost;
} shown;

enum { LEAVE_NS = 1000000000 };

struct oct_monitor {
    oct_world *world;
    oct_host_memory memory;
    oct_watch watch;
    oct_sight *sights;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
};

static _Atomic bool loss_found;

bool oct_monitor_found_loss(void)
{
    return atomic_load_explicit(&loss_found, memory_order_acquire);
}

static _Atomic(_Atomic uint32_t *) attached;

void oct_monitor_attach_word(_Atomic uint32_t *word)
{
    atomic_store(&attached, word);
}

static shown *part(const struct oct_monitor *monitor, int host_rank)
{
    return oct_host_memory_part(&monitor->memory, host_rank);
}

bool oct_monitor_may_speak(struct oct_monitor *monitor)
{
    return monitor == NULL || atomic_exchange(&part(monitor, 0)->spoken, 1) == 0;
}

static void show(struct oct_monitor *monitor)
{
    const oct_progress *page = oct_progress_page;
    shown *own = part(monitor, monitor->world->host_rank);
    own->waiting = atomic_load_explicit(&page->waiting, memory_order_relaxed);
    own->on_device =
        atomic_load_explicit(&page->waiting_for, memory_order_relaxed) == OCT_WAITS_FOR_DEVICE;
    own->count = atomic_load_explicit(&page->count, memory_order_relaxed);
    own->heartbeat = own->heartbeat + 1;
}

static void describe(struct oct_monitor *monitor, oct_verdict verdict, int culprit, int64_t silent_ns)
{
    const oct_world *world = monitor->world;
    const char *host = world->host_names[world->host_index];
    double seconds = (double)silent_ns * 1e-9;
    if (verdict == OCT_VERDICT_STUCK) {
        shown *stuck = part(monitor, culprit);
        oct_fail(OCT_ERR_LOST,
                 "rank %d on host %s is stuck: nothing for %.1f s in phase %s, step %lld; the job ends "
                 "(--deadline changes how long that may take)",
                 world->ranks_of_host[culprit], host, seconds, oct_phase_name(stuck->place.phase),
                 (long long)stuck->place.step);
        return;
    }
    const shown *own = part(monitor, world->host_rank);
    oct_fail(
        OCT_ERR_LOST,
        "all ranks of host %s have waited %.1f s in phase %s, step %lld, and nothing came: %s; the job ends "
        "(--deadline changes how long that may take)",
        host, seconds, oct_phase_name(own->place.phase), (long long)own->place.step,
        world->host_count > 1 ? "another host or the link to it is lost"
                              : "they wait for each other, which is a fault of Octet itself");
}

// Gives the main thread a second to leave by oct_world_abort(), rescuing meanwhile, then ends the process.
_Noreturn static void leave(struct oct_monitor *monitor, bool speak)
{
    if (speak && oct_monitor_may_speak(monitor)) {
        fprintf(stderr, "octet: %s\n", oct_failure_text());
        fflush(stderr);
    }
    atomic_store(&part(monitor, 0)->lost, 1);
    atomic_store_explicit(&loss_found, true, memory_order_release);
    _Atomic uint32_t *word = atomic_load(&attached);
    if (word != NULL)
        atomic_store(word, 1);
    const int64_t until_ns = oct_now_ns() + LEAVE_NS;
    oct_world_rescue(); // the main thread may be where it cannot
    const int64_t left_ns = until_ns - oct_now_ns();
    if (left_ns > 0)
        usleep((useconds_t)(left_ns / 1000));
    oct_progress_goodbye(OCT_ERR_LOST);
    _exit(OCT_ERR_LOST);
}

static void tick(struct oct_monitor *monitor)
{
    show(monitor);
    if (atomic_load(&part(monitor, 0)->lost))
        leave(monitor, false);
    for (int i = 0; i < monitor->watch.ranks; i++) {
        shown *other = part(monitor, i);
        monitor->sights[i] = (oct_sight){.count = other->count,
                                         .heartbeat = other->heartbeat,
                                         .phase = other->place.phase,
                                         .waiting = other->waiting != 0,
                                         .on_device = other->on_device != 0};
    }
    int culprit = -1;
    int64_t silent_ns = 0;
    oct_verdict verdict =
        oct_watch_tick(&monitor->watch, monitor->sights, oct_now_ns(), &culprit, &silent_ns);
    if (verdict == OCT_VERDICT_FINE)
        return;
    describe(monitor, verdict, culprit, silent_ns);
    leave(monitor, true);
}

static void *run(void *argument)
{
    struct oct_monitor *monitor = argument;
    pthread_setname_np(pthread_self(), "octet monitor"); // for those who look at a running job
    pthread_mutex_lock(&monitor->lock);
    while (!monitor->stop) {
        pthread_mutex_unlock(&monitor->lock);
        tick(monitor);
        int64_t next = oct_now_ns() + OCT_WATCH_TICK_NS;
        struct timespec until = {.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000};
        pthread_mutex_lock(&monitor->lock);
        if (!monitor->stop)
            pthread_cond_timedwait(&monitor->wake, &monitor->lock, &until);
    }
    pthread_mutex_unlock(&monitor->lock);
    show(monitor);
    return NULL;
}

static oct_status prepare(struct oct_monitor *monitor, oct_world *world)
{
    monitor->world = world;
    monitor->watch = (oct_watch){.own = world->host_rank,
                                 .ranks = world->host_size,
                                 .decode_ns = (int64_t)(world->options.deadline_s * 1e9),
                                 .start_ns = (int64_t)(world->options.start_deadline_s * 1e9)};
    monitor->watch.seen = calloc((size_t)world->host_size, sizeof *monitor->watch.seen);
    monitor->sights = calloc((size_t)world->host_size, sizeof *monitor->sights);
    if (monitor->watch.seen == NULL || monitor->sights == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the monitor of %d ranks", world->host_size);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&monitor->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&monitor->lock, NULL);
    return OCT_OK;
}

static void discard(struct oct_monitor *monitor)
{
    oct_progress_reflect(NULL);
    oct_host_memory_free(&monitor->memory);
    free(monitor->watch.seen);
    free(monitor->sights);
    free(monitor);
}

oct_status oct_monitor_start(oct_world *world)
{
    struct oct_monitor *monitor = calloc(1, sizeof *monitor);
    if (monitor == NULL)
        oct_world_abort(world, oct_fail(OCT_ERR_MACHINE, "no memory for the monitor"));
    oct_status status = oct_host_memory_allocate(&monitor->memory, world, sizeof(shown));
    if (status == OCT_OK) {
        status = prepare(monitor, world);
        if (status == OCT_OK)
            oct_progress_reflect(&part(monitor, world->host_rank)->place);
        bool started = status == OCT_OK && pthread_create(&monitor->thread, NULL, run, monitor) == 0;
        if (status == OCT_OK && !started)
            status =
                oct_fail(OCT_ERR_MACHINE, "cannot start the monitor's thread; expected room for one more "
                                          "thread, see `ulimit -u` and the cgroup's pids.max");
        world->monitor = started ? monitor : NULL;
        status = oct_world_agree(world, status);
        if (status != OCT_OK && started) {
            oct_monitor_stop(world);
            return status;
        }
    }
    if (status != OCT_OK)
        discard(monitor);
    else
        atomic_store_explicit(&oct_progress_page->monitored, 1, memory_order_relaxed);
    return status;
}

void oct_monitor_stop(oct_world *world)
{
    struct oct_monitor *monitor = world->monitor;
    if (monitor == NULL)
        return;
    world->monitor = NULL;
    pthread_mutex_lock(&monitor->lock);
    monitor->stop = true;
    pthread_cond_signal(&monitor->wake);
    pthread_mutex_unlock(&monitor->lock);
    pthread_join(monitor->thread, NULL);
    pthread_mutex_destroy(&monitor->lock);
    pthread_cond_destroy(&monitor->wake);
    discard(monitor);
}
