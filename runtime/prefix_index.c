// A hash table of pages, chained through arrays of their own: XXH64 of a page's tokens with its parent as the seed.
#include "runtime/prefix_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { NO_ENTRY = OCT_PREFIX_ROOT - 1, TOKEN_BYTES = OCT_PREFIX_TOKENS * sizeof(int32_t) };

oct_status oct_prefix_index_create(oct_prefix_index *index, int32_t pages)
{
    assert(pages >= 0);
    size_t buckets = 1, entries = (size_t)pages + 1; // never a malloc of nothing
    while (buckets < (size_t)pages)
        buckets *= 2;
    *index = (oct_prefix_index){.pages = pages, .mask = (uint32_t)(buckets - 1)};
    index->buckets = malloc(buckets * sizeof *index->buckets);
    index->next = malloc(entries * sizeof *index->next);
    index->parents = malloc(entries * sizeof *index->parents);
    index->children = calloc(entries, sizeof *index->children);
    index->tokens = malloc(entries * TOKEN_BYTES);
    if (!index->buckets || !index->next || !index->parents || !index->children || !index->tokens) {
        oct_prefix_index_destroy(index);
        return oct_fail(OCT_ERR_MACHINE, "no memory for the index of prefixes of %d pages", (int)pages);
    }
    for (size_t i = 0; i < buckets; i++)
        index->buckets[i] = -1;
    for (int32_t page = 0; page < pages; page++)
        index->parents[page] = NO_ENTRY;
    return OCT_OK;
}

void oct_prefix_index_destroy(oct_prefix_index *index)
{
    free(index->buckets);
    free(index->next);
    free(index->parents);
    free(index->children);
    free(index->tokens);
    memset(index, 0, sizeof *index);
}

bool oct_prefix_index_has(const oct_prefix_index *index, int32_t page)
{
    return index->parents[page] != NO_ENTRY;
}

static int32_t *bucket_of(const oct_prefix_index *index, int32_t parent, const int32_t *tokens)
{
    const uint64_t hash = XXH64(tokens, TOKEN_BYTES, (uint64_t)(parent - OCT_PREFIX_ROOT));
    return &index->buckets[hash & index->mask];
}

static int32_t *tokens_of(const oct_prefix_index *index, int32_t page)
{
    return index->tokens + (size_t)page * OCT_PREFIX_TOKENS;
}

int32_t oct_prefix_index_find(const oct_prefix_index *index, int32_t parent, const int32_t *tokens)
{
    int32_t page = *bucket_of(index, parent, tokens);
    while (page >= 0 &&
           (index->parents[page] != parent || memcmp(tokens_of(index, page), tokens, TOKEN_BYTES) != 0))
        page = index->next[page];
    return page;
}

void oct_prefix_index_insert(oct_prefix_index *index, int32_t page, int32_t parent, const int32_t *tokens)
{
    assert(page >= 0 && page < index->pages && !oct_prefix_index_has(index, page));
    assert(parent == OCT_PREFIX_ROOT || oct_prefix_index_has(index, parent));
    assert(oct_prefix_index_find(index, parent, tokens) < 0);
    int32_t *bucket = bucket_of(index, parent, tokens);
    memcpy(tokens_of(index, page), tokens, TOKEN_BYTES);
    index->parents[page] = parent;
    index->next[page] = *bucket;
    *bucket = page;
    if (parent != OCT_PREFIX_ROOT)
        index->children[parent]++;
}

void oct_prefix_index_remove(oct_prefix_index *index, int32_t page)
{
    assert(page >= 0 && page < index->pages && oct_prefix_index_has(index, page) && index->children[page] == 0);
    const int32_t parent = index->parents[page];
    int32_t *link = bucket_of(index, parent, tokens_of(index, page));
    while (*link != page)
        link = &index->next[*link];
    *link = index->next[page];
    index->parents[page] = NO_ENTRY;
    if (parent != OCT_PREFIX_ROOT)
        index->children[parent]--;
}
