// The job's beginning, agreement and end. Owns MPI's initialisation and the two communicators.
#include "ranks/world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ranks/launch_check.h"
#include "ranks/monitor.h"
#include "ranks/wait.h"
#include "runtime/fault.h"

enum { FAILURE_BYTES = 2048, NEVER_SENT_TAG = 1, BEYOND_DEADLINE_S = 1 };

oct_world_options oct_world_options_default(void)
{
    return (oct_world_options){.deadline_s = 10.0, .start_deadline_s = 600.0};
}

oct_world_options oct_world_options_deadline(double seconds)
{
    return (oct_world_options){.deadline_s = seconds, .start_deadline_s = seconds};
}

uint64_t oct_world_patience_ns(const oct_world *world)
{
    const double deadline_s = world->options.deadline_s;
    return deadline_s > 0 ? (uint64_t)((deadline_s + BEYOND_DEADLINE_S) * 1e9) : 0;
}

// Completes a collective at start-up; there is nobody to agree with where it fails.
static void complete(oct_world *world, int code, MPI_Request *request)
{
    oct_status status = code == MPI_SUCCESS
                            ? oct_wait_request(request, -1)
                            : oct_fail(OCT_ERR_LOST, "MPI cannot start a collective operation");
    if (status != OCT_OK)
        oct_world_abort(world, status);
}

static void *allocate(oct_world *world, int count, size_t bytes)
{
    void *memory = calloc((size_t)count, bytes);
    if (memory == NULL)
        oct_world_abort(world, oct_fail(OCT_ERR_MACHINE, "no memory for a table of %d ranks", count));
    return memory;
}

// Looking for a message that never comes is the cheapest call that makes MPI go on with everything under way.
static oct_status move_mpi(void *context)
{
    const oct_world *world = context;
    int found = 0;
    MPI_Iprobe(world->rank, NEVER_SENT_TAG, world->all, &found, MPI_STATUS_IGNORE);
    return OCT_OK;
}

// Starts MPI and takes the two communicators.
static void start_mpi(oct_world *world)
{
    int provided = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        oct_world_abort(world, oct_fail(OCT_ERR_MACHINE, "MPI does not start"));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_FUNNELED)
        oct_world_abort(world, oct_fail(OCT_ERR_MACHINE,
                                        "this MPI offers thread level %d; expected "
                                        "MPI_THREAD_FUNNELED, which every MPI can be built with",
                                        provided));
    int code = MPI_Comm_dup(MPI_COMM_WORLD, &world->all);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(world->all, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_split_type(world->all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &world->host);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(world->host, MPI_ERRORS_RETURN);
    if (code != MPI_SUCCESS)
        oct_world_abort(world, oct_fail(OCT_ERR_LOST, "MPI cannot make the job's communicators"));
    MPI_Comm_rank(world->all, &world->rank);
    MPI_Comm_size(world->all, &world->size);
    MPI_Comm_rank(world->host, &world->host_rank);
    MPI_Comm_size(world->host, &world->host_size);
    char name[OCT_HOST_NAME_BYTES] = "unknown";
    gethostname(name, sizeof name - 1);
    oct_progress_identify(world->rank, world->size, name);
    world->mpi_mover = (oct_wait_mover){.move = move_mpi, .context = world};
    oct_wait_attach(&world->mpi_mover);
}

// Learns which rank is on which host and what the hosts are called.
static void map_hosts(oct_world *world)
{
    MPI_Request request;
    char name[OCT_HOST_NAME_BYTES];
    memcpy(name, oct_progress_page->host, sizeof name);
    world->ranks_of_host = allocate(world, world->host_size, sizeof(int));
    int code =
        MPI_Iallgather(&world->rank, 1, MPI_INT, world->ranks_of_host, 1, MPI_INT, world->host, &request);
    complete(world, code, &request);

    world->host_of_rank = allocate(world, world->size, sizeof(int));
    world->host_names = allocate(world, world->size, sizeof *world->host_names);
    char(*names)[OCT_HOST_NAME_BYTES] = allocate(world, world->size, sizeof *names);
    int *first = allocate(world, world->size, sizeof(int)); // the lowest rank of each rank's host
    code = MPI_Iallgather(name, sizeof name, MPI_CHAR, names, sizeof name, MPI_CHAR, world->all, &request);
    complete(world, code, &request);
    code = MPI_Iallgather(&world->ranks_of_host[0], 1, MPI_INT, first, 1, MPI_INT, world->all, &request);
    complete(world, code, &request);
    for (int rank = 0; rank < world->size; rank++) {
        if (first[rank] == rank) {
            memcpy(world->host_names[world->host_count], names[rank], sizeof name);
            world->host_of_rank[rank] = world->host_count++;
        } else {
            world->host_of_rank[rank] = world->host_of_rank[first[rank]];
        }
    }
    world->host_index = world->host_of_rank[world->rank];
    free(first);
    free(names);
}

// Remembers the name prefix of Open MPI's own segments in /dev/shm, which it leaves behind when a rank is
// killed, so that the guard can remove those of this job.
static void note_leftovers(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL)
        return;
    char line[1024], *leftover = oct_progress_page->leftovers[0];
    while (leftover[0] == '\0' && fgets(line, sizeof line, maps) != NULL) {
        char *path = strstr(line, "/dev/shm/"), *dot = path != NULL ? strrchr(path, '.') : NULL;
        bool ours =
            path != NULL && (strstr(path, "vader_segment.") != NULL || strstr(path, "sm_segment.") != NULL);
        if (!ours || dot == NULL || dot - path + 2 > OCT_LEFTOVERS_BYTES)
            continue;
        dot[1] = '\0'; // PREFIX.HOST.USER.JOB.RANK: all ranks of the job on this host
        snprintf(leftover, OCT_LEFTOVERS_BYTES, "%s", path);
    }
    fclose(maps);
}

// The name of the MPI library, without its date and place.
static void name_library(char text[MPI_MAX_LIBRARY_VERSION_STRING])
{
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    for (char *tab = strchr(text, '\t'); tab != NULL; tab = strchr(tab, '\t'))
        *tab = ' ';
}

// Prints a failure that every process of the launch sees alike; those that believe to be alone cannot agree.
static oct_status say(const oct_launch *launch, oct_status status)
{
    if (status != OCT_OK && launch->rank == 0)
        oct_warn("%s", oct_failure_text());
    if (status != OCT_OK)
        oct_failure_clear();
    return status;
}

// What can be wrong before MPI starts.
static oct_status check_before(const oct_launch *launch, const char *library)
{
    char host[OCT_HOST_NAME_BYTES] = "unknown";
    gethostname(host, sizeof host - 1);
    oct_status status = oct_launch_check_start(launch, library);
    return status == OCT_OK ? oct_launch_check_shm(oct_shm_free_bytes(), launch->local_size, host) : status;
}

oct_status oct_world_init(oct_world *world, const oct_world_options *options)
{
    *world = (oct_world){.all = MPI_COMM_NULL, .host = MPI_COMM_NULL, .options = *options};
    double start_ms = options->start_deadline_s * 1e3;
    atomic_store(&oct_progress_page->start_deadline_ms, start_ms < 1e9 ? (int)start_ms : 0);
    oct_progress_phase(OCT_PHASE_INIT);
    oct_launch launch = oct_launch_read();
    oct_log_configure(launch.rank == 0 ? oct_log_verbosity() : OCT_QUIET);
    char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    name_library(library);
    oct_status status = say(&launch, check_before(&launch, library));
    if (status != OCT_OK)
        return status;
    oct_progress_wait_begin(-1); // MPI_Init and the communicators wait for the others, unwatched
    start_mpi(world);
    note_leftovers();
    oct_progress_wait_end();
    oct_status configured = oct_fault_configure(world->rank);
    if (configured == OCT_OK)
        configured = oct_fault_point(OCT_PHASE_INIT);
    status = say(&launch, oct_launch_check_size(&launch, world->size, library));
    if (status != OCT_OK)
        return status;
    if (world->rank != 0)
        oct_log_configure(OCT_QUIET);
    map_hosts(world);
    status = oct_monitor_start(world);
    if (status != OCT_OK)
        return status;
    return oct_world_agree(world, configured == OCT_OK ? oct_fault_point(OCT_PHASE_INIT) : configured);
}

// Which of two different failures the job reports.
static int severity(oct_status status)
{
    switch (status) {
    case OCT_OK:
        return 0;
    case OCT_ERR_INTERRUPTED:
        return 1;
    case OCT_ERR_USAGE:
        return 2;
    case OCT_ERR_FILE:
        return 3;
    case OCT_ERR_MACHINE:
        return 4;
    case OCT_ERR_DISAGREE:
        return 5;
    case OCT_ERR_LOST:
        return 6;
    case OCT_ERR_INTERNAL:
        return 7;
    }
    return 7;
}

oct_status oct_world_agree(oct_world *world, oct_status status)
{
    // Severity, then who can say why, then the lowest rank, then the status itself.
    const int64_t can_say = oct_failure_text()[0] != '\0' && status != OCT_OK;
    int64_t mine = ((int64_t)severity(status) << 40) | (can_say << 39) |
                   ((int64_t)(world->size - 1 - world->rank) << 8) | (int64_t)(unsigned char)status;
    int64_t worst = mine;
    MPI_Request request;
    complete(world, MPI_Iallreduce(&mine, &worst, 1, MPI_INT64_T, MPI_MAX, world->all, &request), &request);
    if (worst >> 40 == 0)
        return OCT_OK;
    int origin = world->size - 1 - (int)((worst >> 8) & 0x7fffffff);
    status = (oct_status)(worst & 0xff);
    char text[FAILURE_BYTES] = "";
    if (world->rank == origin)
        snprintf(text, sizeof text, "%s", oct_failure_text());
    complete(world, MPI_Ibcast(text, sizeof text, MPI_CHAR, origin, world->all, &request), &request);
    if (text[0] == '\0')
        snprintf(text, sizeof text, "failed (%s) without a message", oct_status_name(status));
    if (world->size == 1 || world->host_count == 0)
        oct_warn("%s", text);
    else
        oct_warn("%s (rank %d on host %s)", text, origin, world->host_names[world->host_of_rank[origin]]);
    oct_failure_clear();
    return status;
}

void oct_world_allreduce(oct_world *world, void *values, int count, MPI_Datatype type, MPI_Op operation)
{
    MPI_Request request;
    complete(world, MPI_Iallreduce(MPI_IN_PLACE, values, count, type, operation, world->all, &request), &request);
}

static void free_tables(oct_world *world)
{
    free(world->host_of_rank);
    free(world->ranks_of_host);
    free(world->host_names);
    *world = (oct_world){.all = MPI_COMM_NULL, .host = MPI_COMM_NULL};
}

void oct_world_finish(oct_world *world)
{
    int started = 0, over = 0;
    MPI_Initialized(&started);
    MPI_Finalized(&over);
    if (started && !over) {
        oct_progress_phase(OCT_PHASE_FINISH);
        if (oct_fault_point(OCT_PHASE_FINISH) != OCT_OK)
            oct_world_abort(world, OCT_ERR_MACHINE);
        MPI_Request request;
        complete(world, MPI_Ibarrier(world->all, &request), &request);
        oct_wait_detach(&world->mpi_mover);
        MPI_Comm_free(&world->host);
        MPI_Comm_free(&world->all);
        oct_progress_wait_begin(-1); // MPI_Finalize waits for the others
        MPI_Finalize();
        oct_progress_wait_end();
    }
    oct_progress_phase(OCT_PHASE_DONE);
    oct_monitor_stop(world);
    free_tables(world);
}

static struct {
    pthread_mutex_t lock;
    void (*call)(void *context);
    void *context;
} last_rescue = {.lock = PTHREAD_MUTEX_INITIALIZER};

void oct_world_set_rescue(void (*rescue)(void *context), void *context)
{
    pthread_mutex_lock(&last_rescue.lock);
    last_rescue.call = rescue;
    last_rescue.context = context;
    pthread_mutex_unlock(&last_rescue.lock);
}

void oct_world_rescue(void)
{
    pthread_mutex_lock(&last_rescue.lock);
    if (last_rescue.call != NULL)
        last_rescue.call(last_rescue.context);
    pthread_mutex_unlock(&last_rescue.lock);
}

_Noreturn void oct_world_abort(oct_world *world, oct_status status)
{
    oct_world_rescue(); // at once: the launcher may already be about to end the job
    bool found = oct_monitor_found_loss();
    // A lost peer's guard or the monitor says more than a failed MPI call: let them speak and the launcher
    // act.
    if (status == OCT_ERR_LOST && !found)
        usleep(1000000);
    found = found || oct_monitor_found_loss();
    const char *text = oct_failure_text();
    if (!found && text[0] != '\0' && oct_monitor_may_speak(world != NULL ? world->monitor : NULL))
        fprintf(stderr, "octet: %s\n", text);
    fflush(stderr);
    fflush(stdout);
    oct_progress_goodbye((int)status);
    _exit((int)status);
}

void oct_world_mpi_library(char *text, size_t bytes)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(version, &length); // allowed before MPI_Init
    version[strcspn(version, ",\n")] = '\0';
    for (char *at = version; *at != '\0'; at++)
        *at = *at == '\t' ? ' ' : *at;
    snprintf(text, bytes, "%s", version);
}
