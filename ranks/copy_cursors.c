// Copy cursors.
#include "ranks/copy_cursors.h"

// A place counts as behind a cursor up to so many tokens on: a key and a value of a table lie in between.
#define REACH 32u

// A run of right drafts that is shorter than this says nothing about where the text comes from.
enum { LEAST_RUN = 2 };

// At first as if of 4 drafts 3 had been right; behind so many the older ones count half.
static const float first_tried = 4, first_right = 3, remembered = 32;

void oct_copy_cursors_clear(oct_copy_cursors *cursors)
{
    cursors->count = 0;
    cursors->proposed.count = cursors->near.count = 0;
    cursors->tried = first_tried;
    cursors->right = first_right;
}

float oct_copy_cursors_trust(const oct_copy_cursors *cursors)
{
    return cursors->right / cursors->tried;
}

bool oct_copy_cursors_nearest(const oct_copy_cursors *cursors, const oct_suffix_matches *matches, uint32_t *position)
{
    for (int32_t i = 0; i < cursors->count; i++) {
        uint32_t nearest = REACH;
        for (int32_t m = 0; m < matches->count; m++) {
            const uint32_t behind = matches->positions[m] - cursors->positions[i];
            nearest = behind < nearest ? behind : nearest;
        }
        if (nearest == REACH)
            continue;
        *position = cursors->positions[i] + nearest;
        return true;
    }
    return false;
}

void oct_copy_trail_set(oct_copy_trail *trail, const oct_draft *drafts, int32_t count, uint32_t last)
{
    trail->count = count;
    trail->last = last;
    for (int32_t i = 0; i < count; i++)
        trail->tokens[i] = drafts[i].token;
}

static int32_t right_ones(const oct_copy_trail *trail, const int32_t *tokens, int32_t count)
{
    int32_t right = 0;
    while (right < trail->count && right < count && trail->tokens[right] == tokens[right])
        right++;
    return right;
}

// Puts a cursor first; those that lie about there already are the same one.
static void move_to(oct_copy_cursors *cursors, uint32_t position)
{
    uint32_t kept[OCT_COPY_CURSORS] = {position};
    int32_t count = 1;
    for (int32_t i = 0; i < cursors->count && count < OCT_COPY_CURSORS; i++)
        if (position - cursors->positions[i] + REACH >= 2 * REACH)
            kept[count++] = cursors->positions[i];
    cursors->count = count;
    for (int32_t i = 0; i < count; i++)
        cursors->positions[i] = kept[i];
}

void oct_copy_cursors_learn(oct_copy_cursors *cursors, const int32_t *tokens, int32_t count)
{
    const int32_t run = right_ones(&cursors->proposed, tokens, count);
    const int32_t near = right_ones(&cursors->near, tokens, count);
    if (run >= LEAST_RUN)
        move_to(cursors, cursors->proposed.last - (uint32_t)(cursors->proposed.count - run));
    cursors->right += (float)near;
    cursors->tried += (float)(near + (near < cursors->near.count && near < count));
    if (cursors->tried > remembered) {
        cursors->tried /= 2;
        cursors->right /= 2;
    }
    cursors->proposed.count = cursors->near.count = 0;
}
