// The thread team. A run is announced by a generation number; a barrier is a counter of arrivals and a phase
// number, both monotonic, so that no reset can race with a late reader.
#include "kernels/cpu/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/kernels.h"

enum { SPINS_BEFORE_YIELD = 2000, YIELDS_BEFORE_SLEEP = 2000 };

struct oct_team {
    int32_t threads;
    int32_t spins;
    oct_team_work work;
    void *context;
    pthread_t *handles; // [threads - 1]
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int32_t sleepers; // under lock
    int32_t own_cpu;  // the caller's, until it is pinned; then −1
    _Alignas(64) atomic_uint generation;
    atomic_bool stop;
    _Alignas(64) atomic_ullong arrived; // 64 bits: never wraps
    _Alignas(64) atomic_uint phase;
};

typedef struct oct_team_member {
    oct_team *team;
    int32_t thread;
    int32_t cpu; // −1: not pinned
} oct_team_member;

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// One try of a wait loop: spins at first, then gives the processor away.
static inline void pause_once(int64_t spins, int64_t tries)
{
    if (tries < spins)
        relax();
    else
        sched_yield();
}

static unsigned wait_generation(oct_team *team, unsigned seen)
{
    for (int64_t tries = 0;; tries++) {
        const unsigned now = atomic_load_explicit(&team->generation, memory_order_acquire);
        if (now != seen)
            return now;
        if (tries < team->spins + YIELDS_BEFORE_SLEEP) {
            pause_once(team->spins, tries);
            continue;
        }
        pthread_mutex_lock(&team->lock);
        team->sleepers++;
        while (atomic_load_explicit(&team->generation, memory_order_acquire) == seen)
            pthread_cond_wait(&team->wake, &team->lock);
        team->sleepers--;
        pthread_mutex_unlock(&team->lock);
    }
}

static void *member_main(void *argument)
{
    oct_team_member member = *(oct_team_member *)argument;
    free(argument);
    oct_team *team = member.team;
    oct_cpu_enter_thread();
    unsigned seen = 0;
    for (;;) {
        seen = wait_generation(team, seen);
        if (atomic_load_explicit(&team->stop, memory_order_relaxed))
            return NULL;
        team->work(team->context, member.thread, team->threads);
        oct_team_barrier(team);
    }
}

// Threads inherit the mask of the launcher; a pin that the system refuses is not worth failing for.
static void pin(pthread_t thread, int32_t cpu)
{
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    pthread_setaffinity_np(thread, sizeof set, &set);
}

static oct_status start_member(oct_team *team, int32_t thread, int32_t cpu)
{
    oct_team_member *member = malloc(sizeof *member);
    if (member == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for thread %d", thread);
    *member = (oct_team_member){.team = team, .thread = thread, .cpu = cpu};
    const int error = pthread_create(&team->handles[thread - 1], NULL, member_main, member);
    if (error != 0) {
        free(member);
        return oct_fail(OCT_ERR_MACHINE, "thread %d of %d cannot be started: %s; use fewer --threads", thread,
                        team->threads, strerror(error));
    }
    pin(team->handles[thread - 1], cpu);
    return OCT_OK;
}

oct_status oct_team_create(oct_team **out, int32_t threads, const int32_t *cpus, bool oversubscribed)
{
    oct_team *team = aligned_alloc(64, (sizeof *team + 63) / 64 * 64);
    if (team == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a team of %d threads", threads);
    memset(team, 0, sizeof *team);
    team->threads = 1;
    team->spins = oversubscribed ? 0 : SPINS_BEFORE_YIELD;
    team->handles = calloc((size_t)threads, sizeof *team->handles);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    oct_cpu_enter_thread();
    team->own_cpu = cpus == NULL ? -1 : cpus[0];
    oct_status status = team->handles == NULL ? oct_fail(OCT_ERR_MACHINE, "no memory for %d threads", threads) : OCT_OK;
    const int32_t wanted = threads;
    for (int32_t thread = 1; status == OCT_OK && thread < wanted; thread++) {
        status = start_member(team, thread, cpus == NULL ? -1 : cpus[thread]);
        if (status == OCT_OK)
            team->threads = thread + 1;
    }
    if (status != OCT_OK) {
        oct_team_destroy(team);
        return status;
    }
    *out = team;
    return OCT_OK;
}

static void announce(oct_team *team)
{
    atomic_fetch_add_explicit(&team->generation, 1, memory_order_release);
    pthread_mutex_lock(&team->lock);
    if (team->sleepers > 0)
        pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

void oct_team_destroy(oct_team *team)
{
    if (team == NULL)
        return;
    atomic_store(&team->stop, true);
    announce(team);
    for (int32_t i = 0; i + 1 < team->threads; i++)
        pthread_join(team->handles[i], NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    free(team->handles);
    free(team);
}

void oct_team_run(oct_team *team, oct_team_work work, void *context)
{
    // Not earlier: threads that others start meanwhile (loading) would inherit a mask of one processor.
    pin(pthread_self(), team->own_cpu);
    team->own_cpu = -1;
    if (team->threads == 1) {
        work(context, 0, 1);
        return;
    }
    team->work = work;
    team->context = context;
    announce(team);
    work(context, 0, team->threads);
    oct_team_barrier(team);
}

void oct_team_barrier(oct_team *team)
{
    if (team->threads == 1)
        return;
    const unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    const unsigned long long before = atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel);
    if ((before + 1) % (unsigned long long)team->threads == 0) {
        atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
        return;
    }
    for (int64_t tries = 0; atomic_load_explicit(&team->phase, memory_order_acquire) == phase; tries++)
        pause_once(team->spins, tries);
}
