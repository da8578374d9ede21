// The monitor's judgement, with made-up ranks and clocks.
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ranks/watch.h"
#include "runtime/progress.h"

enum { RANKS = 3 };
static const int64_t second = 1000000000;

typedef struct stage {
    oct_watch watch;
    oct_seen seen[RANKS];
    oct_sight sights[RANKS];
    bool alive[RANKS], working[RANKS];
    int64_t now;
    int culprit;
    int64_t silent;
} stage;

static void set_stage(stage *s, oct_phase phase)
{
    memset(s, 0, sizeof *s);
    s->now = 1000 * second;
    s->culprit = -1;
    s->watch = (oct_watch){
        .own = 0, .ranks = RANKS, .decode_ns = 10 * second, .start_ns = 600 * second, .seen = s->seen};
    for (int i = 0; i < RANKS; i++) {
        s->sights[i] = (oct_sight){.phase = phase, .waiting = true};
        s->alive[i] = true;
    }
}

// Plays `ns` in ticks of 100 ms; returns when the verdict came, or 0.
static int64_t play(stage *s, int64_t ns, oct_verdict *verdict)
{
    for (int64_t end = s->now + ns, began = s->now; s->now < end; s->now += OCT_WATCH_TICK_NS) {
        for (int i = 0; i < RANKS; i++) {
            s->sights[i].heartbeat += s->alive[i];
            s->sights[i].count += s->working[i];
        }
        *verdict = oct_watch_tick(&s->watch, s->sights, s->now, &s->culprit, &s->silent);
        if (*verdict != OCT_VERDICT_FINE)
            return s->now - began > 0 ? s->now - began : 1;
    }
    return 0;
}

static void working_rank_is_waited_for(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[1].waiting = false;
    s.working[1] = true;
    assert_int_equal(play(&s, 3600 * second, &verdict), 0);
}

static void still_rank_is_stuck(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[1].waiting = false;
    assert_in_range(play(&s, 60 * second, &verdict), 10 * second, 11 * second);
    assert_int_equal(verdict, OCT_VERDICT_STUCK);
    assert_int_equal(s.culprit, 1);
    assert_in_range(s.silent, 10 * second, 11 * second);
}

static void stopped_rank_is_stuck_even_while_it_waits(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[1].waiting = false; // still too, but alive: the stopped one is named
    assert_int_equal(play(&s, 5 * second, &verdict), 0);
    s.alive[2] = false;
    s.working[1] = true;
    assert_int_equal(play(&s, second, &verdict), 0);
    s.working[1] = false;
    assert_in_range(play(&s, 60 * second, &verdict), 8 * second, 10 * second);
    assert_int_equal(verdict, OCT_VERDICT_STUCK);
    assert_int_equal(s.culprit, 2);
}

static void start_has_its_own_deadline(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_LOAD);
    s.sights[1].waiting = false;
    assert_in_range(play(&s, 1000 * second, &verdict), 600 * second, 601 * second);
    assert_int_equal(verdict, OCT_VERDICT_STUCK);
}

static void zero_is_never(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.watch.decode_ns = 0;
    s.sights[1].waiting = false;
    s.alive[2] = false;
    assert_int_equal(play(&s, 3600 * second, &verdict), 0);
}

static void who_does_not_wait_does_not_judge(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[0].waiting = false;
    s.alive[1] = false;
    assert_int_equal(play(&s, 3600 * second, &verdict), 0);
}

static void suspension_restarts_the_clocks(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[1].waiting = false;
    assert_int_equal(play(&s, 9 * second, &verdict), 0);
    s.now += 30 * second;
    assert_int_equal(play(&s, 9 * second, &verdict), 0);
    assert_in_range(play(&s, 60 * second, &verdict), 1, 2 * second);
}

static void idle_job_waits_for_ever(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_IDLE);
    s.sights[1].waiting = false; // at the prompt
    assert_int_equal(play(&s, 3600 * second, &verdict), 0);
    set_stage(&s, OCT_PHASE_DECODE); // a worker that does not know yet that the job is idle
    s.sights[1].waiting = false;
    s.sights[1].phase = OCT_PHASE_IDLE;
    assert_int_equal(play(&s, 3600 * second, &verdict), 0);
}

static void rank_that_comes_back_from_idleness_has_its_whole_deadline(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[1].waiting = false;
    s.sights[1].phase = OCT_PHASE_IDLE;
    assert_int_equal(play(&s, 60 * second, &verdict), 0);
    s.sights[1].phase = OCT_PHASE_FINISH; // its count is not seen yet
    assert_int_equal(play(&s, 9 * second, &verdict), 0);
    assert_in_range(play(&s, 60 * second, &verdict), 1, 2 * second);
}

static void rank_that_is_done_is_not_missed(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_FINISH);
    s.sights[1].phase = s.sights[2].phase = OCT_PHASE_DONE;
    s.alive[1] = s.alive[2] = false;
    assert_int_equal(play(&s, 11 * second, &verdict), 0);
}

static void host_that_waits_in_vain_is_alone(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    assert_in_range(play(&s, 60 * second, &verdict), 12 * second, 13 * second);
    assert_int_equal(verdict, OCT_VERDICT_ALONE);
    assert_in_range(s.silent, 12 * second, 13 * second);
}

static void devices_at_work_are_waited_for(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    for (int i = 0; i < RANKS; i++)
        s.sights[i].on_device = true;
    assert_int_equal(play(&s, 3600 * second, &verdict), 0);
    s.sights[0].on_device = false; // has ended a little before the others
    s.sights[0].count++;
    assert_int_equal(play(&s, 11 * second, &verdict), 0);
    s.sights[1].on_device = s.sights[2].on_device = false;
    assert_int_equal(play(&s, second / 2, &verdict), 0);
}

static void device_that_others_outlast_is_stuck(void **state)
{
    (void)state;
    stage s;
    oct_verdict verdict;
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[2].on_device = true;
    assert_in_range(play(&s, 60 * second, &verdict), 12 * second, 13 * second);
    assert_int_equal(verdict, OCT_VERDICT_STUCK);
    assert_int_equal(s.culprit, 2);
    set_stage(&s, OCT_PHASE_DECODE);
    s.sights[2].on_device = true;
    s.alive[2] = false; // stopped: by the ordinary deadline
    assert_in_range(play(&s, 60 * second, &verdict), 10 * second, 11 * second);
    assert_int_equal(s.culprit, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(working_rank_is_waited_for),
        cmocka_unit_test(still_rank_is_stuck),
        cmocka_unit_test(stopped_rank_is_stuck_even_while_it_waits),
        cmocka_unit_test(start_has_its_own_deadline),
        cmocka_unit_test(zero_is_never),
        cmocka_unit_test(who_does_not_wait_does_not_judge),
        cmocka_unit_test(suspension_restarts_the_clocks),
        cmocka_unit_test(idle_job_waits_for_ever),
        cmocka_unit_test(rank_that_comes_back_from_idleness_has_its_whole_deadline),
        cmocka_unit_test(rank_that_is_done_is_not_missed),
        cmocka_unit_test(host_that_waits_in_vain_is_alone),
        cmocka_unit_test(devices_at_work_are_waited_for),
        cmocka_unit_test(device_that_others_outlast_is_stuck),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
