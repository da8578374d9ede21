// The guard of a rank. Owns the parent process; the page that it reads is runtime/progress.h.
#include "launch/guard.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/progress.h"
#include "runtime/status.h"

static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM};
enum { FORWARDED = sizeof forwarded / sizeof forwarded[0], TICK_NS = 500000000, START_GRACE_MS = 2000 };

typedef struct oct_guard {
    pid_t rank;
    int ended_by;       // the last signal that asks a process to end, or 0
    int start_ticks;    // half seconds that the rank has not yet been under the monitor's eyes
    bool start_expired; // it took too long and was killed for it
} oct_guard;

static bool asks_to_end(int number)
{
    return number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT;
}

// Removes the files of this job in /dev/shm; other ranks that still live keep their mappings.
static void remove_leftovers(const oct_progress *page)
{
    for (int i = 0; i < OCT_LEFTOVERS; i++) {
        char pattern[OCT_LEFTOVERS_BYTES + 2];
        memcpy(pattern, page->leftovers[i], OCT_LEFTOVERS_BYTES);
        pattern[OCT_LEFTOVERS_BYTES - 1] = '\0';
        glob_t found;
        if (strncmp(pattern, "/dev/shm/", 9) != 0)
            continue;
        strcat(pattern, "*");
        if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++)
            unlink(found.gl_pathv[k]);
        globfree(&found);
    }
}

// "rank 3 of 8 on host n1" as far as the rank came to know it.
static void name_rank(const oct_progress *page, char *text, size_t bytes)
{
    int size = atomic_load_explicit(&page->size, memory_order_acquire);
    char host[OCT_HOST_NAME_BYTES] = "unknown";
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    rank = rank != NULL ? rank : getenv("PMI_RANK");
    rank = rank != NULL ? rank : getenv("SLURM_PROCID");
    gethostname(host, sizeof host - 1);
    if (size > 0)
        snprintf(text, bytes, "rank %d of %d on host %.*s", atomic_load(&page->rank), size,
                 OCT_HOST_NAME_BYTES, page->host);
    else
        snprintf(text, bytes, "rank %s on host %s", rank != NULL ? rank : "0", host);
}

// The one line. `how` tells what happened to the rank.
static void report(const oct_progress *page, const char *how)
{
    char who[160], line[512];
    name_rank(page, who, sizeof who);
    int length = snprintf(line, sizeof line, "octet: %s was lost: %s, in phase %s, step %lld\n", who, how,
                          oct_phase_name(atomic_load(&page->phase)), (long long)atomic_load(&page->step));
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; // nobody listens any more
}

// True where the guard was asked to end as well. A launcher signals the rank and its guard one after the
// other, so that the rank may be gone before the guard has seen its own signal.
static bool was_asked(oct_guard *guard, int died_of)
{
    sigset_t ending;
    sigemptyset(&ending);
    for (int i = 0; i < FORWARDED; i++)
        if (asks_to_end(forwarded[i]))
            sigaddset(&ending, forwarded[i]);
    if (guard->ended_by == 0) {
        int number =
            sigtimedwait(&ending, NULL, &(struct timespec){.tv_nsec = asks_to_end(died_of) ? 200000000 : 0});
        guard->ended_by = number > 0 ? number : 0;
    }
    return guard->ended_by != 0;
}

// Ends the guard in the way that its rank ended.
_Noreturn static void leave(oct_guard *guard, const oct_progress *page, int status)
{
    char how[128];
    int goodbye = atomic_load_explicit(&page->goodbye, memory_order_acquire);
    bool alone = atomic_load(&page->size) <= 1;
    if (WIFEXITED(status) && goodbye != 0) {
        int code = WEXITSTATUS(status);
        if (code != 0)
            remove_leftovers(page);
        _exit(code);
    }
    remove_leftovers(page);
    if (WIFSIGNALED(status) && was_asked(guard, WTERMSIG(status))) {
        if (alone) { // like any program that was interrupted
            signal(guard->ended_by, SIG_DFL);
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
            raise(guard->ended_by);
        }
        _exit(OCT_ERR_LOST); // ended because of another rank's loss; that rank's guard has said it
    }
    if (guard->start_expired)
        snprintf(how, sizeof how, "it did not get through its start within the deadline");
    else if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof how, "it left with exit code %d without a word", WEXITSTATUS(status));
    report(page, how);
    _exit(OCT_ERR_LOST);
}

// True where the rank is stopped (SIGSTOP, a debugger).
static bool is_stopped(pid_t rank)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", rank);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = '\0';
    const char *name_end = strrchr(line, ')');
    return name_end != NULL && (name_end[2] == 'T' || name_end[2] == 't');
}

// Ends a rank that hangs before the monitor watches it (in MPI_Init, where its peers hang too). Counts turns
// of half a second rather than reading a clock, so that a suspended job starts no alarm. A rank that only
// waits gets two seconds more: the guard of the one that it waits for should speak.
static void watch_start(oct_guard *guard, const oct_progress *page)
{
    int deadline_ms = atomic_load(&page->start_deadline_ms);
    if (atomic_load(&page->monitored) || deadline_ms == 0 || guard->start_expired)
        return;
    if (++guard->start_ticks * (TICK_NS / 1000000) < deadline_ms + START_GRACE_MS)
        return;
    if (guard->start_ticks * (TICK_NS / 1000000) < deadline_ms + 2 * START_GRACE_MS &&
        atomic_load(&page->waiting) && !is_stopped(guard->rank))
        return;
    guard->start_expired = true;
    kill(guard->rank, SIGKILL);
}

_Noreturn static void stand(oct_guard *guard, const sigset_t *watched)
{
    const oct_progress *page = oct_progress_page;
    for (;;) {
        int status = 0;
        pid_t ended = waitpid(guard->rank, &status, WNOHANG);
        if (ended == guard->rank)
            leave(guard, page, status);
        siginfo_t info;
        int number = sigtimedwait(watched, &info, &(struct timespec){.tv_nsec = TICK_NS});
        if (number < 0) {
            if (errno == EAGAIN)
                watch_start(guard, page);
            continue;
        }
        if (number == SIGCHLD)
            continue;
        if (asks_to_end(number))
            guard->ended_by = number;
        if (info.si_code <= 0) // the kernel has given a terminal's signal to the rank already
            kill(guard->rank, number);
    }
}

void oct_guard_begin(void)
{
    oct_guard guard = {0};
    sigset_t watched, before;
    if (!oct_progress_share())
        return;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    for (int i = 0; i < FORWARDED; i++)
        sigaddset(&watched, forwarded[i]);
    sigprocmask(SIG_BLOCK, &watched, &before);
    fflush(NULL);
    pid_t parent = getpid();
    guard.rank = fork();
    if (guard.rank > 0)
        stand(&guard, &watched);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (guard.rank < 0) {
        oct_warn(
            "cannot fork a guard (%s): the job runs without; a lost rank gives the launcher's own exit code",
            strerror(errno));
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(OCT_ERR_LOST);
}
