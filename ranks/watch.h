// The monitor's judgement, without threads, clocks or shared memory: what is seen of the ranks of a host at
// each tick goes in, a verdict comes out.
//
// A rank is stuck when its process shows no sign of life (heartbeat) or when it neither progresses nor waits,
// for longer than the deadline of its phase, while the judging rank waits for others. A host is alone when
// all of its ranks have waited so long plus OCT_WATCH_ALONE_NS and none got anything. A device at work may take its
// time: a rank that waits for its own is stuck when the judging rank, which waits for others, has waited so long plus
// OCT_WATCH_ALONE_NS beside it, and the host is not alone. A tick that comes late
// means that the judge itself was stopped (suspended, debugged): all clocks start again.
#ifndef OCT_RANKS_WATCH_H
#define OCT_RANKS_WATCH_H

#include <stdbool.h>
#include <stdint.h>

enum { OCT_WATCH_TICK_NS = 100000000, OCT_WATCH_LATE_NS = 1000000000 };
#define OCT_WATCH_ALONE_NS 2000000000ll

// One rank as it is seen at a tick.
typedef struct oct_sight {
    uint64_t count;     // progress
    uint64_t heartbeat; // ticks of its own monitor
    int phase;          // oct_phase
    bool waiting;       // its main thread waits for others
    bool on_device;     // what it waits for is its own device, at work (OCT_WAITS_FOR_DEVICE)
} oct_sight;

// When a rank was last seen to move.
typedef struct oct_seen {
    uint64_t count, heartbeat;
    int64_t moved_ns, alive_ns;
    int phase;
} oct_seen;

typedef struct oct_watch {
    int own, ranks;    // the judge's index, and how many there are
    int64_t decode_ns; // deadlines; 0: never
    int64_t start_ns;
    int64_t last_ns; // of the latest tick, 0 before the first
    oct_seen *seen;  // [ranks], caller's
} oct_watch;

typedef enum oct_verdict { OCT_VERDICT_FINE, OCT_VERDICT_STUCK, OCT_VERDICT_ALONE } oct_verdict;

// Judges. sights: [ranks]. LOCAL, pure but for `watch`. For STUCK and ALONE *silent_ns is how long nothing
// was seen, for STUCK *culprit the index of the rank that was silent for longest (dead ones before idle
// ones).
oct_verdict oct_watch_tick(oct_watch *watch, const oct_sight *sights, int64_t now_ns, int *culprit,
                           int64_t *silent_ns);

#endif
