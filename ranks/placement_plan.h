// The arithmetic of placement: masks and a topology go in, parts come out. No MPI, no system call.
#ifndef OCT_RANKS_PLACEMENT_PLAN_H
#define OCT_RANKS_PLACEMENT_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OCT_CPUS_MAX = 2048, OCT_CPU_WORDS = OCT_CPUS_MAX / 64 };

// A set of logical CPUs by the numbers of the operating system.
typedef struct oct_cpus {
    uint64_t word[OCT_CPU_WORDS];
} oct_cpus;

static inline void oct_cpus_add(oct_cpus *cpus, int cpu)
{
    cpus->word[cpu / 64] |= (uint64_t)1 << (cpu % 64);
}

static inline bool oct_cpus_has(const oct_cpus *cpus, int cpu)
{
    return (cpus->word[cpu / 64] >> (cpu % 64)) & 1;
}

// Writes a set as "0-7,16-23" (cut with "…" where it does not fit).
void oct_cpus_print(const oct_cpus *cpus, char *text, size_t bytes);

// The logical CPUs of a host, neighbours in the machine beside each other, CPUs of one core in a row.
typedef struct oct_topology {
    int32_t count;              // logical CPUs
    int32_t cpu[OCT_CPUS_MAX];  // [count] number of the operating system
    int32_t core[OCT_CPUS_MAX]; // [count] physical core, ascending from 0
} oct_topology;

// What one rank gets.
typedef struct oct_part {
    oct_cpus cpus;
    int32_t cores; // physical cores of the part
    int32_t threads;
    bool shared; // another rank's part holds some of the same cores
} oct_part;

// Splits a host between 1 to OCT_MAX_RANKS ranks. masks: [ranks] where the launcher lets each rank run (CPUs
// that the topology does not know are ignored; a mask without a known one counts as the whole host). threads:
// [ranks] asked for, 0 for the default; limit: threads that the host's ranks may run together by default (a
// cgroup's CPU quota), 0: no limit. parts: [ranks] out. Returns whether the host is oversubscribed.
bool oct_placement_plan(const oct_topology *topology, const oct_cpus *masks, int32_t ranks,
                        const int32_t *threads, int32_t limit, oct_part *parts);

// The CPUs for the threads of a part: one a core, second hardware threads after all cores. cpus:
// [part->threads]. False where the part has fewer CPUs than threads.
bool oct_placement_pin(const oct_topology *topology, const oct_part *part, int32_t *cpus);

// Physical cores of a topology that a set touches.
int32_t oct_placement_cores(const oct_topology *topology, const oct_cpus *cpus);

#endif
