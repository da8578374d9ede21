// What this host offers: its logical CPUs in order, and how many of them may be kept busy.
#ifndef OCT_RANKS_PLACEMENT_TOPOLOGY_H
#define OCT_RANKS_PLACEMENT_TOPOLOGY_H

#include "ranks/placement_plan.h"

// Reads the CPUs that this process's cgroup may use (whatever its present mask), by hwloc where built with
// it, otherwise or where hwloc fails from /sys; where that fails too, the CPUs of the mask as cores. LOCAL.
void oct_topology_read(oct_topology *topology);

// The mask of the calling thread. LOCAL.
void oct_cpus_allowed(oct_cpus *mask);

// How many CPUs' time the process's cgroup grants (cpu.max, rounded down, at least 1); 0: no limit. LOCAL.
int32_t oct_cpu_quota(void);

#endif
