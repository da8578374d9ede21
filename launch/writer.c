// The writer's thread and the queue in front of it. Owns the output file; what a line looks like is runtime/response.h.
#include "launch/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ranks/world.h"
#include "runtime/allocations.h"
#include "runtime/fault.h"

enum { ROOM_BYTES = 64 << 20, WRITE_BYTES = 1 << 20, RESCUE_NS = 1000000000 };

// A response on its way.
typedef struct item {
    struct item *next;
    size_t bytes;
    oct_response *response; // owned
} item;

// Whole lines on their way to one write.
typedef struct lines {
    char *text;
    size_t bytes, capacity;
} lines;

struct oct_writer {
    oct_writer_options options;
    const char *name; // for messages
    int descriptor;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;    // for the thread: a response, or the end
    pthread_cond_t written; // for those who wait: the bytes have become fewer, or the thread has failed
    // Under the lock; the thread works on what it has taken without it.
    item *first, **last;
    size_t count, bytes; // handed over and not yet on disk
    bool stop;
    oct_status failed;
    int error; // errno of a failed file
};

// ------------------------------------------------------------------------------------------------ the thread's part

static bool add_line(lines *pending, const char *line)
{
    const size_t length = strlen(line), needed = pending->bytes + length + 1;
    if (needed > pending->capacity) {
        const size_t capacity = needed > 2 * pending->capacity ? needed : 2 * pending->capacity;
        char *grown = realloc(pending->text, capacity);
        if (grown == NULL)
            return false;
        pending->text = grown;
        pending->capacity = capacity;
    }
    memcpy(pending->text + pending->bytes, line, length);
    pending->text[needed - 1] = '\n';
    pending->bytes = needed;
    return true;
}

// Takes back the part of a line at the end of what was written before a failure (disk full). A pipe refuses.
static void cut_to_whole_lines(int descriptor, const lines *pending, size_t done)
{
    const char *newline = memrchr(pending->text, '\n', done);
    const off_t part = (off_t)done - (newline != NULL ? newline + 1 - pending->text : 0);
    const off_t end = lseek(descriptor, 0, SEEK_CUR);
    if (end >= part && ftruncate(descriptor, end - part) == 0)
        lseek(descriptor, end - part, SEEK_SET);
}

// Writes all of it; 0 or an errno. A pipe that somebody has made non-blocking is waited for.
static int write_lines(const oct_writer *writer, lines *pending)
{
    for (size_t done = 0; done < pending->bytes;) {
        const ssize_t wrote = write(writer->descriptor, pending->text + done, pending->bytes - done);
        const int error = wrote < 0 ? errno : 0;
        done += wrote > 0 ? (size_t)wrote : 0;
        if (error == EAGAIN) {
            poll(&(struct pollfd){.fd = writer->descriptor, .events = POLLOUT}, 1, -1);
        } else if (error != 0 && error != EINTR) {
            if (writer->options.path != NULL) // others may append to stdout's file
                cut_to_whole_lines(writer->descriptor, pending, done);
            return error;
        }
    }
    pending->bytes = 0;
    return 0;
}

// 0 or an errno. A pipe, a terminal and some file systems have nothing to sync.
static int sync_file(int descriptor)
{
    const int fault = oct_fault_sync();
    if (fault != 0)
        return fault;
    while (fsync(descriptor) != 0) {
        if (errno == EINVAL || errno == EROFS || errno == ENOTSUP)
            return 0;
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

static void keep_failure(oct_writer *writer, oct_status status, int error)
{
    pthread_mutex_lock(&writer->lock);
    if (writer->failed == OCT_OK) {
        writer->failed = status;
        writer->error = error;
    }
    pthread_cond_broadcast(&writer->written);
    pthread_mutex_unlock(&writer->lock);
}

// Formats a list, writes it in pieces of whole lines and syncs once; after a failure nothing more is written. Frees the
// list whatever comes of it.
static void put_on_disk(oct_writer *writer, item *list, lines *pending)
{
    bool memory = writer->failed != OCT_ERR_MACHINE; // only this thread changes it
    int error = writer->error;
    for (item *next; list != NULL; list = next) {
        next = list->next;
        char *line = memory && error == 0 ? oct_response_format(list->response) : NULL;
        memory = memory && (error != 0 || (line != NULL && add_line(pending, line)));
        free(line);
        free(list->response);
        free(list);
        if (error == 0 && (pending->bytes >= WRITE_BYTES || next == NULL || !memory))
            error = write_lines(writer, pending);
    }
    if (error == 0)
        error = sync_file(writer->descriptor);
    if (!memory || error != 0)
        keep_failure(writer, error != 0 ? OCT_ERR_FILE : OCT_ERR_MACHINE, error);
}

static void *run(void *argument)
{
    oct_writer *writer = argument;
    lines pending = {0};
    pthread_setname_np(pthread_self(), "octet writer"); // for those who look at a running job
    oct_allocations_leave_out();
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (writer->first == NULL && !writer->stop)
            pthread_cond_wait(&writer->wake, &writer->lock);
        if (writer->first == NULL)
            break;
        item *list = writer->first;
        const size_t count = writer->count, bytes = writer->bytes;
        writer->first = NULL;
        writer->last = &writer->first;
        pthread_mutex_unlock(&writer->lock);
        put_on_disk(writer, list, &pending);
        pthread_mutex_lock(&writer->lock);
        writer->count -= count;
        writer->bytes -= bytes;
        pthread_cond_broadcast(&writer->written);
    }
    pthread_mutex_unlock(&writer->lock);
    free(pending.text);
    return NULL;
}

// -------------------------------------------------------------------------------------------- the main thread's part

// What is handed over gets a second to reach the disk. Called by the main thread or the monitor's.
static void rescue(void *context)
{
    oct_writer *writer = context;
    const int64_t until_ns = oct_now_ns() + RESCUE_NS;
    const struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
    pthread_mutex_lock(&writer->lock);
    int late = 0;
    while (writer->count > 0 && writer->failed == OCT_OK && late == 0)
        late = pthread_cond_timedwait(&writer->written, &writer->lock, &until);
    const size_t lost = writer->count;
    pthread_mutex_unlock(&writer->lock);
    if (lost > 0)
        oct_warn("%zu finished responses are not known to be in '%s': storage took more than a second, or failed", lost,
                 writer->name);
}

static oct_status open_output(oct_writer *writer)
{
    const char *path = writer->options.path;
    writer->name = path != NULL ? path : "stdout";
    writer->descriptor = STDOUT_FILENO;
    if (path != NULL)
        writer->descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    else
        fflush(stdout);
    if (writer->descriptor < 0)
        return oct_fail(OCT_ERR_FILE, "'%s' cannot be written: %s", writer->name, strerror(errno));
    return OCT_OK;
}

static int close_output(oct_writer *writer)
{
    return writer->options.path != NULL && close(writer->descriptor) != 0 ? errno : 0;
}

// The thread takes no signal that is meant for the process; its own faults still have their handlers.
static int start_thread(oct_writer *writer)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    const int error = pthread_create(&writer->thread, NULL, run, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    const cpu_set_t *processors = writer->options.processors;
    if (error == 0 && processors != NULL && CPU_COUNT(processors) > 0)
        pthread_setaffinity_np(writer->thread, sizeof *processors, processors); // where it is refused it runs anyway
    return error;
}

static void destroy(oct_writer *writer)
{
    pthread_cond_destroy(&writer->written);
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

oct_status oct_writer_create(oct_writer **out, const oct_writer_options *options)
{
    oct_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the writer of responses");
    writer->options = *options;
    if (writer->options.room_bytes == 0)
        writer->options.room_bytes = ROOM_BYTES;
    writer->last = &writer->first;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, NULL);
    pthread_cond_init(&writer->written, &monotonic);
    pthread_condattr_destroy(&monotonic);
    oct_status status = open_output(writer);
    if (status != OCT_OK)
        goto discard;
    const int error = start_thread(writer);
    if (error != 0) {
        status = oct_fail(OCT_ERR_MACHINE, "the writer's thread cannot be started: %s; expected room for one more, see "
                          "`ulimit -u` and the cgroup's pids.max", strerror(error));
        goto close;
    }
    oct_world_set_rescue(rescue, writer);
    *out = writer;
    return OCT_OK;
close:
    close_output(writer);
discard:
    destroy(writer);
    return status;
}

static oct_status failure(const oct_writer *writer, oct_status failed, int error)
{
    if (failed == OCT_ERR_MACHINE)
        return oct_fail(failed, "no memory to format a response for '%s'", writer->name);
    return failed == OCT_OK ? OCT_OK : oct_fail(failed, "'%s' cannot be written: %s", writer->name, strerror(error));
}

oct_status oct_writer_check(oct_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    const oct_status failed = writer->failed;
    const int error = writer->error;
    pthread_mutex_unlock(&writer->lock);
    return failure(writer, failed, error);
}

static bool has_room(const oct_writer *writer, size_t bytes)
{
    return writer->bytes == 0 || writer->bytes + bytes <= writer->options.room_bytes;
}

// Waits until there is room for so many bytes, or the thread has failed.
static oct_status wait_for_room(oct_writer *writer, size_t bytes)
{
    pthread_mutex_lock(&writer->lock);
    const bool room = has_room(writer, bytes);
    pthread_mutex_unlock(&writer->lock);
    if (room)
        return oct_writer_check(writer);
    const oct_status status = writer->options.before_wait != NULL ? writer->options.before_wait(writer->options.context)
                                                                  : OCT_OK;
    if (status != OCT_OK)
        return status;
    pthread_mutex_lock(&writer->lock);
    while (!has_room(writer, bytes) && writer->failed == OCT_OK)
        pthread_cond_wait(&writer->written, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
    return oct_writer_check(writer);
}

oct_status oct_writer_put(oct_writer *writer, const oct_response *response)
{
    item *added = malloc(sizeof *added);
    if (added == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a response");
    added->next = NULL;
    added->response = oct_response_copy(response, &added->bytes);
    oct_status status = added->response != NULL ? wait_for_room(writer, added->bytes)
                                                : oct_fail(OCT_ERR_MACHINE, "no memory for a response");
    if (status != OCT_OK) {
        free(added->response);
        free(added);
        return status;
    }
    pthread_mutex_lock(&writer->lock);
    *writer->last = added;
    writer->last = &added->next;
    writer->count++;
    writer->bytes += added->bytes;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    return OCT_OK;
}

oct_status oct_writer_finish(oct_writer *writer)
{
    if (writer == NULL)
        return OCT_OK;
    pthread_mutex_lock(&writer->lock);
    const bool busy = writer->count > 0;
    writer->stop = true;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    const oct_status waited = busy && writer->options.before_wait != NULL
                                  ? writer->options.before_wait(writer->options.context)
                                  : OCT_OK;
    pthread_join(writer->thread, NULL);
    oct_world_set_rescue(NULL, NULL);
    const int closed = close_output(writer);
    if (closed != 0)
        keep_failure(writer, OCT_ERR_FILE, closed);
    const oct_status status = oct_writer_check(writer);
    destroy(writer);
    return status != OCT_OK ? status : waited;
}
