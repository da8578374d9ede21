// Launch checks. Owns no state; what it reads are environment variables, /proc and /sys/fs/cgroup.
#include "ranks/launch_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "runtime/partition.h"

static int number(const char *name, int otherwise)
{
    const char *value = name != NULL ? getenv(name) : NULL;
    if (value == NULL || value[0] == '\0')
        return otherwise;
    char *end = NULL;
    long parsed = strtol(value, &end, 10);
    return *end == '\0' && parsed >= 0 && parsed < 1000000000 ? (int)parsed : otherwise;
}

oct_launch oct_launch_read(void)
{
    // In this order: a launcher inside an allocation knows better than the allocation's variables. In a batch
    // script itself SLURM_STEP_NUM_TASKS is absent: it is a launch of one process.
    static const struct {
        const char *launcher, *size, *rank, *local_size;
    } known[] = {
        {"Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
        {"srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", NULL},
        {"a PMI launcher", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS"},
    };
    oct_launch launch = {.size = 1, .has_pmix = getenv("PMIX_NAMESPACE") != NULL};
    launch.has_pmi = getenv("PMI_FD") != NULL || getenv("PMI_PORT") != NULL || getenv("PMI_RANK") != NULL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (getenv(known[i].size) == NULL || getenv(known[i].rank) == NULL)
            continue;
        // mpiexec.hydra runs its proxies under srun: what they start has both, and the step's counts hosts.
        if (i == 1 && getenv("PMI_SIZE") != NULL && getenv("MPI_LOCALNRANKS") != NULL)
            continue;
        launch.launcher = known[i].launcher;
        launch.variable = known[i].size;
        launch.rank = number(known[i].rank, 0);
        launch.size = number(known[i].size, 1);
        launch.local_size = number(known[i].local_size, 0);
        break;
    }
    return launch;
}

// What to do where a launcher and MPI do not know each other.
static const char *mend(const oct_launch *launch)
{
    if (launch->launcher != NULL && strcmp(launch->launcher, "srun") == 0)
        return "start with `srun --mpi=pmix` (`srun --mpi=list` shows what this Slurm has), or with the "
               "mpirun of "
               "that MPI inside the allocation";
    return "start with the mpirun that belongs to that MPI";
}

static oct_status alone(const oct_launch *launch, const char *mpi_library)
{
    return oct_fail(OCT_ERR_MACHINE,
                    "%s started %d processes (%s), but %s finds only one: each believes to be alone; %s",
                    launch->launcher, launch->size, launch->variable, mpi_library, mend(launch));
}

oct_status oct_launch_check_start(const oct_launch *launch, const char *mpi_library)
{
    bool open_mpi = strncmp(mpi_library, "Open MPI", 8) == 0;
    bool wired = open_mpi ? launch->has_pmix : launch->has_pmix || launch->has_pmi;
    return launch->size <= 1 || wired ? OCT_OK : alone(launch, mpi_library);
}

oct_status oct_launch_check_size(const oct_launch *launch, int mpi_size, const char *mpi_library)
{
    if (mpi_size > OCT_MAX_RANKS)
        return oct_fail(
            OCT_ERR_MACHINE,
            "%d ranks are to hold one model; expected at most %d (start fewer, or several jobs with a copy of the "
            "model each)",
            mpi_size, OCT_MAX_RANKS);
    if (launch->size <= 1 || launch->size == mpi_size)
        return OCT_OK;
    if (mpi_size == 1)
        return alone(launch, mpi_library);
    return oct_fail(OCT_ERR_MACHINE, "%s started %d processes (%s), but %s sees %d; %s", launch->launcher,
                    launch->size, launch->variable, mpi_library, mpi_size, mend(launch));
}

oct_status oct_launch_check_shm(uint64_t free_bytes, int local_size, const char *host)
{
    const uint64_t per_process = 4u << 20, needed = (uint64_t)local_size * per_process;
    if (local_size < 2 || free_bytes >= needed)
        return OCT_OK;
    return oct_fail(
        OCT_ERR_MACHINE,
        "/dev/shm on host %s has %llu KiB free; expected %llu KiB for MPI's segments of %d processes (in a "
        "container: --shm-size; or remove what dead jobs left there; or tell Open MPI to use another "
        "folder: OMPI_MCA_btl_vader_backing_directory=/tmp)",
        host, (unsigned long long)(free_bytes >> 10), (unsigned long long)(needed >> 10), local_size);
}

uint64_t oct_shm_free_bytes(void)
{
    struct statvfs room;
    if (statvfs("/dev/shm", &room) != 0)
        return UINT64_MAX;
    return (uint64_t)room.f_bavail * room.f_frsize;
}

oct_status oct_launch_check_memory(uint64_t bytes_per_rank, int ranks, uint64_t available_bytes,
                                   const char *host)
{
    if (bytes_per_rank <= available_bytes / (uint64_t)ranks)
        return OCT_OK;
    const double gib = 1024.0 * 1024.0 * 1024.0;
    return oct_fail(
        OCT_ERR_MACHINE,
        "host %s has %.2f GiB of memory left; expected %d times %.2f GiB for the model and its cache "
        "(use more hosts, a smaller --context, a smaller encoding, or raise the job's memory "
        "limit)",
        host, (double)available_bytes / gib, ranks, (double)bytes_per_rank / gib);
}

// The value of "KEY: N kB" or "KEY N" in a file, times `unit`; UINT64_MAX where it is not there.
static uint64_t keyed(const char *path, const char *key, uint64_t unit)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return UINT64_MAX;
    char line[256];
    size_t length = strlen(key);
    unsigned long long value = 0;
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        found = strncmp(line, key, length) == 0 && sscanf(line + length, "%*[: \t]%llu", &value) == 1;
    fclose(file);
    return found ? value * unit : UINT64_MAX;
}

// The first number in a file; UINT64_MAX where there is none ("max").
static uint64_t only(const char *folder, const char *name)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return UINT64_MAX;
    unsigned long long value = 0;
    bool found = fscanf(file, "%llu", &value) == 1;
    fclose(file);
    return found ? value : UINT64_MAX;
}

// What one cgroup folder leaves; names differ between the versions.
static uint64_t left_in(const char *folder, bool second)
{
    uint64_t limit = only(folder, second ? "memory.max" : "memory.limit_in_bytes");
    uint64_t used = only(folder, second ? "memory.current" : "memory.usage_in_bytes");
    if (limit >= UINT64_MAX / 4 || used == UINT64_MAX)
        return UINT64_MAX;
    char path[4400];
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    uint64_t cache = keyed(path, second ? "inactive_file" : "total_inactive_file", 1);
    uint64_t firm = cache != UINT64_MAX && cache < used ? used - cache : used;
    return firm < limit ? limit - firm : 0;
}

// The least that a cgroup path and its ancestors leave, below `root`.
static uint64_t left_along(const char *root, char *path, bool second)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        char folder[4200];
        snprintf(folder, sizeof folder, "%s%s", root, path);
        uint64_t left = left_in(folder, second);
        least = left < least ? left : least;
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

uint64_t oct_memory_available_bytes(void)
{
    uint64_t least = keyed("/proc/meminfo", "MemAvailable", 1024);
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (file == NULL)
        return least;
    char line[4096 + 64];
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'),
             *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        bool second = controllers[1] == '\0';
        if (!second && strstr(controllers + 1, "memory") == NULL)
            continue;
        uint64_t left = left_along(second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory", path, second);
        least = left < least ? left : least;
    }
    fclose(file);
    return least;
}
