// The writer: a thread that puts finished responses on disk, so that the decode loop never waits for storage.
//
// The main thread hands a response over by a copy of its parts; the thread formats it (runtime/response.h), writes it
// and syncs. Whatever was handed over while a sync ran goes out together and has one sync. Responses are written in the
// order in which they came, and only whole lines are handed to the system, so that a job that is killed leaves whole
// lines, save for a last one that the system itself had written in part.
//
// Memory is bounded: where storage, or the reader of a pipe, is hopelessly slow, oct_writer_put() waits until there is
// room. A response larger than all the room is taken when it is the only one. When the job ends before its time
// (oct_world_abort(), the monitor) the process still gives the thread a second to write what was handed over.
#ifndef OCT_LAUNCH_WRITER_H
#define OCT_LAUNCH_WRITER_H

#include <sched.h>
#include <stddef.h>

#include "runtime/response.h"
#include "runtime/status.h"

typedef struct oct_writer oct_writer;

typedef struct oct_writer_options {
    const char *path;            // a file to create or replace; NULL: stdout
    size_t room_bytes;           // of responses handed over and not yet on disk; 0: 64 MiB
    const cpu_set_t *processors; // that the thread may run on; NULL or an empty set: those of the calling thread
    // Called by the main thread whenever it is about to wait for storage: there is no telling how long, so that the
    // ranks must not be taken for stuck. May be NULL.
    oct_status (*before_wait)(void *context);
    void *context;
} oct_writer_options;

// Opens the output and starts the thread. One writer a process at a time; main thread, as for all functions here.
// LOCAL. Errors: OCT_ERR_FILE (the path cannot be opened for writing), OCT_ERR_MACHINE (no memory, no thread).
oct_status oct_writer_create(oct_writer **writer, const oct_writer_options *options);

// Hands a response over; everything in it is copied, except the figures' names, which must outlive the writer. LOCAL.
// Errors: those of an earlier response (oct_writer_check()), of before_wait, OCT_ERR_MACHINE (no memory).
oct_status oct_writer_put(oct_writer *writer, const oct_response *response);

// The first failure of the thread so far: OCT_ERR_FILE (disk full, reader gone, storage broken), OCT_ERR_MACHINE (no
// memory). What is put after a failure is lost. Costs a lock that is held for moments only. LOCAL.
oct_status oct_writer_check(oct_writer *writer);

// Waits until everything is on disk, ends the thread, closes the file (not stdout) and frees the writer. LOCAL.
// Errors: those of oct_writer_check() and of before_wait. NULL is OCT_OK.
oct_status oct_writer_finish(oct_writer *writer);

#endif
