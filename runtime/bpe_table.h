// The two hash tables of a tokenizer: from a token's bytes to its id, and from a pair of tokens to the
// token that they merge into. Built once, then only read. Open addressing, XXH3. LOCAL.
#ifndef OCT_RUNTIME_BPE_TABLE_H
#define OCT_RUNTIME_BPE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

// Token bytes to ids. Borrows the bytes: token i is bytes[offsets[i] … offsets[i + 1]).
typedef struct oct_text_table {
    int32_t *slots; // [mask + 1] ids, -1: empty
    size_t mask;
    size_t longest; // bytes of the longest entry: nothing longer is looked for
    const char *bytes;
    const uint64_t *offsets;
} oct_text_table;

// Makes a table with room for n entries. Errors: OCT_ERR_MACHINE when memory is out.
oct_status oct_text_table_create(oct_text_table *table, size_t n, const char *bytes, const uint64_t *offsets);
// Enters token `id`; where its bytes are there already, the first stays. Empty tokens are not entered.
void oct_text_table_add(oct_text_table *table, int32_t id);
// The id of these bytes, or -1.
int32_t oct_text_table_find(const oct_text_table *table, const char *text, size_t bytes);
void oct_text_table_free(oct_text_table *table);

typedef struct oct_pair_slot {
    uint64_t pair; // left << 32 | right; UINT64_MAX: empty
    uint32_t rank;
    int32_t merged;
} oct_pair_slot;

typedef struct oct_pair_table {
    oct_pair_slot *slots; // [mask + 1]
    size_t mask;
} oct_pair_table;

// Makes a table with room for n pairs. Errors: OCT_ERR_MACHINE when memory is out.
oct_status oct_pair_table_create(oct_pair_table *table, size_t n);
// Enters a pair; where it is there already, the first stays.
void oct_pair_table_add(oct_pair_table *table, int32_t left, int32_t right, uint32_t rank, int32_t merged);
// The pair's slot, or NULL.
const oct_pair_slot *oct_pair_table_find(const oct_pair_table *table, int32_t left, int32_t right);
void oct_pair_table_free(oct_pair_table *table);

#endif
