// What it costs a thread team to meet, and to be started: nanoseconds a barrier and a run of nothing, the median of 7
// repeats. Beside it what two reads of the clock and one pause instruction take.
//
//   bench_team [THREADS [TIMES]]
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu/team.h"
#include "runtime/bandwidth.h"
#include "runtime/progress.h"

enum { REPEATS = 7, DEFAULT_TIMES = 20000, MAX_THREADS = 64 };

typedef struct meeting {
    oct_team *team;
    int32_t times;
} meeting;

static void meet(void *context, int32_t thread, int32_t threads)
{
    (void)thread;
    (void)threads;
    const meeting *m = context;
    for (int32_t i = 0; i < m->times; i++)
        oct_team_barrier(m->team);
}

static void do_nothing(void *context, int32_t thread, int32_t threads)
{
    (void)context;
    (void)thread;
    (void)threads;
}

static void print(const char *what, double values[REPEATS])
{
    const double median = oct_percentile(values, REPEATS, 50);
    printf("%-24s %7.1f ns (%.1f .. %.1f)\n", what, median, values[0], values[REPEATS - 1]);
}

static double since(int64_t start, int32_t times)
{
    return (double)(oct_now_ns() - start) / times;
}

static double clock_twice(int32_t times)
{
    const int64_t start = oct_now_ns();
    volatile int64_t sink = 0;
    for (int32_t i = 0; i < times; i++) {
        sink = oct_now_ns();
        sink = oct_now_ns();
    }
    (void)sink;
    return since(start, times);
}

int main(int argc, char **argv)
{
    const int32_t threads = argc > 1 ? atoi(argv[1]) : 2, times = argc > 2 ? atoi(argv[2]) : DEFAULT_TIMES;
    if (threads < 1 || threads > MAX_THREADS || times < 1) {
        fprintf(stderr, "bench_team: expected 1 to %d threads and at least one time\n", MAX_THREADS);
        return 2;
    }
    int32_t cpus[MAX_THREADS];
    for (int32_t i = 0; i < threads; i++)
        cpus[i] = i;
    meeting m = {.times = times};
    if (oct_team_create(&m.team, threads, cpus, false) != OCT_OK)
        return 4;
    double barrier[REPEATS], run[REPEATS], clock[REPEATS];
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        int64_t start = oct_now_ns();
        oct_team_run(m.team, meet, &m);
        barrier[repeat] = since(start, times);
        start = oct_now_ns();
        for (int32_t i = 0; i < times; i++)
            oct_team_run(m.team, do_nothing, NULL);
        run[repeat] = since(start, times);
        clock[repeat] = clock_twice(times);
    }
    printf("%d threads, %d times\n", threads, times);
    print("barrier", barrier);
    print("run", run);
    print("two reads of the clock", clock);
    oct_team_destroy(m.team);
    return 0;
}
