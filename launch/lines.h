// Lines of a file, a pipe or a terminal, taken when they are there: whoever has other work asks without waiting.
#ifndef OCT_LAUNCH_LINES_H
#define OCT_LAUNCH_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/status.h"

typedef struct oct_lines {
    int descriptor;   // borrowed
    const char *name; // for messages, borrowed
    char *buffer;     // [capacity] owned; [begin, end) is not handed out yet
    size_t capacity, begin, end;
    size_t scanned; // up to here there is no newline
    bool ended;     // the file has
} oct_lines;

typedef enum oct_line_state {
    OCT_LINE_READY, // there is one
    OCT_LINE_LATER, // not yet
    OCT_LINE_END    // there are no more
} oct_line_state;

// Lines from a descriptor that is open for reading. LOCAL.
oct_lines oct_lines_begin(int descriptor, const char *name);

// The next line [bytes], without its newline, valid until the next call; the last one needs no newline. `wait`: however
// long it takes (never OCT_LINE_LATER). Errors: OCT_ERR_FILE, OCT_ERR_MACHINE (memory). LOCAL.
oct_status oct_lines_next(oct_lines *lines, bool wait, oct_line_state *state, const char **line, size_t *bytes);

// Frees what it owns; the descriptor stays open.
void oct_lines_free(oct_lines *lines);

#endif
