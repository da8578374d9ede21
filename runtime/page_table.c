// A pool of page ids and the lists of the slots.
#include "runtime/page_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

oct_status oct_page_table_create(oct_page_table *table, int32_t pages, int32_t slots, int64_t slot_positions)
{
    assert(pages >= 0 && slots >= 1 && slot_positions >= 0 && slot_positions <= INT32_MAX);
    memset(table, 0, sizeof *table);
    table->pages = table->free_count = pages;
    table->slots = slots;
    table->slot_pages = oct_page_count(slot_positions);
    size_t entries = (size_t)slots * (size_t)table->slot_pages;
    table->free_pages = malloc(sizeof(int32_t) * ((size_t)pages + 1));
    table->page_ids = malloc(sizeof(int32_t) * (entries + 1));
    table->positions = calloc((size_t)slots, sizeof(int32_t));
    if (!table->free_pages || !table->page_ids || !table->positions) {
        oct_page_table_destroy(table);
        return oct_fail(OCT_ERR_MACHINE, "no memory for the page tables of %d slots and %d pages", (int)slots,
                        (int)pages);
    }
    for (int32_t i = 0; i < pages; i++)
        table->free_pages[i] = pages - 1 - i; // page 0 is given out first
    for (size_t i = 0; i < entries; i++)
        table->page_ids[i] = -1;
    return OCT_OK;
}

void oct_page_table_destroy(oct_page_table *table)
{
    free(table->free_pages);
    free(table->page_ids);
    free(table->positions);
    memset(table, 0, sizeof *table);
}

oct_status oct_page_table_reserve(oct_page_table *table, int32_t slot, int64_t positions)
{
    assert(slot >= 0 && slot < table->slots);
    if (positions <= table->positions[slot])
        return OCT_OK;
    if (positions > (int64_t)table->slot_pages * OCT_PAGE_POSITIONS)
        return oct_fail(OCT_ERR_USAGE,
                        "a sequence of %lld tokens, but room is for %lld; give a larger --context",
                        (long long)positions, (long long)table->slot_pages * OCT_PAGE_POSITIONS);
    int32_t held = oct_page_count(table->positions[slot]), wanted = oct_page_count(positions);
    if (wanted - held > table->free_count)
        return oct_fail(OCT_ERR_MACHINE,
                        "the KV cache is full: %d more pages of %d tokens are needed, %d are free",
                        (int)(wanted - held), OCT_PAGE_POSITIONS, (int)table->free_count);
    int32_t *ids = table->page_ids + (int64_t)slot * table->slot_pages;
    for (int32_t i = held; i < wanted; i++)
        ids[i] = table->free_pages[--table->free_count];
    table->positions[slot] = (int32_t)positions;
    return OCT_OK;
}

void oct_page_table_truncate(oct_page_table *table, int32_t slot, int64_t positions)
{
    assert(slot >= 0 && slot < table->slots && positions >= 0);
    if (positions >= table->positions[slot])
        return;
    int32_t *ids = table->page_ids + (int64_t)slot * table->slot_pages;
    for (int32_t i = oct_page_count(table->positions[slot]); i > oct_page_count(positions); i--) {
        table->free_pages[table->free_count++] = ids[i - 1];
        ids[i - 1] = -1;
    }
    table->positions[slot] = (int32_t)positions;
}
