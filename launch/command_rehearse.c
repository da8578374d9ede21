// `octet rehearse`, in test builds only: walks through the phases of a decoding job with nothing but waits
// for other ranks, so that the guard, the monitor and fault injection can be tested without a model.
//
//     octet rehearse [--deadline SECONDS] [--steps N] [--step-ms MS] [--threads N] [--verbose 1]
#ifdef OCTET_FAULTS

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ranks/host_memory.h"
#include "ranks/placement.h"
#include "ranks/wait.h"
#include "ranks/world.h"
#include "runtime/fault.h"

int oct_command_rehearse(int argc, char **argv);

typedef struct rehearsal {
    oct_world_options options;
    int threads;
    int steps;
    double step_ms;
} rehearsal;

static bool parse(rehearsal *plan, int argc, char **argv)
{
    *plan = (rehearsal){.options = oct_world_options_default(), .steps = 20, .step_ms = 20};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return false;
        double value = atof(argv[i + 1]);
        if (strcmp(argv[i], "--deadline") == 0)
            plan->options = oct_world_options_deadline(value);
        else if (strcmp(argv[i], "--threads") == 0)
            plan->threads = (int)value;
        else if (strcmp(argv[i], "--verbose") == 0)
            oct_log_configure(value > 0 ? OCT_VERBOSE : OCT_NORMAL);
        else if (strcmp(argv[i], "--steps") == 0)
            plan->steps = (int)value;
        else if (strcmp(argv[i], "--step-ms") == 0)
            plan->step_ms = value;
        else
            return false;
    }
    return true;
}

static void work(double ms)
{
    int64_t ns = (int64_t)(ms * 1e6);
    nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL);
    oct_progress_bump();
}

// One step: some work, then everybody waits for everybody.
static void step(oct_world *world, oct_phase phase, int64_t number, double ms)
{
    oct_progress_step(number);
    if (oct_fault_point(phase) != OCT_OK)
        oct_world_abort(world, OCT_ERR_MACHINE);
    work(ms);
    MPI_Request request;
    oct_status status = OCT_ERR_LOST;
    if (MPI_Ibarrier(world->all, &request) == MPI_SUCCESS)
        status = oct_wait_request(&request, -1);
    if (status != OCT_OK)
        oct_world_abort(world, status);
}

static oct_status prepare(oct_world *world, const rehearsal *plan)
{
    static const oct_phase phases[] = {OCT_PHASE_OPEN, OCT_PHASE_LOAD};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        oct_progress_phase(phases[i]);
        oct_status status = OCT_OK;
        for (int k = 0; k < 4 && status == OCT_OK; k++) {
            status = oct_fault_point(phases[i]);
            work(plan->step_ms);
        }
        status = oct_world_agree(world, status);
        if (status != OCT_OK)
            return status;
    }
    return OCT_OK;
}

int oct_command_rehearse(int argc, char **argv)
{
    rehearsal plan;
    if (!parse(&plan, argc, argv))
        return oct_fail(OCT_ERR_USAGE,
                        "usage: octet rehearse [--deadline SECONDS] [--steps N] [--step-ms MS] [--threads N] "
                        "[--verbose 1]");
    oct_world world;
    oct_host_memory memory = {0};
    oct_status status = oct_world_init(&world, &plan.options);
    oct_placement placement = {0};
    if (status == OCT_OK)
        status = oct_placement_choose(&placement, &world, plan.threads);
    if (status == OCT_OK)
        status = oct_host_memory_allocate(&memory, &world, 1 << 20);
    if (status == OCT_OK)
        status = prepare(&world, &plan);
    if (status == OCT_OK) {
        oct_progress_phase(OCT_PHASE_PREFILL);
        for (int i = 0; i < 4; i++)
            step(&world, OCT_PHASE_PREFILL, i, plan.step_ms);
        oct_progress_phase(OCT_PHASE_DECODE);
        for (int i = 0; i < plan.steps; i++)
            step(&world, OCT_PHASE_DECODE, i, plan.step_ms);
        if (world.rank == 0)
            printf("rehearsed %d steps with %d ranks\n", plan.steps, world.size);
    }
    oct_host_memory_free(&memory);
    oct_placement_free(&placement);
    oct_world_finish(&world);
    return status;
}

#else
typedef int oct_rehearse_nothing; // a translation unit must not be empty
#endif
