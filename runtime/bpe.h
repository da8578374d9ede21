// The merging of byte-pair encoding, apart from what says which pairs merge: a list of symbols, a
// priority queue of adjacent pairs, merged from the best to the worst (ties: the leftmost), in
// O(n log n). Used with ranks by byte-level BPE and with scores by SentencePiece-style BPE. LOCAL.
#ifndef OCT_RUNTIME_BPE_H
#define OCT_RUNTIME_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

// One symbol of a word; a merged symbol lives on in its left half, the right half becomes empty.
typedef struct oct_bpe_symbol {
    int32_t id;             // token, or -1 for text without a token
    uint32_t start, length; // its bytes in the word; length 0: merged into another
    int32_t previous, next; // neighbours, -1 at the ends; set by oct_bpe_merge()
} oct_bpe_symbol;

// Says whether two adjacent symbols merge, into which token, and how soon (smaller is sooner).
typedef bool (*oct_bpe_lookup)(const void *context, const oct_bpe_symbol *left, const oct_bpe_symbol *right,
                               int32_t *merged, uint32_t *priority);

typedef struct oct_bpe_pair {
    uint64_t order; // priority, then the position of the left symbol
    int32_t left, right, merged;
    uint32_t length; // of both symbols when the pair was seen: tells a pair that is no more
} oct_bpe_pair;

// Memory that is kept from word to word; a zeroed one is empty.
typedef struct oct_bpe {
    oct_bpe_symbol *symbols; // [symbol_capacity]
    oct_bpe_pair *heap;      // [2 * symbol_capacity]
    size_t symbol_capacity, heap_count;
} oct_bpe;

// Makes room for a word of n symbols. Errors: OCT_ERR_MACHINE when memory is out.
oct_status oct_bpe_reserve(oct_bpe *bpe, size_t n);

// Merges the first n of bpe->symbols (id, start and length set, reserved before). Afterwards the symbols
// of length > 0, in order, are the result.
void oct_bpe_merge(oct_bpe *bpe, size_t n, oct_bpe_lookup lookup, const void *context);

void oct_bpe_free(oct_bpe *bpe);

#endif
