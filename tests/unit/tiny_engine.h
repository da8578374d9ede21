// An engine over a tiny random model, for tests of what rank 0 does with it. With one rank it is a unit test; the
// integration check-steps runs the same programs with several ranks.
#ifndef OCT_TESTS_TINY_ENGINE_H
#define OCT_TESTS_TINY_ENGINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoints/writer.h"
#include "ranks/engine.h"

static oct_world world;
static oct_engine *engine;

static oct_status write_tiny_model(const char *path)
{
    oct_source source = {0};
    const oct_write_options options = {.encoding = OCT_Q4};
    oct_status status = oct_source_open_synthetic(&source, "tiny", 1);
    if (status == OCT_OK)
        status = oct_checkpoint_write(&source, path, &options, NULL);
    oct_source_close(&source);
    return status;
}

// Opens the engine, runs the tests on rank 0, and returns their exit code. The model stands in a file named by the first
// argument, or in one of this process's own.
static int run_with_tiny_engine(int argc, char **argv, const oct_engine_options *wanted, int (*run_all)(void))
{
    char path[256];
    const oct_world_options options = oct_world_options_default();
    oct_status status = oct_world_init(&world, &options);
    snprintf(path, sizeof path, "%s", argc > 1 ? argv[1] : "");
    if (argc < 2)
        snprintf(path, sizeof path, "/tmp/octet-test-%d.h5", (int)getpid());
    if (status == OCT_OK)
        status = oct_world_agree(&world, world.rank == 0 ? write_tiny_model(path) : OCT_OK);
    if (status == OCT_OK)
        status = oct_engine_open(&engine, &world, path, wanted);
    if (world.rank == 0)
        unlink(path);
    int code = (int)status;
    bool finished = false;
    if (status == OCT_OK && world.rank == 0) {
        code = run_all();
        if (oct_engine_is_broken(engine) || oct_engine_finish(engine) != OCT_OK)
            oct_world_abort(&world, OCT_ERR_INTERNAL);
    } else if (status == OCT_OK) {
        code = (int)oct_engine_serve(engine, &finished);
    }
    oct_engine_close(engine);
    oct_world_finish(&world);
    return code;
}

#endif
