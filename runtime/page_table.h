// Page tables of the KV cache: which pages of the pool hold the positions of each slot's sequence. A page
// holds OCT_PAGE_POSITIONS positions of all layers; what is in it is the backend's business. Every rank keeps
// the same table by the same calls: which page a slot gets is a function of the calls so far alone.
//
// Everything here is LOCAL. All arrays are allocated at creation.
#ifndef OCT_RUNTIME_PAGE_TABLE_H
#define OCT_RUNTIME_PAGE_TABLE_H

#include <stdint.h>

#include "runtime/status.h"

#define OCT_PAGE_POSITIONS 64

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
    int32_t *free_pages; // [free_count] page ids, the next one to be given out at the end
    int32_t *page_ids;   // [slots][slot_pages]
    int32_t *positions;  // [slots] reserved positions
} oct_page_table;

// Makes a table of `slots` empty slots of up to `slot_positions` positions over a pool of `pages` pages.
// Errors: OCT_ERR_MACHINE when memory is out; *table is zeroed then.
oct_status oct_page_table_create(oct_page_table *table, int32_t pages, int32_t slots, int64_t slot_positions);

// Frees what it owns and zeroes it; a zeroed table is allowed.
void oct_page_table_destroy(oct_page_table *table);

// Makes room for positions 0 … positions − 1 of a slot; pages that it has stay where they are. No effect
// where there is room already. Errors: OCT_ERR_MACHINE where the pool has too few free pages, OCT_ERR_USAGE
// where the slot's limit is passed; nothing changes then.
oct_status oct_page_table_reserve(oct_page_table *table, int32_t slot, int64_t positions);

// Gives back the pages that lie wholly behind the first `positions` positions of a slot (rejected drafts; 0:
// the slot is free). No effect where it is not longer.
void oct_page_table_truncate(oct_page_table *table, int32_t slot, int64_t positions);

// The page ids of a slot, by position / OCT_PAGE_POSITIONS. The address stays the same as long as the table
// lives; entries without a page are −1.
static inline const int32_t *oct_page_table_slot(const oct_page_table *table, int32_t slot)
{
    return table->page_ids + (int64_t)slot * table->slot_pages;
}

#endif
