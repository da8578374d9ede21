// The arithmetic of placement. Owns nothing.
#include "ranks/placement_plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "runtime/partition.h"

void oct_cpus_print(const oct_cpus *cpus, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int first = 0; first < OCT_CPUS_MAX; first++) {
        if (!oct_cpus_has(cpus, first))
            continue;
        int last = first;
        while (last + 1 < OCT_CPUS_MAX && oct_cpus_has(cpus, last + 1))
            last++;
        char run[32];
        int length =
            snprintf(run, sizeof run, last > first ? "%s%d-%d" : "%s%d", used > 0 ? "," : "", first, last);
        if (used + (size_t)length + sizeof "…" > bytes) {
            snprintf(text + used, bytes - used, "…");
            return;
        }
        memcpy(text + used, run, (size_t)length + 1);
        used += (size_t)length;
        first = last;
    }
}

static bool intersect(const oct_cpus *a, const oct_cpus *b)
{
    for (int i = 0; i < OCT_CPU_WORDS; i++)
        if (a->word[i] & b->word[i])
            return true;
    return false;
}

int32_t oct_placement_cores(const oct_topology *topology, const oct_cpus *cpus)
{
    int32_t cores = 0, last = -1;
    for (int32_t i = 0; i < topology->count; i++) {
        if (!oct_cpus_has(cpus, topology->cpu[i]) || topology->core[i] == last)
            continue;
        last = topology->core[i];
        cores++;
    }
    return cores;
}

// The mask of a rank, as far as the topology knows its CPUs.
static oct_cpus known_mask(const oct_topology *topology, const oct_cpus *mask)
{
    oct_cpus known = {{0}}, all = {{0}};
    bool any = false;
    for (int32_t i = 0; i < topology->count; i++) {
        oct_cpus_add(&all, topology->cpu[i]);
        if (oct_cpus_has(mask, topology->cpu[i])) {
            oct_cpus_add(&known, topology->cpu[i]);
            any = true;
        }
    }
    return any ? known : all;
}

// Gives one rank the CPUs of its mask on the cores [first, last) of those that the mask touches.
static void take_cores(const oct_topology *topology, const oct_cpus *mask, int32_t first, int32_t last,
                       oct_part *part)
{
    int32_t index = -1, previous = -1;
    for (int32_t i = 0; i < topology->count; i++) {
        if (!oct_cpus_has(mask, topology->cpu[i]))
            continue;
        if (topology->core[i] != previous)
            index++;
        previous = topology->core[i];
        if (index >= first && index < last)
            oct_cpus_add(&part->cpus, topology->cpu[i]);
    }
}

// Ranks with one and the same mask: contiguous runs of its cores, or one shared core each where there are
// fewer.
static void split_equal(const oct_topology *topology, const oct_cpus *mask, const int32_t *members,
                        int32_t count, oct_part *parts)
{
    int32_t cores = oct_placement_cores(topology, mask);
    for (int32_t j = 0; j < count; j++) {
        int32_t first = (int32_t)((int64_t)j * cores / count),
                last = (int32_t)((int64_t)(j + 1) * cores / count);
        take_cores(topology, mask, first, last > first ? last : first + 1, &parts[members[j]]);
    }
}

// Ranks whose masks differ and overlap: each core goes to the rank that has fewest and may use it. A rank
// that is left without a core keeps its whole mask.
static void split_unequal(const oct_topology *topology, const oct_cpus *masks, const int32_t *members,
                          int32_t count, oct_part *parts)
{
    for (int32_t i = 0; i < topology->count;) {
        int32_t end = i, best = -1;
        oct_cpus core = {{0}};
        for (; end < topology->count && topology->core[end] == topology->core[i]; end++)
            oct_cpus_add(&core, topology->cpu[end]);
        for (int32_t j = 0; j < count; j++)
            if (intersect(&masks[members[j]], &core) &&
                (best < 0 || parts[members[j]].cores < parts[best].cores))
                best = members[j];
        if (best >= 0)
            parts[best].cores++;
        for (int32_t k = i; best >= 0 && k < end; k++)
            if (oct_cpus_has(&masks[best], topology->cpu[k]))
                oct_cpus_add(&parts[best].cpus, topology->cpu[k]);
        i = end;
    }
    for (int32_t j = 0; j < count; j++)
        if (parts[members[j]].cores == 0)
            parts[members[j]].cpus = masks[members[j]];
}

// Collects the ranks that are connected by overlapping masks with `first`; returns how many.
static int32_t collect(const oct_cpus *masks, int32_t ranks, int32_t first, bool *placed, int32_t *members)
{
    int32_t count = 1;
    members[0] = first;
    placed[first] = true;
    for (int32_t i = 0; i < count; i++) {
        for (int32_t r = 0; r < ranks; r++) {
            if (placed[r] || !intersect(&masks[members[i]], &masks[r]))
                continue;
            placed[r] = true;
            members[count++] = r;
        }
    }
    return count;
}

static void split(const oct_topology *topology, const oct_cpus *masks, int32_t ranks, oct_part *parts)
{
    bool placed[OCT_MAX_RANKS] = {false};
    int32_t members[OCT_MAX_RANKS];
    for (int32_t first = 0; first < ranks; first++) {
        if (placed[first])
            continue;
        int32_t count = collect(masks, ranks, first, placed, members);
        bool equal = true;
        for (int32_t j = 1; j < count; j++)
            equal = equal && memcmp(&masks[members[j]], &masks[first], sizeof *masks) == 0;
        if (equal)
            split_equal(topology, &masks[first], members, count, parts);
        else
            split_unequal(topology, masks, members, count, parts);
    }
}

// Whether two parts touch one core.
static bool share_core(const oct_topology *topology, const oct_part *a, const oct_part *b)
{
    for (int32_t i = 0; i < topology->count; i++) {
        if (!oct_cpus_has(&a->cpus, topology->cpu[i]))
            continue;
        for (int32_t k = i; k >= 0 && topology->core[k] == topology->core[i]; k--)
            if (oct_cpus_has(&b->cpus, topology->cpu[k]))
                return true;
        for (int32_t k = i; k < topology->count && topology->core[k] == topology->core[i]; k++)
            if (oct_cpus_has(&b->cpus, topology->cpu[k]))
                return true;
    }
    return false;
}

bool oct_placement_plan(const oct_topology *topology, const oct_cpus *masks, int32_t ranks,
                        const int32_t *threads, int32_t limit, oct_part *parts)
{
    oct_cpus known[OCT_MAX_RANKS];
    assert(ranks > 0 && ranks <= OCT_MAX_RANKS);
    memset(parts, 0, (size_t)ranks * sizeof *parts);
    for (int32_t r = 0; r < ranks; r++)
        known[r] = known_mask(topology, &masks[r]);
    split(topology, known, ranks, parts);
    bool oversubscribed = false;
    int64_t total = 0;
    for (int32_t r = 0; r < ranks; r++) {
        oct_part *part = &parts[r];
        part->cores = oct_placement_cores(topology, &part->cpus);
        for (int32_t other = 0; other < ranks && !part->shared; other++)
            part->shared = other != r && share_core(topology, part, &parts[other]);
        int32_t share = limit / ranks > 0 ? limit / ranks : 1;
        int32_t fallback = limit > 0 && share < part->cores ? share : part->cores;
        part->threads = threads[r] > 0 ? threads[r] : fallback;
        total += part->threads;
        oversubscribed = oversubscribed || part->threads > part->cores || part->shared;
    }
    return oversubscribed || (limit > 0 && total > limit);
}

bool oct_placement_pin(const oct_topology *topology, const oct_part *part, int32_t *cpus)
{
    int32_t taken = 0;
    oct_cpus used = {{0}};
    while (taken < part->threads) { // one CPU of every core, then the next of every core
        int32_t before = taken, previous = -1;
        for (int32_t i = 0; i < topology->count && taken < part->threads; i++) {
            int32_t cpu = topology->cpu[i];
            if (!oct_cpus_has(&part->cpus, cpu) || oct_cpus_has(&used, cpu) || topology->core[i] == previous)
                continue;
            previous = topology->core[i];
            oct_cpus_add(&used, cpu);
            cpus[taken++] = cpu;
        }
        if (taken == before)
            return false;
    }
    return true;
}
