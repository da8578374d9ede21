// Suffix index: a text of tokens, and where in it the last tokens of another (or of the same) text stood before.
//
// The text is a ring: when it is full the oldest tokens are forgotten one by one, which costs nothing. A *context* is
// the run of tokens that ends at a position. For the lengths 1, 2, 4, 8 and 16 positions with the same context are
// chained, newest first, as in the match finders of Lempel-Ziv compressors (Deflate, RFC 1951 section 4); a chain ends
// where it leaves the ring. A suffix tree or automaton would find the same places and hold exact counts, but takes more
// memory a token, touches as many nodes as a repeated text is deep, and cannot forget: its edges point into the oldest
// text.
//
// Appending takes constant time a token, finding looks at OCT_SUFFIX_LINKS places of a length at most. The result is a
// function of the calls alone. Nothing is allocated after creation. Everything here is LOCAL; one thread at a time.
#ifndef OCT_RUNTIME_SUFFIX_INDEX_H
#define OCT_RUNTIME_SUFFIX_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

// The end of a text among several: no match reaches over it, since it is unequal to every token.
#define OCT_SUFFIX_BORDER (-1)

enum {
    OCT_SUFFIX_LENGTHS = 5, // of contexts that are chained: 1 << 0 … 1 << 4
    OCT_SUFFIX_MATCH = 64,  // a match is followed so far back
    OCT_SUFFIX_LINKS = 64   // places of a chain that are looked at, the newest ones
};

typedef struct oct_suffix_index {
    uint32_t capacity;  // tokens that are kept; a power of two
    uint32_t end;       // position of the next token; counts on through clearing, and around at 2^32
    uint32_t length;    // tokens held: positions end − length … end − 1
    uint32_t pending;   // of these, how many at the end are not chained yet; 1 where all are that can be
    int32_t *tokens;    // [capacity] by position mod capacity
    uint32_t *heads;    // [OCT_SUFFIX_LENGTHS][capacity] newest position with a context of that hash
    uint32_t *previous; // [capacity][OCT_SUFFIX_LENGTHS] the one before it
} oct_suffix_index;

// The places of the longest match. Each has a token after it.
typedef struct oct_suffix_matches {
    int32_t length;                       // tokens that agree, up to OCT_SUFFIX_MATCH; 0: no place
    int32_t count;                        // places
    uint32_t positions[OCT_SUFFIX_LINKS]; // [count] of the newest token that agrees; the newest place first
} oct_suffix_matches;

// Bytes that an index of `capacity` tokens takes.
size_t oct_suffix_index_bytes(uint32_t capacity);

// Makes an empty index; `capacity` is a power of two, up to 2^30. Errors: OCT_ERR_MACHINE when memory is out; *index is
// zeroed then.
oct_status oct_suffix_index_create(oct_suffix_index *index, uint32_t capacity);

// Frees what it owns and zeroes it; a zeroed index is allowed.
void oct_suffix_index_destroy(oct_suffix_index *index);

// Forgets all tokens, in constant time.
void oct_suffix_index_clear(oct_suffix_index *index);

// Appends tokens [count] (≥ 0, or OCT_SUFFIX_BORDER) to the text, a copy alone; oct_suffix_index_chain() lets them be
// found.
void oct_suffix_index_append(oct_suffix_index *index, const int32_t *tokens, int64_t count);

// Chains up to `most` of the positions that wait for it, in order. The last position of the text always waits: a place
// is of use only with a token after it.
void oct_suffix_index_chain(oct_suffix_index *index, int64_t most);

// Finds the places whose tokens agree longest with context [count]: context[0] is the newest token, context[1] the one
// before it, and so on; at most OCT_SUFFIX_MATCH are looked at. Of the chained lengths the longest that has any place
// is taken, and of its OCT_SUFFIX_LINKS newest places those that agree longest: where a context has more places than
// that, older ones do not count (nor a few of the older where others share its hash by chance). An index may be asked
// for its own last tokens: it finds only earlier places.
void oct_suffix_index_find(const oct_suffix_index *index, const int32_t *context, int32_t count,
                           oct_suffix_matches *matches);

// The token at a position that is held.
static inline int32_t oct_suffix_index_token(const oct_suffix_index *index, uint32_t position)
{
    return index->tokens[position & (index->capacity - 1)];
}

#endif
