// A pool of page ids, the lists of the slots, and who holds what.
#include "runtime/page_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(OCT_PREFIX_TOKENS == OCT_PAGE_POSITIONS, "an entry of the index is a page");

static oct_status allocate(oct_page_table *table)
{
    const size_t pages = (size_t)table->pages + 1, slots = (size_t)table->slots; // never a malloc of nothing
    table->free_pages = malloc(sizeof(int32_t) * pages);
    table->holders = calloc(pages, sizeof(int32_t));
    table->older = malloc(sizeof(int32_t) * pages);
    table->newer = malloc(sizeof(int32_t) * pages);
    table->page_ids = malloc(sizeof(int32_t) * (slots * (size_t)table->slot_pages + 1));
    table->positions = calloc(slots, sizeof(int32_t));
    table->sealed_pages = calloc(slots, sizeof(int32_t));
    if (!table->free_pages || !table->holders || !table->older || !table->newer || !table->page_ids ||
        !table->positions || !table->sealed_pages)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the page tables of %d slots and %d pages",
                        (int)table->slots, (int)table->pages);
    return oct_prefix_index_create(&table->index, table->pages);
}

oct_status oct_page_table_create(oct_page_table *table, int32_t pages, int32_t slots, int64_t slot_positions)
{
    assert(pages >= 0 && slots >= 1 && slot_positions >= 0 && slot_positions <= INT32_MAX);
    *table = (oct_page_table){.pages = pages, .free_count = pages, .slots = slots, .oldest = -1, .newest = -1};
    table->slot_pages = oct_page_count(slot_positions);
    const oct_status status = allocate(table);
    if (status != OCT_OK) {
        oct_page_table_destroy(table);
        return status;
    }
    for (int32_t i = 0; i < pages; i++)
        table->free_pages[i] = pages - 1 - i; // page 0 is given out first
    for (size_t i = 0; i < (size_t)slots * (size_t)table->slot_pages; i++)
        table->page_ids[i] = -1;
    return OCT_OK;
}

void oct_page_table_destroy(oct_page_table *table)
{
    oct_prefix_index_destroy(&table->index);
    free(table->free_pages);
    free(table->holders);
    free(table->older);
    free(table->newer);
    free(table->page_ids);
    free(table->positions);
    free(table->sealed_pages);
    memset(table, 0, sizeof *table);
}

static int32_t *pages_of(oct_page_table *table, int32_t slot)
{
    return table->page_ids + (int64_t)slot * table->slot_pages;
}

static void keep(oct_page_table *table, int32_t page)
{
    table->older[page] = table->newest;
    table->newer[page] = -1;
    *(table->newest < 0 ? &table->oldest : &table->newer[table->newest]) = page;
    table->newest = page;
    table->kept_count++;
}

static void keep_no_longer(oct_page_table *table, int32_t page)
{
    const int32_t older = table->older[page], newer = table->newer[page];
    *(older < 0 ? &table->oldest : &table->newer[older]) = newer;
    *(newer < 0 ? &table->newest : &table->older[newer]) = older;
    table->kept_count--;
}

// A page for one slot alone; there is one.
static int32_t take(oct_page_table *table)
{
    int32_t page = table->oldest;
    if (table->free_count > 0) {
        page = table->free_pages[--table->free_count];
    } else {
        keep_no_longer(table, page);
        oct_prefix_index_remove(&table->index, page);
    }
    assert(page >= 0 && table->holders[page] == 0);
    table->holders[page] = 1;
    return page;
}

// One more slot holds a sealed page.
static void hold(oct_page_table *table, int32_t page)
{
    if (table->holders[page]++ == 0)
        keep_no_longer(table, page);
}

static void let_go(oct_page_table *table, int32_t page)
{
    assert(table->holders[page] > 0);
    if (--table->holders[page] > 0)
        return;
    if (oct_prefix_index_has(&table->index, page))
        keep(table, page);
    else
        table->free_pages[table->free_count++] = page;
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
    const int32_t held = oct_page_count(table->positions[slot]), wanted = oct_page_count(positions);
    if (wanted - held > oct_page_table_available(table))
        return oct_fail(OCT_ERR_MACHINE,
                        "the KV cache is full: %d more pages of %d tokens are needed, %d are free",
                        (int)(wanted - held), OCT_PAGE_POSITIONS, (int)oct_page_table_available(table));
    int32_t *ids = pages_of(table, slot);
    for (int32_t i = held; i < wanted; i++)
        ids[i] = take(table);
    table->positions[slot] = (int32_t)positions;
    return OCT_OK;
}

void oct_page_table_truncate(oct_page_table *table, int32_t slot, int64_t positions)
{
    assert(slot >= 0 && slot < table->slots && positions >= 0);
    if (positions >= table->positions[slot])
        return;
    assert(positions % OCT_PAGE_POSITIONS == 0 || positions / OCT_PAGE_POSITIONS >= table->sealed_pages[slot]);
    int32_t *ids = pages_of(table, slot);
    const int32_t left = oct_page_count(positions);
    for (int32_t i = oct_page_count(table->positions[slot]); i > left; i--) {
        let_go(table, ids[i - 1]);
        ids[i - 1] = -1;
    }
    table->positions[slot] = (int32_t)positions;
    if (table->sealed_pages[slot] > left)
        table->sealed_pages[slot] = left;
}

int32_t oct_page_table_share(oct_page_table *table, int32_t slot, const int32_t *tokens, int32_t positions)
{
    assert(slot >= 0 && slot < table->slots && table->positions[slot] == 0);
    int32_t *ids = pages_of(table, slot);
    int32_t shared = 0, page = OCT_PREFIX_ROOT;
    for (; shared < table->slot_pages && shared < positions / OCT_PAGE_POSITIONS; shared++) {
        page = oct_prefix_index_find(&table->index, page, tokens + (int64_t)shared * OCT_PAGE_POSITIONS);
        if (page < 0)
            break;
        hold(table, page);
        ids[shared] = page;
    }
    table->sealed_pages[slot] = shared;
    return table->positions[slot] = shared * OCT_PAGE_POSITIONS;
}

int32_t oct_page_table_held(const oct_page_table *table, const int32_t *tokens, int32_t positions)
{
    int32_t held = 0, page = OCT_PREFIX_ROOT;
    for (; held < table->slot_pages && held < positions / OCT_PAGE_POSITIONS; held++) {
        page = oct_prefix_index_find(&table->index, page, tokens + (int64_t)held * OCT_PAGE_POSITIONS);
        if (page < 0 || table->holders[page] == 0)
            break; // who holds a page holds those before it, so that none behind it is held
    }
    return held;
}

void oct_page_table_seal(oct_page_table *table, int32_t slot, const int32_t *tokens, int32_t positions)
{
    assert(slot >= 0 && slot < table->slots && positions <= table->positions[slot]);
    int32_t *ids = pages_of(table, slot);
    for (int32_t i = table->sealed_pages[slot]; i < positions / OCT_PAGE_POSITIONS; i++) {
        const int32_t parent = i > 0 ? ids[i - 1] : OCT_PREFIX_ROOT;
        const int32_t *own = tokens + (int64_t)i * OCT_PAGE_POSITIONS;
        const int32_t known = oct_prefix_index_find(&table->index, parent, own);
        if (known < 0) {
            oct_prefix_index_insert(&table->index, ids[i], parent, own);
        } else {
            hold(table, known);
            let_go(table, ids[i]);
            ids[i] = known;
        }
        table->sealed_pages[slot] = i + 1;
    }
}
