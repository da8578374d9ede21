// Fault injection: parses OCTET_FAULT and fails at the named place.
#include "runtime/fault.h"

#ifdef OCTET_FAULTS

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLACE_SYNC = OCT_PHASE_COUNT }; // beyond the phases

enum kind { KIND_KILL, KIND_STOP, KIND_SEGV, KIND_ERROR, KIND_SLOW, KIND_COUNT };
static const char *const kind_names[KIND_COUNT] = {"kill", "stop", "segv", "error", "slow"};

static struct {
    bool armed;
    int place; // a phase, or PLACE_SYNC
    int kind;
    long at;
    long seen;
} fault;

static oct_status malformed(const char *value)
{
    return oct_fail(
        OCT_ERR_USAGE,
        "OCTET_FAULT is \"%s\"; expected RANK:PHASE:COUNT:KIND with phase init, open, load, prefill, "
        "decode, finish or sync, count from 1, kind kill, stop, segv, error or slow",
        value);
}

oct_status oct_fault_configure(int rank)
{
    memset(&fault, 0, sizeof fault);
    const char *value = getenv("OCTET_FAULT");
    if (value == NULL || value[0] == '\0')
        return OCT_OK;
    int target, end = 0;
    long count;
    char phase_word[16], kind_word[16];
    if (sscanf(value, "%d:%15[a-z]:%ld:%15[a-z]%n", &target, phase_word, &count, kind_word, &end) != 4 ||
        value[end] != '\0' || target < 0 || count < 1)
        return malformed(value);
    int place = strcmp(phase_word, "sync") == 0 ? PLACE_SYNC : oct_phase_parse(phase_word), kind = 0;
    while (kind < KIND_COUNT && strcmp(kind_word, kind_names[kind]) != 0)
        kind++;
    if (place < 0 || (place > OCT_PHASE_FINISH && place != PLACE_SYNC) || kind == KIND_COUNT)
        return malformed(value);
    fault.armed = target == rank;
    fault.place = place;
    fault.kind = kind;
    fault.at = count;
    return OCT_OK;
}

static void fail_hard(int kind)
{
    if (kind == KIND_KILL)
        raise(SIGKILL);
    if (kind == KIND_STOP)
        raise(SIGSTOP);
    if (kind == KIND_SEGV) {
        signal(SIGSEGV, SIG_DFL); // a sanitizer's or MPI's handler would turn the signal into an exit
        raise(SIGSEGV);
    }
}

// True where the point is to fail by itself.
static bool strike(int place)
{
    if (!fault.armed || fault.place != place)
        return false;
    fault.seen++;
    if (fault.kind == KIND_SLOW && fault.seen >= fault.at)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    if (fault.seen != fault.at)
        return false;
    fail_hard(fault.kind);
    return fault.kind == KIND_ERROR;
}

int oct_fault_sync(void)
{
    return strike(PLACE_SYNC) ? EIO : 0;
}

oct_status oct_fault_point(oct_phase phase)
{
    if (!strike((int)phase))
        return OCT_OK;
    oct_status status = phase == OCT_PHASE_OPEN || phase == OCT_PHASE_LOAD ? OCT_ERR_FILE : OCT_ERR_MACHINE;
    return oct_fail(status, "the fault that OCTET_FAULT asked for in phase %s", oct_phase_name((int)phase));
}

#else
typedef int oct_fault_nothing; // a translation unit must not be empty
#endif
