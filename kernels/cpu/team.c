// The thread team. A run is announced by a generation number. A barrier is a dissemination barrier (after Hensgen,
// Finkel and Manber): in round k a thread signals the one 2^k places after it and waits for the one 2^k places before
// it, so that nobody adds to a counter that all want, and two threads meet after one transfer of a cache line. Numbers
// only grow: no reset can race with a late reader.
#include "kernels/cpu/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/kernels.h"
#include "runtime/spin.h"

enum { YIELDS_BEFORE_SLEEP = 2000, LINE = 64, MEETING_ROUNDS = 10, THREADS_MAX = 1 << MEETING_ROUNDS };

// One thread's part of the barrier. Others write the signals, the thread itself the phase.
typedef struct meeting_place {
    _Alignas(LINE) atomic_uint signals[MEETING_ROUNDS]; // the last phase in which each round's partner came
    _Alignas(LINE) unsigned phase;                      // barriers that this thread has begun
} meeting_place;

struct oct_team {
    int32_t threads;
    int64_t spins; // before a wait yields
    oct_team_work work;
    void *context;
    pthread_t *handles; // [threads - 1]
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int32_t own_cpu; // the caller's, until it is pinned; then −1
    meeting_place *places; // [threads]
    _Alignas(LINE) atomic_uint generation;
    atomic_int sleepers;
    atomic_bool stop;
};

// Which thread of its team the calling one is; a caller of oct_team_run() is 0.
static _Thread_local int32_t own_number;

typedef struct oct_team_member {
    oct_team *team;
    int32_t thread;
    int32_t cpu; // −1: not pinned
} oct_team_member;

// One try of a wait loop: spins at first, then gives the processor away.
static inline void pause_once(int64_t spins, int64_t tries)
{
    if (tries < spins)
        oct_spin_pause();
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
        atomic_fetch_add(&team->sleepers, 1); // before the last look: see announce()
        while (atomic_load(&team->generation) == seen)
            pthread_cond_wait(&team->wake, &team->lock);
        atomic_fetch_sub(&team->sleepers, 1);
        pthread_mutex_unlock(&team->lock);
    }
}

static void *member_main(void *argument)
{
    oct_team_member member = *(oct_team_member *)argument;
    free(argument);
    oct_team *team = member.team;
    oct_cpu_enter_thread();
    own_number = member.thread;
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

// Zeroed memory in cache lines of its own.
static void *allocate_lines(size_t bytes)
{
    bytes = (bytes + LINE - 1) / LINE * LINE;
    void *memory = aligned_alloc(LINE, bytes);
    return memory == NULL ? NULL : memset(memory, 0, bytes);
}

oct_status oct_team_create(oct_team **out, int32_t threads, const int32_t *cpus, bool oversubscribed)
{
    if (threads > THREADS_MAX)
        return oct_fail(OCT_ERR_MACHINE, "a team of %d threads; expected at most %d", threads, THREADS_MAX);
    oct_team *team = allocate_lines(sizeof *team);
    if (team == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a team of %d threads", threads);
    team->threads = 1;
    team->spins = oversubscribed ? 0 : oct_spins(OCT_SPIN_NS);
    team->handles = calloc((size_t)threads, sizeof *team->handles);
    team->places = allocate_lines((size_t)threads * sizeof *team->places);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    oct_cpu_enter_thread();
    team->own_cpu = cpus == NULL ? -1 : cpus[0];
    oct_status status = team->handles == NULL || team->places == NULL
                            ? oct_fail(OCT_ERR_MACHINE, "no memory for %d threads", threads)
                            : OCT_OK;
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

// One of two happens, because both sides write first and read then, in one total order: a thread that goes to sleep
// sees the new generation, or it is seen here. The lock is taken only for sleepers.
static void announce(oct_team *team)
{
    atomic_fetch_add(&team->generation, 1);
    if (atomic_load(&team->sleepers) == 0)
        return;
    pthread_mutex_lock(&team->lock);
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
    free(team->places);
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
    const int32_t threads = team->threads, thread = own_number;
    meeting_place *own = &team->places[thread];
    const unsigned phase = ++own->phase;
    for (int32_t round = 0, distance = 1; distance < threads; round++, distance *= 2) {
        const int32_t next = thread + distance < threads ? thread + distance : thread + distance - threads;
        atomic_store_explicit(&team->places[next].signals[round], phase, memory_order_release);
        // A partner that is faster may have come for the next barrier already.
        for (int64_t tries = 0;
             (int)(atomic_load_explicit(&own->signals[round], memory_order_acquire) - phase) < 0; tries++)
            pause_once(team->spins, tries);
    }
}
