// The monitor's judgement. Owns nothing.
#include "ranks/watch.h"

#include "runtime/progress.h"

static bool has_deadline(int phase)
{
    return phase != OCT_PHASE_IDLE && phase != OCT_PHASE_DONE;
}

static int64_t deadline_ns(const oct_watch *watch, int phase)
{
    bool decoding = phase == OCT_PHASE_PREFILL || phase == OCT_PHASE_DECODE || phase == OCT_PHASE_FINISH;
    return decoding ? watch->decode_ns : watch->start_ns;
}

// Restarts or advances the clocks; true where the judge may judge. A phase is seen at once, counts up to a tick later:
// a rank that comes back from being idle has not been silent since it was last busy.
static bool look(oct_watch *watch, const oct_sight *sights, int64_t now_ns)
{
    bool restart = watch->last_ns == 0 || now_ns - watch->last_ns > OCT_WATCH_LATE_NS;
    watch->last_ns = now_ns;
    for (int i = 0; i < watch->ranks; i++) {
        oct_seen *seen = &watch->seen[i];
        bool idle = !has_deadline(sights[i].phase);
        if (restart || idle || seen->phase != sights[i].phase || seen->count != sights[i].count)
            seen->moved_ns = now_ns;
        if (restart || seen->heartbeat != sights[i].heartbeat)
            seen->alive_ns = now_ns;
        seen->count = sights[i].count;
        seen->phase = sights[i].phase;
        seen->heartbeat = sights[i].heartbeat;
    }
    return !restart;
}

// How long a rank that has been still for so long waits for its device, while the judge waits for others.
static int64_t outlasted_ns(const oct_watch *watch, const oct_sight *sights, int64_t still, int64_t limit,
                            int64_t now_ns)
{
    const int64_t beside = now_ns - watch->seen[watch->own].moved_ns, both = beside < still ? beside : still;
    return !sights[watch->own].on_device && both > limit + OCT_WATCH_ALONE_NS ? both : 0;
}

// How long rank i has shown nothing beyond what its deadline allows; 0 where it is within it.
static int64_t silence_ns(const oct_watch *watch, const oct_sight *sights, int i, int64_t now_ns, bool *dead)
{
    const oct_sight *sight = &sights[i];
    int64_t limit = deadline_ns(watch, has_deadline(sight->phase) ? sight->phase : sights[watch->own].phase);
    if (sight->phase == OCT_PHASE_DONE || limit == 0)
        return 0;
    int64_t lifeless = now_ns - watch->seen[i].alive_ns, still = now_ns - watch->seen[i].moved_ns;
    *dead = lifeless > limit;
    if (*dead)
        return lifeless;
    if (sight->waiting && sight->on_device)
        return outlasted_ns(watch, sights, still, limit, now_ns);
    return !sight->waiting && has_deadline(sight->phase) && still > limit ? still : 0;
}

static bool host_is_alone(const oct_watch *watch, const oct_sight *sights, int64_t now_ns, int64_t *silent_ns)
{
    int64_t shortest = INT64_MAX;
    for (int i = 0; i < watch->ranks; i++) {
        int64_t limit = deadline_ns(watch, sights[i].phase), still = now_ns - watch->seen[i].moved_ns;
        if (sights[i].phase == OCT_PHASE_DONE)
            continue;
        if (!sights[i].waiting || sights[i].on_device || !has_deadline(sights[i].phase) || limit == 0 ||
            still <= limit + OCT_WATCH_ALONE_NS)
            return false;
        shortest = still < shortest ? still : shortest;
    }
    *silent_ns = shortest;
    return true;
}

oct_verdict oct_watch_tick(oct_watch *watch, const oct_sight *sights, int64_t now_ns, int *culprit,
                           int64_t *silent_ns)
{
    const oct_sight *own = &sights[watch->own];
    if (!look(watch, sights, now_ns) || !own->waiting || !has_deadline(own->phase))
        return OCT_VERDICT_FINE;
    int worst = -1;
    bool worst_dead = false;
    int64_t worst_ns = 0;
    for (int i = 0; i < watch->ranks; i++) {
        bool dead = false;
        int64_t silent = i == watch->own ? 0 : silence_ns(watch, sights, i, now_ns, &dead);
        if (silent > 0 && (dead > worst_dead || (dead == worst_dead && silent > worst_ns))) {
            worst = i;
            worst_dead = dead;
            worst_ns = silent;
        }
    }
    if (worst >= 0) {
        *culprit = worst;
        *silent_ns = worst_ns;
        return OCT_VERDICT_STUCK;
    }
    return host_is_alone(watch, sights, now_ns, silent_ns) ? OCT_VERDICT_ALONE : OCT_VERDICT_FINE;
}
