// Files are compared before any of them is opened for writing.
#include "launch/files.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct named_file {
    const char *option; // as the user knows it
    const char *path;   // NULL: not named
} named_file;

// False where nothing can be lost: no such file, or a pipe, a terminal, /dev/null.
static bool find_regular(const named_file *file, struct stat *facts)
{
    const int failed = strcmp(file->path, "-") == 0 ? fstat(STDIN_FILENO, facts) : stat(file->path, facts);
    return failed == 0 && S_ISREG(facts->st_mode);
}

static bool are_same(const named_file *a, const named_file *b)
{
    struct stat first, second;
    if (find_regular(a, &first) && find_regular(b, &second))
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
    return strcmp(a->path, b->path) == 0 && access(a->path, F_OK) != 0;
}

oct_status oct_files_check(const oct_options *options, const char *draft)
{
    const char *prompt = options->prompt != NULL && options->prompt[0] == '@' ? options->prompt + 1 : NULL;
    const named_file files[] = {
        {"--output", options->output},     {"--stats", options->stats},
        {"--json", options->json_file},    {"--logits", options->logits},
        {"the model", options->operand},   {"--prompts", options->prompts},
        {"--prompt", prompt},              {"--text", options->text},
        {"--tokens", options->tokens},     {"--reference", options->reference},
        {"--speculate draft=", draft},
    };
    enum { WRITTEN = 4, COUNT = sizeof files / sizeof files[0] };
    for (int written = 0; written < WRITTEN; written++)
        for (int other = written + 1; other < COUNT; other++)
            if (files[written].path != NULL && files[other].path != NULL && are_same(&files[written], &files[other]))
                return oct_fail(OCT_ERR_USAGE, "'%s' (%s) and '%s' (%s) are the same file, which would be written "
                                "over; name another one", files[written].path, files[written].option,
                                files[other].path, files[other].option);
    return OCT_OK;
}
