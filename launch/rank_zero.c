// Rank 0 works, the others wait.
#include "launch/rank_zero.h"

#include <sched.h>

#include "ranks/launch_check.h"
#include "ranks/world.h"

int oct_rank_zero_run(oct_status (*work)(void *context), void *context)
{
    if (oct_launch_read().size <= 1)
        return work(context);
    oct_world world;
    oct_world_options options = oct_world_options_default();
    oct_status status = oct_world_init(&world, &options);
    if (!status)
        status = oct_world_agree(&world, world.rank == 0 ? work(context) : OCT_OK);
    oct_world_finish(&world);
    return status;
}

static oct_status pass(void *context)
{
    return *(const oct_status *)context;
}

int oct_rank_zero_leave(oct_status status)
{
    return oct_rank_zero_run(pass, &status);
}

int oct_file_threads(void)
{
    cpu_set_t allowed;
    int count = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    return count > 16 ? 16 : count;
}
