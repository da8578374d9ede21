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
static oct_engine *companion; // takes turns with it; or NULL

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

static oct_status open_tiny_engines(const char *path, const oct_engine_options *wanted,
                                    const oct_engine_options *wanted_companion)
{
    oct_status status = oct_engine_open(&engine, &world, path, wanted);
    if (status != OCT_OK || wanted_companion == NULL)
        return status;
    oct_engine_options options = *wanted_companion;
    options.companion = engine;
    return oct_engine_open(&companion, &world, path, &options);
}

// Ranks other than 0.
static oct_status serve_tiny_engines(void)
{
    bool finished = false;
    oct_status status = OCT_OK;
    for (oct_engine *at = engine; status == OCT_OK && !finished; at = at == engine ? companion : engine)
        status = oct_engine_serve(at, &finished);
    return status;
}

// Opens the engine and, where wanted, a companion over the same model, runs the tests on rank 0, and returns their exit
// code. The model stands in a file named by the first argument, or in one of this process's own.
static int run_with_tiny_engines(int argc, char **argv, const oct_engine_options *wanted,
                                 const oct_engine_options *wanted_companion, int (*run_all)(void))
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
        status = open_tiny_engines(path, wanted, wanted_companion);
    if (world.rank == 0)
        unlink(path);
    int code = (int)status;
    if (status == OCT_OK && world.rank == 0) {
        code = run_all();
        if (oct_engine_is_broken(engine) || oct_engine_finish(engine) != OCT_OK)
            oct_world_abort(&world, OCT_ERR_INTERNAL);
    } else if (status == OCT_OK) {
        code = (int)serve_tiny_engines();
    }
    oct_engine_close(companion);
    oct_engine_close(engine);
    oct_world_finish(&world);
    return code;
}

static inline int run_with_tiny_engine(int argc, char **argv, const oct_engine_options *wanted, int (*run_all)(void))
{
    return run_with_tiny_engines(argc, argv, wanted, NULL, run_all);
}

#endif
