// Byte-pair merging with a binary heap. A pair in the heap is never updated: when it comes to the top and
// one of its symbols has grown or gone, it is dropped (symbols only grow, so the lengths tell). At most
// n - 1 merges push two pairs each for the one that they take, so 2n pairs are room enough.
#include "runtime/bpe.h"

#include <stdlib.h>

oct_status oct_bpe_reserve(oct_bpe *bpe, size_t n)
{
    if (n <= bpe->symbol_capacity)
        return OCT_OK;
    size_t capacity = bpe->symbol_capacity ? bpe->symbol_capacity : 64;
    while (capacity < n)
        capacity *= 2;
    oct_bpe_free(bpe);
    bpe->symbols = malloc(capacity * sizeof *bpe->symbols);
    bpe->heap = malloc(2 * capacity * sizeof *bpe->heap);
    if (!bpe->symbols || !bpe->heap) {
        oct_bpe_free(bpe);
        return oct_fail(OCT_ERR_MACHINE, "no memory to tokenize a word of %zu bytes", n);
    }
    bpe->symbol_capacity = capacity;
    return OCT_OK;
}

void oct_bpe_free(oct_bpe *bpe)
{
    free(bpe->symbols);
    free(bpe->heap);
    *bpe = (oct_bpe){0};
}

static void heap_push(oct_bpe *bpe, oct_bpe_pair pair)
{
    size_t at = bpe->heap_count++;
    while (at > 0 && bpe->heap[(at - 1) / 2].order > pair.order) {
        bpe->heap[at] = bpe->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    bpe->heap[at] = pair;
}

static oct_bpe_pair heap_pop(oct_bpe *bpe)
{
    oct_bpe_pair top = bpe->heap[0], last = bpe->heap[--bpe->heap_count];
    size_t at = 0, count = bpe->heap_count;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && bpe->heap[child + 1].order < bpe->heap[child].order)
            child++;
        if (bpe->heap[child].order >= last.order)
            break;
        bpe->heap[at] = bpe->heap[child];
        at = child;
    }
    if (count > 0)
        bpe->heap[at] = last;
    return top;
}

static void consider(oct_bpe *bpe, int32_t left, int32_t right, oct_bpe_lookup lookup, const void *context)
{
    if (left < 0 || right < 0)
        return;
    const oct_bpe_symbol *l = &bpe->symbols[left], *r = &bpe->symbols[right];
    int32_t merged;
    uint32_t priority;
    if (!lookup(context, l, r, &merged, &priority))
        return;
    heap_push(bpe, (oct_bpe_pair){.order = (uint64_t)priority << 32 | (uint32_t)left,
                                  .left = left,
                                  .right = right,
                                  .merged = merged,
                                  .length = l->length + r->length});
}

void oct_bpe_merge(oct_bpe *bpe, size_t n, oct_bpe_lookup lookup, const void *context)
{
    oct_bpe_symbol *symbols = bpe->symbols;
    bpe->heap_count = 0;
    for (size_t i = 0; i < n; i++) {
        symbols[i].previous = (int32_t)i - 1;
        symbols[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
        if (i > 0)
            consider(bpe, (int32_t)i - 1, (int32_t)i, lookup, context);
    }
    while (bpe->heap_count > 0) {
        oct_bpe_pair pair = heap_pop(bpe);
        oct_bpe_symbol *left = &symbols[pair.left], *right = &symbols[pair.right];
        if (left->length == 0 || right->length == 0 || left->length + right->length != pair.length)
            continue;
        left->id = pair.merged;
        left->length += right->length;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0)
            symbols[left->next].previous = pair.left;
        consider(bpe, left->previous, pair.left, lookup, context);
        consider(bpe, pair.left, left->next, lookup, context);
    }
}
