// Reading the host's processors.
#include "ranks/placement_topology.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef OCTET_HAVE_HWLOC
#include <hwloc.h>
#endif

void oct_cpus_allowed(oct_cpus *mask)
{
    cpu_set_t *set = CPU_ALLOC(OCT_CPUS_MAX);
    size_t bytes = CPU_ALLOC_SIZE(OCT_CPUS_MAX);
    memset(mask, 0, sizeof *mask);
    if (set != NULL && sched_getaffinity(0, bytes, set) == 0) {
        for (int cpu = 0; cpu < OCT_CPUS_MAX; cpu++)
            if (CPU_ISSET_S((size_t)cpu, bytes, set))
                oct_cpus_add(mask, cpu);
    }
    if (set != NULL)
        CPU_FREE(set);
}

#ifdef OCTET_HAVE_HWLOC
static bool read_hwloc(oct_topology *topology)
{
    hwloc_topology_t machine;
    if (hwloc_topology_init(&machine) != 0)
        return false;
    if (hwloc_topology_load(machine) != 0) {
        hwloc_topology_destroy(machine);
        return false;
    }
    topology->count = 0;
    int32_t core = -1;
    hwloc_obj_t previous = NULL, unit = NULL;
    while ((unit = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_PU, unit)) != NULL) {
        hwloc_obj_t owner = hwloc_get_ancestor_obj_by_type(machine, HWLOC_OBJ_CORE, unit);
        if (unit->os_index >= OCT_CPUS_MAX || topology->count == OCT_CPUS_MAX)
            continue;
        if (owner == NULL || owner != previous)
            core++;
        previous = owner;
        topology->cpu[topology->count] = (int32_t)unit->os_index;
        topology->core[topology->count++] = core;
    }
    hwloc_topology_destroy(machine);
    return topology->count > 0;
}
#endif

static long read_number(int cpu, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
    FILE *file = fopen(path, "r");
    long value = -1;
    if (file != NULL && fscanf(file, "%ld", &value) != 1)
        value = -1;
    if (file != NULL)
        fclose(file);
    return value;
}

// The list "0-3,8" of a file as a set; false where it cannot be read.
static bool read_list(const char *path, oct_cpus *cpus)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    int first, last, read;
    bool any = false;
    while ((read = fscanf(file, "%d-%d", &first, &last)) >= 1) {
        last = read == 2 ? last : first;
        for (int cpu = first; cpu >= 0 && cpu <= last && cpu < OCT_CPUS_MAX; cpu++)
            oct_cpus_add(cpus, cpu);
        any = true;
        if (fgetc(file) != ',')
            break;
    }
    fclose(file);
    return any;
}

typedef struct located {
    long package, die, core;
    int cpu;
} located;

static int by_place(const void *left, const void *right)
{
    const located *a = left, *b = right;
    if (a->package != b->package)
        return a->package < b->package ? -1 : 1;
    if (a->die != b->die)
        return a->die < b->die ? -1 : 1;
    if (a->core != b->core)
        return a->core < b->core ? -1 : 1;
    return a->cpu - b->cpu;
}

static void read_sys(oct_topology *topology)
{
    static located places[OCT_CPUS_MAX];
    oct_cpus online = {{0}};
    bool known = read_list("/sys/fs/cgroup/cpuset.cpus.effective", &online) ||
                 read_list("/sys/devices/system/cpu/online", &online);
    if (!known)
        oct_cpus_allowed(&online);
    int32_t count = 0, core = -1;
    for (int cpu = 0; cpu < OCT_CPUS_MAX; cpu++) {
        if (!oct_cpus_has(&online, cpu))
            continue;
        places[count++] = (located){.package = read_number(cpu, "physical_package_id"),
                                    .die = read_number(cpu, "die_id"),
                                    .core = read_number(cpu, "core_id"),
                                    .cpu = cpu};
    }
    qsort(places, (size_t)count, sizeof places[0], by_place);
    for (int32_t i = 0; i < count; i++) {
        bool same = i > 0 && places[i].core >= 0 && places[i].core == places[i - 1].core &&
                    places[i].die == places[i - 1].die && places[i].package == places[i - 1].package;
        core += same ? 0 : 1;
        topology->cpu[i] = places[i].cpu;
        topology->core[i] = core;
    }
    topology->count = count;
}

void oct_topology_read(oct_topology *topology)
{
#ifdef OCTET_HAVE_HWLOC
    if (read_hwloc(topology))
        return;
#endif
    read_sys(topology);
}

// The CPUs that one cgroup folder grants, 0 without a limit.
static double quota_of(const char *group)
{
    char path[4400];
    long long quota = 0, period = 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
    FILE *file = fopen(path, "r");
    bool limited = file != NULL && fscanf(file, "%lld %lld", &quota, &period) == 2 && period > 0;
    if (file != NULL)
        fclose(file);
    return limited ? (double)quota / (double)period : 0;
}

int32_t oct_cpu_quota(void)
{
    char line[4096], *group = NULL;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && group == NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "0::", 3) == 0)
            group = line + 3;
    if (file != NULL)
        fclose(file);
    if (group == NULL)
        return 0;
    group[strcspn(group, "\n")] = '\0';
    double least = 0;
    for (;;) {
        double quota = quota_of(group);
        if (quota > 0 && (least == 0 || quota < least))
            least = quota;
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
    return least == 0 ? 0 : least < 1 ? 1 : (int32_t)least;
}
