// Reading prompts.
#include "launch/prompt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

oct_status oct_read_all(FILE *file, const char *name, char **text, size_t *bytes)
{
    size_t capacity = 1 << 16, used = 0;
    char *buffer = malloc(capacity);
    while (buffer != NULL) {
        used += fread(buffer + used, 1, capacity - used - 1, file);
        if (used + 1 < capacity)
            break;
        char *grown = realloc(buffer, capacity *= 2);
        if (grown == NULL)
            free(buffer);
        buffer = grown;
    }
    if (buffer == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory to read '%s'", name);
    if (ferror(file)) {
        free(buffer);
        return oct_fail(OCT_ERR_FILE, "'%s' cannot be read: %s", name, strerror(errno));
    }
    buffer[used] = '\0';
    *text = buffer;
    *bytes = used;
    return OCT_OK;
}

oct_status oct_prompt_read(const char *argument, char **text, size_t *bytes)
{
    if (strcmp(argument, "-") == 0)
        return oct_read_all(stdin, "stdin", text, bytes);
    if (argument[0] != '@') {
        *text = strdup(argument);
        *bytes = strlen(argument);
        return *text != NULL ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for the prompt");
    }
    FILE *file = fopen(argument + 1, "rb");
    if (file == NULL)
        return oct_fail(OCT_ERR_FILE, "prompt file '%s' cannot be opened: %s", argument + 1, strerror(errno));
    const oct_status status = oct_read_all(file, argument + 1, text, bytes);
    fclose(file);
    return status;
}
