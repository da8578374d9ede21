// Status codes, messages and the one place where failures are reported.
//
// Every function that can fail returns an oct_status; 0 (OCT_OK) is success. The function that first
// sees a failure calls oct_fail() with what was found, what was expected and what to do; its callers
// pass the status on unchanged. The text of the first failure of a process is kept and can be taken
// with oct_failure_text(), so that ranks can agree on the worst status and rank 0 can say it once.
#ifndef OCT_RUNTIME_STATUS_H
#define OCT_RUNTIME_STATUS_H

#include <stdbool.h>

// The documented exit codes of `octet`; a status is the exit code of the command that it ends.
typedef enum oct_status {
    OCT_OK = 0,
    OCT_ERR_USAGE = 2,       // wrong command line or request
    OCT_ERR_FILE = 3,        // a model, input or output file is missing, wrong, damaged or cannot be written
    OCT_ERR_MACHINE = 4,     // the launch or the machine is unfit: ranks, memory, devices, shared memory
    OCT_ERR_LOST = 5,        // a rank or a host was lost or stuck
    OCT_ERR_DISAGREE = 6,    // ranks disagreed about the same numbers
    OCT_ERR_INTERNAL = 70,   // a fault of Octet itself
    OCT_ERR_INTERRUPTED = 75 // interrupted; can be resumed
} oct_status;

// Records a failure and returns `status`. The message is one line without a final period or newline:
// what was found, what was expected, what to do. The first failure of the process is kept (later ones are
// consequences and are dropped unless oct_failure_clear() was called). Thread safe.
oct_status oct_fail(oct_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The text of the kept failure, or "" where there is none. Owned by the library, valid until cleared.
const char *oct_failure_text(void);

// Forgets the kept failure (a request that failed alone while the job goes on; tests).
void oct_failure_clear(void);

// One word for a status, for example "file" for OCT_ERR_FILE.
const char *oct_status_name(oct_status status);

// How much is printed on stderr. Results go to stdout and never through these functions.
typedef enum oct_verbosity { OCT_QUIET, OCT_NORMAL, OCT_VERBOSE } oct_verbosity;

// Sets which messages of this process are printed and the prefix of them; only the rank that speaks for
// the job (rank 0) has anything but OCT_QUIET, so that a message appears once.
void oct_log_configure(oct_verbosity verbosity);
oct_verbosity oct_log_verbosity(void);

// Prints one line "octet: …" to stderr at OCT_NORMAL and above (warnings, facts a user acts on).
void oct_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Prints one line to stderr at OCT_VERBOSE (tables, decisions).
void oct_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
