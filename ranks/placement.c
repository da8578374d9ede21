// Placement of the ranks of this job: gathers what the ranks of a host may use, lets placement_plan.c split
// it, and says what came out.
#include "ranks/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/placement_plan.h"
#include "ranks/placement_topology.h"
#include "ranks/wait.h"

enum { THREADS_MAX = 1024, ROW_BYTES = 160 };

// What each rank tells the ranks of its host.
typedef struct claim {
    oct_cpus mask;
    int32_t threads;
    int32_t quota;
} claim;

// What a rank tells rank 0.
typedef struct row {
    char text[ROW_BYTES];
    int32_t host_cores; // physical cores of its host that could be used
    int32_t used_cores; // those that the masks of its host's ranks touch
} row;

// Everything that the choice needs for a moment.
typedef struct scratch {
    oct_topology topology;
    claim own, *claims;
    oct_cpus *masks;
    int32_t *threads;
    oct_part *parts;
} scratch;

static void finish_request(oct_world *world, int code, MPI_Request *request)
{
    oct_status status = code == MPI_SUCCESS
                            ? oct_wait_request(request, -1)
                            : oct_fail(OCT_ERR_LOST, "MPI cannot start a collective operation");
    if (status != OCT_OK)
        oct_world_abort(world, status);
}

static void scratch_free(scratch *work)
{
    if (work == NULL)
        return;
    free(work->claims);
    free(work->masks);
    free(work->threads);
    free(work->parts);
    free(work);
}

static scratch *scratch_make(int ranks)
{
    scratch *work = calloc(1, sizeof *work);
    if (work == NULL)
        return NULL;
    work->claims = calloc((size_t)ranks, sizeof *work->claims);
    work->masks = calloc((size_t)ranks, sizeof *work->masks);
    work->threads = calloc((size_t)ranks, sizeof *work->threads);
    work->parts = calloc((size_t)ranks, sizeof *work->parts);
    if (work->claims != NULL && work->masks != NULL && work->threads != NULL && work->parts != NULL)
        return work;
    scratch_free(work);
    return NULL;
}

// The first rank of a host reads its topology; all learn it and each other's masks.
static void gather(oct_world *world, scratch *work, int32_t threads)
{
    MPI_Request request;
    if (world->host_rank == 0)
        oct_topology_read(&work->topology);
    int code = MPI_Ibcast(&work->topology, (int)sizeof work->topology, MPI_BYTE, 0, world->host, &request);
    finish_request(world, code, &request);
    work->own = (claim){.threads = threads, .quota = oct_cpu_quota()};
    oct_cpus_allowed(&work->own.mask);
    code = MPI_Iallgather(&work->own, (int)sizeof work->own, MPI_BYTE, work->claims, (int)sizeof work->own,
                          MPI_BYTE, world->host, &request);
    finish_request(world, code, &request);
    for (int i = 0; i < world->host_size; i++) {
        work->masks[i] = work->claims[i].mask;
        work->threads[i] = work->claims[i].threads;
    }
}

static void describe(const oct_world *world, const scratch *work, const oct_placement *placement, row *out)
{
    const oct_part *part = &work->parts[world->host_rank];
    oct_cpus all = {{0}};
    char cpus[80];
    oct_cpus_print(&part->cpus, cpus, sizeof cpus);
    snprintf(out->text, sizeof out->text, "%4d  %-16.24s %7d  %5d  %-6s  %s", world->rank,
             world->host_names[world->host_index], placement->threads, placement->cores,
             placement->cpus != NULL ? "yes" : "no", cpus);
    for (int i = 0; i < world->host_size; i++)
        for (int k = 0; k < OCT_CPU_WORDS; k++)
            all.word[k] |= work->masks[i].word[k];
    out->used_cores = oct_placement_cores(&work->topology, &all);
    out->host_cores = work->topology.count > 0 ? work->topology.core[work->topology.count - 1] + 1 : 0;
    const char *granted = getenv("SLURM_CPUS_ON_NODE"); // what Slurm gave the job, where no cgroup says it
    if (granted != NULL && atoi(granted) > 0 && atoi(granted) < out->host_cores)
        out->host_cores = atoi(granted);
}

static const char *idle_mend(void)
{
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL)
        return "start with `mpirun --bind-to none` (octet then splits the host's cores between its ranks)";
    if (getenv("SLURM_STEP_ID") != NULL)
        return "give srun `--cpus-per-task` or `--cpu-bind=none` (octet then splits the cores between its "
               "ranks)";
    return "start without binding (octet then splits the host's cores between its ranks)";
}

// Prints the table and the warning on rank 0. COLLECTIVE over all ranks.
static void tell(oct_world *world, const row *mine)
{
    row *rows = world->rank == 0 ? calloc((size_t)world->size, sizeof *rows) : NULL;
    if (world->rank == 0 && rows == NULL)
        oct_world_abort(world, oct_fail(OCT_ERR_MACHINE, "no memory for a table of %d ranks", world->size));
    MPI_Request request;
    int code = MPI_Igather(mine, (int)sizeof *mine, MPI_BYTE, rows, (int)sizeof *mine, MPI_BYTE, 0,
                           world->all, &request);
    finish_request(world, code, &request);
    if (world->rank != 0)
        return;
    oct_note("placement");
    oct_note("rank  host             threads  cores  pinned  CPUs");
    for (int rank = 0; rank < world->size; rank++)
        oct_note("%s", rows[rank].text);
    for (int rank = 0; rank < world->size; rank++) {
        if (2 * rows[rank].used_cores >= rows[rank].host_cores)
            continue;
        oct_warn("the launcher lets the ranks use %d of %d cores of host %s; %s", rows[rank].used_cores,
                 rows[rank].host_cores, world->host_names[world->host_of_rank[rank]], idle_mend());
        break;
    }
    free(rows);
}

static oct_status check_threads(int32_t threads)
{
    if (threads >= 0 && threads <= THREADS_MAX)
        return OCT_OK;
    return oct_fail(OCT_ERR_USAGE, "%d threads per rank were asked for; expected 1 to %d (0: one per core)",
                    threads, THREADS_MAX);
}

oct_status oct_placement_choose(oct_placement *placement, oct_world *world, int32_t threads)
{
    oct_placement chosen = {0};
    scratch *work = scratch_make(world->host_size);
    oct_status status = check_threads(threads);
    if (status == OCT_OK && work == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory to place %d ranks", world->host_size);
    status = oct_world_agree(world, status);
    if (status != OCT_OK) {
        scratch_free(work);
        return status;
    }
    gather(world, work, threads);
    chosen.oversubscribed = oct_placement_plan(&work->topology, work->masks, world->host_size, work->threads,
                                               work->claims[0].quota, work->parts);
    const oct_part *part = &work->parts[world->host_rank];
    chosen.threads = part->threads;
    chosen.cores = part->cores;
    if (!chosen.oversubscribed)
        chosen.cpus = calloc((size_t)chosen.threads, sizeof *chosen.cpus);
    if (chosen.cpus != NULL && !oct_placement_pin(&work->topology, part, chosen.cpus))
        oct_placement_free(&chosen);
    row mine = {.host_cores = 0};
    describe(world, work, &chosen, &mine);
    tell(world, &mine);
    oct_wait_configure(chosen.oversubscribed);
    scratch_free(work);
    *placement = chosen;
    return OCT_OK;
}

void oct_placement_free(oct_placement *placement)
{
    free(placement->cpus);
    placement->cpus = NULL;
}
