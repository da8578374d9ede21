// Hash tables of a tokenizer: at most three quarters full, linear probing.
#include "runtime/bpe_table.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static size_t slots_for(size_t n)
{
    size_t slots = 16;
    while (slots / 4 * 3 < n)
        slots *= 2;
    return slots;
}

oct_status oct_text_table_create(oct_text_table *table, size_t n, const char *bytes, const uint64_t *offsets)
{
    size_t slots = slots_for(n);
    *table = (oct_text_table){.mask = slots - 1, .bytes = bytes, .offsets = offsets};
    table->slots = malloc(slots * sizeof *table->slots);
    if (!table->slots)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a vocabulary of %zu tokens", n);
    memset(table->slots, 0xFF, slots * sizeof *table->slots);
    return OCT_OK;
}

// The slot that holds these bytes, or the empty one where they belong.
static size_t text_slot(const oct_text_table *table, const char *text, size_t bytes)
{
    size_t at = XXH3_64bits(text, bytes) & table->mask;
    for (; table->slots[at] >= 0; at = (at + 1) & table->mask) {
        const uint64_t *offset = &table->offsets[table->slots[at]];
        if (offset[1] - offset[0] == bytes && memcmp(table->bytes + offset[0], text, bytes) == 0)
            break;
    }
    return at;
}

void oct_text_table_add(oct_text_table *table, int32_t id)
{
    size_t bytes = table->offsets[id + 1] - table->offsets[id];
    if (bytes == 0)
        return;
    size_t at = text_slot(table, table->bytes + table->offsets[id], bytes);
    if (table->slots[at] >= 0)
        return;
    table->slots[at] = id;
    if (bytes > table->longest)
        table->longest = bytes;
}

int32_t oct_text_table_find(const oct_text_table *table, const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > table->longest)
        return -1;
    return table->slots[text_slot(table, text, bytes)];
}

void oct_text_table_free(oct_text_table *table)
{
    free(table->slots);
    *table = (oct_text_table){0};
}

oct_status oct_pair_table_create(oct_pair_table *table, size_t n)
{
    size_t slots = slots_for(n);
    table->mask = slots - 1;
    table->slots = malloc(slots * sizeof *table->slots);
    if (!table->slots)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a vocabulary of %zu merges", n);
    for (size_t i = 0; i < slots; i++)
        table->slots[i].pair = UINT64_MAX;
    return OCT_OK;
}

static size_t pair_slot(const oct_pair_table *table, uint64_t pair)
{
    // The finaliser of MurmurHash3 mixes well enough and is shorter than a call.
    uint64_t hash = pair;
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    size_t at = (hash ^ hash >> 33) & table->mask;
    while (table->slots[at].pair != UINT64_MAX && table->slots[at].pair != pair)
        at = (at + 1) & table->mask;
    return at;
}

void oct_pair_table_add(oct_pair_table *table, int32_t left, int32_t right, uint32_t rank, int32_t merged)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    oct_pair_slot *slot = &table->slots[pair_slot(table, pair)];
    if (slot->pair == UINT64_MAX)
        *slot = (oct_pair_slot){.pair = pair, .rank = rank, .merged = merged};
}

const oct_pair_slot *oct_pair_table_find(const oct_pair_table *table, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    const oct_pair_slot *slot = &table->slots[pair_slot(table, pair)];
    return slot->pair == UINT64_MAX ? NULL : slot;
}

void oct_pair_table_free(oct_pair_table *table)
{
    free(table->slots);
    *table = (oct_pair_table){0};
}
