// Copy cursors: where in its own text a sequence copies from. A copy with changes (a file with a name changed, a table as
// JSON) goes on where it left off, but behind a changed token only few tokens agree, at many places. Of these the place
// that lies a little behind one that was copied from lately is the likeliest.
//
// How far that can be believed depends on the text, so what such drafts came to is counted. (In answers of SmolLM2-135M
// 9 of 10 came true in tables and edited code, 2 of 10 in chats.)
#ifndef OCT_RANKS_COPY_CURSORS_H
#define OCT_RANKS_COPY_CURSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "ranks/drafter.h"
#include "runtime/suffix_index.h"

enum { OCT_COPY_CURSORS = 4 };

// A proposal, and where in the text it stands.
typedef struct oct_copy_trail {
    int32_t count;
    int32_t tokens[OCT_DRAFT_SUFFIX_MOST];
    uint32_t last; // position of the last of them
} oct_copy_trail;

typedef struct oct_copy_cursors {
    int32_t count;
    uint32_t positions[OCT_COPY_CURSORS]; // of the last tokens that were copied; the newest first
    float tried, right;                   // drafts behind cursors, the newer ones count more
    oct_copy_trail proposed;              // from the own text
    oct_copy_trail near;                  // from the place behind a cursor, proposed or not
} oct_copy_cursors;

// Of a new sequence: no cursors, and a little trust. LOCAL, as all here.
void oct_copy_cursors_clear(oct_copy_cursors *cursors);

// The estimate that a draft behind a cursor is right; 0…1.
float oct_copy_cursors_trust(const oct_copy_cursors *cursors);

// Sets *position to the place of a match that lies nearest behind a cursor, the newest cursor that has one; false where
// none has.
bool oct_copy_cursors_nearest(const oct_copy_cursors *cursors, const oct_suffix_matches *matches, uint32_t *position);

// Remembers drafts [count] whose last one stands at `last`.
void oct_copy_trail_set(oct_copy_trail *trail, const oct_draft *drafts, int32_t count, uint32_t last);

// The tokens [count] came: a cursor moves to where `proposed` was right, trust follows how `near` did; both are spent.
void oct_copy_cursors_learn(oct_copy_cursors *cursors, const int32_t *tokens, int32_t count);

#endif
