// The controller: costs of steps, acceptance of drafts, and the choice. What is maximised is the
// goodput of SmartSpec (Liu et al. 2024, arXiv:2406.14066), expected accepted tokens over the time of the step; that
// has one draft length for all sequences, while here every draft competes with those of all others for a column.
//
// It owns its tables and a heap. What is verified, and when, is the coordinator's.
#include "ranks/controller.h"

#include <assert.h>
#include <stdlib.h>

enum { MATCH_BUCKETS = 7 };

// Attended positions and the machine's mood move all costs together and at once: the level follows those. What a column
// costs beside another changes little: the points follow slowly, so that a step that was disturbed tells nothing.
static const double level_rate = 1.0 / 8, point_rate = 1.0 / 64;
static const double least_ratio = 0.5, most_ratio = 2; // of one observation

// After so many steps without drafts, though there were some, a step tries them: what looks too dear may have been measured
// in a bad moment, and would never be measured again. Where it is too dear indeed the next try is twice as far away.
enum { FIRST_PATIENCE = 16, MOST_PATIENCE = 1024 };

// Drafts with which the drafter's own estimates are believed, and after how many older ones count half.
static const double believed = 4, remembered = 256;

typedef struct point {
    int32_t columns;
    bool known;
    double seconds; // over the level
} point;

// Drafts behind right ones that came true or did not.
typedef struct acceptance {
    double tried, said, right; // drafts, what the drafter expected of them, what came
} acceptance;

// The next draft of a sequence.
typedef struct candidate {
    double likely; // it and all before it are right
    int32_t sequence;
} candidate;

struct oct_controller {
    int32_t point_count, candidate_count;
    point points[OCT_COST_POINTS];
    double level;
    int32_t declined, patience; // steps without drafts that there were, in a row; until a try
    bool is_trying;             // the step that was chosen last
    acceptance accepted[OCT_DRAFT_SOURCES][MATCH_BUCKETS];
    candidate *candidates; // [sequences] a heap, the likeliest first
    int32_t *order;        // [sequences · draft_tokens] whose drafts, the likeliest first
};

static void place_points(oct_controller *controller, int32_t most)
{
    for (int32_t columns = 1; columns < most; columns *= 2)
        controller->points[controller->point_count++].columns = columns;
    controller->points[controller->point_count++].columns = most;
}

oct_status oct_controller_create(oct_controller **out, int32_t sequences, int32_t draft_tokens)
{
    assert(sequences >= 1 && draft_tokens >= 1);
    assert((int64_t)sequences * (1 + draft_tokens) <= 1 << (OCT_COST_POINTS - 1));
    oct_controller *controller = calloc(1, sizeof *controller);
    if (controller != NULL) {
        controller->candidates = calloc((size_t)sequences, sizeof *controller->candidates);
        controller->order = calloc((size_t)sequences * (size_t)draft_tokens, sizeof *controller->order);
    }
    if (controller == NULL || controller->candidates == NULL || controller->order == NULL) {
        oct_controller_destroy(controller);
        return oct_fail(OCT_ERR_MACHINE, "no memory to choose drafts of %d sequences", sequences);
    }
    controller->level = 1;
    controller->patience = FIRST_PATIENCE;
    place_points(controller, sequences * (1 + draft_tokens));
    *out = controller;
    return OCT_OK;
}

void oct_controller_destroy(oct_controller *controller)
{
    if (controller == NULL)
        return;
    free(controller->candidates);
    free(controller->order);
    free(controller);
}

int32_t oct_controller_points(const oct_controller *controller, int32_t columns[OCT_COST_POINTS])
{
    for (int32_t i = 0; i < controller->point_count; i++)
        columns[i] = controller->points[i].columns;
    return controller->point_count;
}

void oct_controller_measured(oct_controller *controller, int32_t at, double seconds)
{
    assert(at >= 0 && at < controller->point_count && seconds > 0);
    point *measured = &controller->points[at];
    if (!measured->known || seconds < measured->seconds * controller->level)
        measured->seconds = seconds / controller->level;
    measured->known = true;
}

static double line(const point *a, const point *b, int32_t columns)
{
    return a->seconds + (b->seconds - a->seconds) * (columns - a->columns) / (b->columns - a->columns);
}

// By the known points around; each counts as at least what the points before it take.
double oct_controller_step_cost(const oct_controller *controller, int32_t columns)
{
    point before = {0}, last = {0};
    for (int32_t i = 0; i < controller->point_count; i++) {
        point next = controller->points[i];
        if (!next.known)
            continue;
        if (last.known && next.seconds < last.seconds)
            next.seconds = last.seconds;
        before = last;
        last = next;
        if (next.columns >= columns)
            break;
    }
    if (!last.known)
        return 1;
    return controller->level * (before.known ? line(&before, &last, columns) : last.seconds);
}

int32_t oct_controller_read_costs(const oct_controller *controller, oct_step_cost costs[OCT_COST_POINTS])
{
    int32_t count = 0;
    for (int32_t i = 0; i < controller->point_count; i++) {
        const int32_t columns = controller->points[i].columns;
        if (controller->points[i].known)
            costs[count++] = (oct_step_cost){columns, oct_controller_step_cost(controller, columns)};
    }
    return count;
}

static double within(double value, double least, double most)
{
    return value < least ? least : value > most ? most : value;
}

// Moves a point; one that was not known begins where the others put it.
static void move_point(oct_controller *controller, int32_t at, double factor)
{
    point *moved = &controller->points[at];
    if (!moved->known)
        moved->seconds = oct_controller_step_cost(controller, moved->columns) / controller->level;
    moved->known = true;
    moved->seconds *= factor;
}

static bool is_measured(const oct_controller *controller)
{
    int32_t i = 0;
    while (i < controller->point_count && !controller->points[i].known)
        i++;
    return i < controller->point_count;
}

// A step that was tried: neither it nor a narrower one takes longer than that.
static void lower_points(oct_controller *controller, int32_t columns, double seconds)
{
    for (int32_t i = 0; i < controller->point_count && controller->points[i].columns <= columns; i++) {
        point *lowered = &controller->points[i];
        lowered->known |= lowered->columns == columns;
        if (lowered->known && (lowered->seconds == 0 || lowered->seconds > seconds))
            lowered->seconds = seconds;
    }
}

void oct_controller_observe_step(oct_controller *controller, int32_t columns, double seconds)
{
    int32_t at = 0;
    if (!is_measured(controller) || seconds <= 0)
        return;
    const double predicted = oct_controller_step_cost(controller, columns);
    if (controller->is_trying) {
        controller->is_trying = false;
        if (seconds < predicted)
            lower_points(controller, columns, seconds / controller->level);
        return;
    }
    const double moved = 1 + (within(seconds / predicted, least_ratio, most_ratio) - 1) * level_rate;
    const double rest = (within(seconds / (predicted * moved), least_ratio, most_ratio) - 1) * point_rate;
    controller->level *= moved;
    while (at + 1 < controller->point_count && controller->points[at + 1].columns <= columns)
        at++;
    if (at + 1 == controller->point_count || controller->points[at].columns == columns) {
        move_point(controller, at, 1 + rest);
        return;
    }
    const int32_t low = controller->points[at].columns, high = controller->points[at + 1].columns;
    const double share = (double)(columns - low) / (high - low);
    move_point(controller, at, 1 + rest * (1 - share));
    move_point(controller, at + 1, 1 + rest * share);
}

// 0, 1, 2 to 3, 4 to 7, … tokens that agree.
static int32_t bucket_of(const oct_draft *draft)
{
    int32_t bucket = 0;
    for (int32_t match = draft->match; match > 0 && bucket + 1 < MATCH_BUCKETS; match /= 2)
        bucket++;
    return bucket;
}

double oct_controller_probability(const oct_controller *controller, const oct_draft *draft)
{
    const acceptance *seen = &controller->accepted[draft->source][bucket_of(draft)];
    return within(draft->probability * (seen->right + believed) / (seen->said + believed), 0, 1);
}

void oct_controller_observe_draft(oct_controller *controller, const oct_draft *draft, bool right)
{
    acceptance *seen = &controller->accepted[draft->source][bucket_of(draft)];
    seen->tried++;
    seen->said += draft->probability;
    seen->right += right;
    if (seen->tried < remembered)
        return;
    seen->tried /= 2;
    seen->said /= 2;
    seen->right /= 2;
}

static bool is_likelier(const candidate *a, const candidate *b)
{
    return a->likely > b->likely;
}

static void swap(candidate *a, candidate *b)
{
    const candidate kept = *a;
    *a = *b;
    *b = kept;
}

static void push(oct_controller *controller, candidate added)
{
    candidate *heap = controller->candidates;
    int32_t at = controller->candidate_count++;
    heap[at] = added;
    for (; at > 0 && is_likelier(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&heap[at], &heap[(at - 1) / 2]);
}

static candidate pop(oct_controller *controller)
{
    candidate *heap = controller->candidates;
    const int32_t count = --controller->candidate_count;
    const candidate top = heap[0];
    heap[0] = heap[count];
    for (int32_t at = 0, child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && is_likelier(&heap[child + 1], &heap[child]);
        if (!is_likelier(&heap[child], &heap[at]))
            break;
        swap(&heap[child], &heap[at]);
    }
    return top;
}

// The next draft of a sequence is a candidate, behind others that are right with a probability of `likely`.
static void offer(oct_controller *controller, const oct_proposal *proposal, int32_t sequence, double likely)
{
    if (proposal->chosen < proposal->count)
        push(controller, (candidate){.likely = likely * oct_controller_probability(
                                                            controller, &proposal->drafts[proposal->chosen]),
                                     .sequence = sequence});
}

// How many drafts a step without any is to try, of those that there are: none, or up to a point of the table.
static int32_t tried_drafts(oct_controller *controller, int32_t columns, int32_t drafts)
{
    int32_t tried = 0;
    if (drafts == 0 || ++controller->declined < controller->patience)
        return 0;
    for (int32_t i = 0; i < controller->point_count && controller->points[i].columns <= columns + drafts; i++)
        tried = controller->points[i].columns - columns;
    if (tried <= 0)
        return 0;
    controller->declined = 0;
    controller->patience = controller->patience < MOST_PATIENCE ? 2 * controller->patience : MOST_PATIENCE;
    controller->is_trying = true;
    return tried;
}

// A draft is never likelier than the one before it, so of all sets of so many drafts, the likeliest of them are the one
// that is expected to give most, and it has no gaps. The best number of them is looked for among all, because costs can
// rise in stairs.
void oct_controller_choose(oct_controller *controller, int32_t columns, int32_t room, oct_proposal *proposals,
                           int32_t count)
{
    double tokens = columns, best = tokens / oct_controller_step_cost(controller, columns);
    int32_t taken = 0, best_taken = 0;
    controller->candidate_count = 0;
    for (int32_t i = 0; i < count; i++) {
        proposals[i].chosen = 0;
        offer(controller, &proposals[i], i, 1);
    }
    while (taken < room && controller->candidate_count > 0) {
        const candidate next = pop(controller);
        controller->order[taken++] = next.sequence;
        tokens += next.likely;
        const double rate = tokens / oct_controller_step_cost(controller, columns + taken);
        if (rate > best) {
            best = rate;
            best_taken = taken;
        }
        proposals[next.sequence].chosen++;
        offer(controller, &proposals[next.sequence], next.sequence, next.likely);
    }
    if (best_taken > 0)
        controller->declined = 0;
    else
        best_taken = tried_drafts(controller, columns, taken);
    for (int32_t i = 0; i < count; i++)
        proposals[i].chosen = 0;
    for (int32_t i = 0; i < best_taken; i++)
        proposals[controller->order[i]].chosen++;
}
