// Page tables of the KV cache: which pages of the pool hold the positions of each slot's sequence. A page
// holds OCT_PAGE_POSITIONS positions of all layers; what is in it is the backend's business. Every rank keeps
// the same table by the same calls: which page a slot gets is a function of the calls so far alone.
//
// Sequences that begin with the same tokens share pages. A page can be shared once it is *sealed*: whole, computed, and
// known by its tokens (runtime/prefix_index.h). Nobody writes into a sealed page again: a slot that is cut into its
// sealed pages loses them whole. A sealed page that no slot holds any longer is *kept*, for a sequence that begins
// with its tokens, until the pool has no other free page; then the one that was let go of first is given out. The
// pages of a slot are let go of from its end, so that a page goes before the pages that it stands behind.
//
// Everything here is LOCAL. All arrays are allocated at creation.
#ifndef OCT_RUNTIME_PAGE_TABLE_H
#define OCT_RUNTIME_PAGE_TABLE_H

#include <stdint.h>

#include "runtime/prefix_index.h"
#include "runtime/status.h"

#define OCT_PAGE_POSITIONS 64
#define OCT_SPLIT_POSITIONS 256 // absolute positions that attention takes at a time: a split, merged in order
#define OCT_SPLIT_PAGES (OCT_SPLIT_POSITIONS / OCT_PAGE_POSITIONS)

// Pages that `positions` positions take.
static inline int32_t oct_page_count(int64_t positions)
{
    return (int32_t)((positions + OCT_PAGE_POSITIONS - 1) / OCT_PAGE_POSITIONS);
}

typedef struct oct_page_table {
    int32_t pages; // in the pool
    int32_t slots;
    int32_t slot_pages; // most pages of a slot
    int32_t free_count;
    int32_t *free_pages;   // [free_count] page ids, the next one to be given out at the end
    int32_t *holders;      // [pages] slots that have it
    int32_t *page_ids;     // [slots][slot_pages]
    int32_t *positions;    // [slots] reserved positions
    int32_t *sealed_pages; // [slots] how many of its first pages are sealed
    // Kept pages, a list: the oldest goes first.
    int32_t kept_count;
    int32_t oldest, newest; // −1: none
    int32_t *older, *newer; // [pages] neighbours of a kept page, −1: none
    oct_prefix_index index; // of the sealed pages
} oct_page_table;

// Makes a table of `slots` empty slots of up to `slot_positions` positions over a pool of `pages` pages.
// Errors: OCT_ERR_MACHINE when memory is out; *table is zeroed then.
oct_status oct_page_table_create(oct_page_table *table, int32_t pages, int32_t slots, int64_t slot_positions);

// Frees what it owns and zeroes it; a zeroed table is allowed.
void oct_page_table_destroy(oct_page_table *table);

// Pages that can be given out: free ones and kept ones.
static inline int32_t oct_page_table_available(const oct_page_table *table)
{
    return table->free_count + table->kept_count;
}

// Makes room for positions 0 … positions − 1 of a slot; pages that it has stay where they are, new ones are its own. No
// effect where there is room already. Errors: OCT_ERR_MACHINE where the pool has too few pages available,
// OCT_ERR_USAGE where the slot's limit is passed; nothing changes then.
oct_status oct_page_table_reserve(oct_page_table *table, int32_t slot, int64_t positions);

// Lets go of the pages that lie wholly behind the first `positions` positions of a slot (rejected drafts; 0:
// the slot is free). No effect where it is not longer. The cut is not inside a sealed page: what was written behind it
// would change under the other holders of that page.
void oct_page_table_truncate(oct_page_table *table, int32_t slot, int64_t positions);

// Gives an empty slot the sealed pages of the longest known prefix of tokens [positions], whole pages only. Returns the
// positions that they hold: the sequence begins with them computed.
int32_t oct_page_table_share(oct_page_table *table, int32_t slot, const int32_t *tokens, int32_t positions);

// How many of the pages that oct_page_table_share() would give are held by other slots, so that sharing them takes none
// of the available ones.
int32_t oct_page_table_held(const oct_page_table *table, const int32_t *tokens, int32_t positions);

// The first `positions` positions of a slot have been computed, from tokens [positions]: seals its whole pages in
// there. Where another sealed page holds the same tokens (two sequences were computed side by side) the slot takes that
// one, which has the same bits, and gives its own back. Takes constant time a page that is newly sealed.
void oct_page_table_seal(oct_page_table *table, int32_t slot, const int32_t *tokens, int32_t positions);

// The page ids of a slot, by position / OCT_PAGE_POSITIONS. The address stays the same as long as the table
// lives; entries without a page are −1.
static inline const int32_t *oct_page_table_slot(const oct_page_table *table, int32_t slot)
{
    return table->page_ids + (int64_t)slot * table->slot_pages;
}

#endif
