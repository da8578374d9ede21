// Random weights in a named shape. The temporary file stands in a folder of its own, which nobody else can have made.
#include "launch/synthetic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/writer.h"
#include "launch/rank_zero.h"

oct_status oct_synthetic_open(const oct_options *options, oct_source *source)
{
    const char *const *shapes = oct_synthetic_shapes();
    size_t count = 0;
    while (shapes[count] && strcmp(shapes[count], options->synthetic))
        count++;
    const char *nearest = shapes[count] ? NULL : oct_nearest_word(options->synthetic, shapes, count);
    if (nearest)
        return oct_fail(OCT_ERR_USAGE, "%s: unknown shape \"%s\"; did you mean %s?", oct_command_name(options->command),
                        options->synthetic, nearest);
    return oct_source_open_synthetic(source, options->synthetic, options->scale);
}

static void show_life(void *context, uint64_t bytes, uint64_t total)
{
    (void)context;
    (void)bytes;
    (void)total;
    oct_progress_bump();
}

static oct_status write_model(const oct_options *options, const char *folder, const char *path)
{
    oct_source source = {0};
    const oct_write_options write = {
        .encoding = oct_options_encoding(options), .threads = oct_file_threads(), .progress = show_life};
    oct_status status = oct_synthetic_open(options, &source);
    if (status == OCT_OK && mkdir(folder, 0700) != 0)
        status = oct_fail(OCT_ERR_FILE, "the folder '%s' for the synthetic weights cannot be made: %s; set TMPDIR to a "
                          "place with room", folder, strerror(errno));
    if (status == OCT_OK) {
        status = oct_checkpoint_write(&source, path, &write, NULL);
        if (status != OCT_OK)
            rmdir(folder);
    }
    oct_source_close(&source);
    return status;
}

oct_status oct_synthetic_write(oct_world *world, const oct_options *options, char path[PATH_MAX])
{
    enum { NAME_MAX_BYTES = 64 };
    const char *place = getenv("TMPDIR");
    char folder[PATH_MAX - NAME_MAX_BYTES];
    uint64_t number = world->rank == 0 ? (uint64_t)oct_now_ns() ^ (uint64_t)getpid() << 40 : 0;
    oct_world_allreduce(world, &number, 1, MPI_UINT64_T, MPI_MAX);
    oct_progress_phase(OCT_PHASE_OPEN);
    oct_status status = OCT_OK;
    const int length = snprintf(folder, sizeof folder, "%s/octet-%llx", place != NULL && *place ? place : "/tmp",
                                (unsigned long long)number);
    if (length >= (int)sizeof folder)
        status = oct_fail(OCT_ERR_FILE, "TMPDIR is %d bytes long, expected less than %zu", length, sizeof folder);
    snprintf(path, PATH_MAX, "%s/synthetic.h5", folder);
    if (status == OCT_OK && world->rank == 0)
        status = write_model(options, folder, path);
    status = oct_world_agree(world, status);
    if (status != OCT_OK)
        path[0] = '\0';
    return status;
}

void oct_synthetic_remove(const oct_world *world, const char *path)
{
    if (world->rank != 0 || path[0] == '\0')
        return;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    unlink(path);
    rmdir(folder);
}
