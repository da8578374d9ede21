// Reading lines with poll(): a file is always ready, a pipe when something was written.
#include "launch/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 16 };

oct_lines oct_lines_begin(int descriptor, const char *name)
{
    return (oct_lines){.descriptor = descriptor, .name = name};
}

void oct_lines_free(oct_lines *lines)
{
    free(lines->buffer);
    *lines = (oct_lines){0};
}

// Room for one more block behind what is not handed out.
static oct_status make_room(oct_lines *lines)
{
    if (lines->begin > 0) {
        memmove(lines->buffer, lines->buffer + lines->begin, lines->end - lines->begin);
        lines->end -= lines->begin;
        lines->scanned -= lines->begin;
        lines->begin = 0;
    }
    if (lines->capacity - lines->end >= BLOCK_BYTES)
        return OCT_OK;
    const size_t capacity = 2 * lines->capacity + BLOCK_BYTES;
    char *grown = realloc(lines->buffer, capacity);
    if (grown == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a line of '%s'", lines->name);
    lines->buffer = grown;
    lines->capacity = capacity;
    return OCT_OK;
}

// Reads a block, if there is one; *some false: not yet.
static oct_status read_block(oct_lines *lines, bool wait, bool *some)
{
    struct pollfd poll_for = {.fd = lines->descriptor, .events = POLLIN};
    const int ready = poll(&poll_for, 1, wait ? -1 : 0);
    *some = ready > 0;
    if (ready == 0 || (ready < 0 && errno == EINTR))
        return OCT_OK;
    oct_status status = make_room(lines);
    if (status != OCT_OK)
        return status;
    const ssize_t got = read(lines->descriptor, lines->buffer + lines->end, lines->capacity - lines->end);
    if (got < 0 && errno != EINTR && errno != EAGAIN)
        return oct_fail(OCT_ERR_FILE, "'%s' cannot be read: %s", lines->name, strerror(errno));
    lines->ended = got == 0;
    lines->end += got > 0 ? (size_t)got : 0;
    return OCT_OK;
}

// Hands out what stands before a newline, or before the end of the file; false where that is not in the buffer.
static bool take_line(oct_lines *lines, const char **line, size_t *bytes)
{
    const size_t unseen = lines->end - lines->scanned;
    const char *newline = unseen > 0 ? memchr(lines->buffer + lines->scanned, '\n', unseen) : NULL;
    lines->scanned = lines->end;
    if (newline == NULL && (!lines->ended || lines->begin == lines->end))
        return false;
    const size_t end = newline != NULL ? (size_t)(newline - lines->buffer) : lines->end;
    *line = lines->buffer + lines->begin;
    *bytes = end - lines->begin;
    lines->begin = lines->scanned = newline != NULL ? end + 1 : end;
    return true;
}

oct_status oct_lines_next(oct_lines *lines, bool wait, oct_line_state *state, const char **line, size_t *bytes)
{
    for (bool some = true;;) {
        *state = OCT_LINE_READY;
        if (take_line(lines, line, bytes))
            return OCT_OK;
        *state = lines->ended ? OCT_LINE_END : OCT_LINE_LATER;
        if (lines->ended || !(some || wait))
            return OCT_OK;
        const oct_status status = read_block(lines, wait, &some);
        if (status != OCT_OK)
            return status;
    }
}
