// Where a prompt comes from.
#ifndef OCT_LAUNCH_PROMPT_H
#define OCT_LAUNCH_PROMPT_H

#include <stdio.h>

#include "runtime/status.h"

// The prompt that `-p` names: text, the contents of a file (@FILE) or stdin (-). *text is terminated and may hold NUL
// among its *bytes too; owned by the caller. Errors: OCT_ERR_FILE, OCT_ERR_MACHINE (memory). LOCAL.
oct_status oct_prompt_read(const char *argument, char **text, size_t *bytes);

// Everything that a file holds from here on, terminated; `name` is for messages. Errors: OCT_ERR_FILE. LOCAL.
oct_status oct_read_all(FILE *file, const char *name, char **text, size_t *bytes);

#endif
