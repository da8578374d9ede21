// The index of prefixes: which page of the KV cache holds the keys and values of which tokens behind which others.
//
// An entry is a page, the OCT_PREFIX_TOKENS tokens that stand in it, and its parent: the page that holds the tokens
// just before them, or OCT_PREFIX_ROOT where a sequence begins. A parent is an entry for as long as it has children, so
// the way from the root to an entry spells one sequence of tokens: what is found is proved by comparing tokens, never
// guessed from a hash. Everything here is LOCAL, takes constant time a page, and allocates nothing after creation.
#ifndef OCT_RUNTIME_PREFIX_INDEX_H
#define OCT_RUNTIME_PREFIX_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/status.h"

enum { OCT_PREFIX_TOKENS = 64, OCT_PREFIX_ROOT = -1 };

typedef struct oct_prefix_index {
    int32_t pages;
    uint32_t mask;     // buckets − 1, a power of two less one
    int32_t *buckets;  // [mask + 1] first page of the bucket, or −1
    int32_t *next;     // [pages] the one after it in its bucket, or −1
    int32_t *parents;  // [pages] OCT_PREFIX_ROOT − 1 for a page that is no entry
    int32_t *children; // [pages] entries whose parent it is
    int32_t *tokens;   // [pages][OCT_PREFIX_TOKENS]
} oct_prefix_index;

// Makes an empty index for pages 0 … pages − 1. Errors: OCT_ERR_MACHINE when memory is out; *index is zeroed then.
oct_status oct_prefix_index_create(oct_prefix_index *index, int32_t pages);

// Frees what it owns and zeroes it; a zeroed index is allowed.
void oct_prefix_index_destroy(oct_prefix_index *index);

// True where the page is an entry.
bool oct_prefix_index_has(const oct_prefix_index *index, int32_t page);

// The page with these tokens [OCT_PREFIX_TOKENS] behind `parent` (an entry or OCT_PREFIX_ROOT), or −1.
int32_t oct_prefix_index_find(const oct_prefix_index *index, int32_t parent, const int32_t *tokens);

// Makes an entry; the page is none, its parent is one (or OCT_PREFIX_ROOT), and there is none with the same parent and
// tokens. The tokens [OCT_PREFIX_TOKENS] are copied.
void oct_prefix_index_insert(oct_prefix_index *index, int32_t page, int32_t parent, const int32_t *tokens);

// Forgets an entry; it has no children.
void oct_prefix_index_remove(oct_prefix_index *index, int32_t page);

#endif
