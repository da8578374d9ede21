// Failure text and logging of one process. Owns the kept failure; knows nothing of other ranks.
#include "runtime/status.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char failure[2048];
static oct_verbosity current = OCT_NORMAL;

oct_status oct_fail(oct_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&lock);
    if (failure[0] == '\0')
        vsnprintf(failure, sizeof failure, format, arguments);
    pthread_mutex_unlock(&lock);
    va_end(arguments);
    return status;
}

const char *oct_failure_text(void)
{
    return failure;
}

void oct_failure_clear(void)
{
    pthread_mutex_lock(&lock);
    failure[0] = '\0';
    pthread_mutex_unlock(&lock);
}

const char *oct_status_name(oct_status status)
{
    switch (status) {
    case OCT_OK:
        return "done";
    case OCT_ERR_USAGE:
        return "usage";
    case OCT_ERR_FILE:
        return "file";
    case OCT_ERR_MACHINE:
        return "machine";
    case OCT_ERR_LOST:
        return "lost";
    case OCT_ERR_DISAGREE:
        return "disagree";
    case OCT_ERR_INTERNAL:
        return "internal";
    case OCT_ERR_INTERRUPTED:
        return "interrupted";
    }
    return "unknown";
}

void oct_log_configure(oct_verbosity verbosity)
{
    current = verbosity;
}

oct_verbosity oct_log_verbosity(void)
{
    return current;
}

static void print(oct_verbosity needed, const char *format, va_list arguments)
{
    if (current < needed)
        return;
    char line[4096];
    vsnprintf(line, sizeof line, format, arguments);
    fprintf(stderr, "octet: %s\n", line);
}

void oct_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print(OCT_NORMAL, format, arguments);
    va_end(arguments);
}

void oct_note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print(OCT_VERBOSE, format, arguments);
    va_end(arguments);
}
