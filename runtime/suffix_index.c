// The ring of tokens and its chains. What is done with the places that it finds is the drafter's business.
//
// A position is an unsigned 32-bit number that is never reset. It is held where its distance to the end is at most the
// length, so heads and links that point to forgotten or cleared text need no tidying. A hash is no proof: every place
// is compared with the context, also one that a head from 2^32 tokens ago would name.
#include "runtime/suffix_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

size_t oct_suffix_index_bytes(uint32_t capacity)
{
    return (size_t)capacity * (sizeof(int32_t) + OCT_SUFFIX_LENGTHS * 2 * sizeof(uint32_t));
}

oct_status oct_suffix_index_create(oct_suffix_index *index, uint32_t capacity)
{
    assert(capacity > 0 && capacity <= (uint32_t)1 << 30 && (capacity & (capacity - 1)) == 0);
    memset(index, 0, sizeof *index);
    index->capacity = capacity;
    index->end = capacity; // so that the zeroes of empty heads are out of reach
    index->tokens = calloc(capacity, sizeof *index->tokens);
    index->heads = calloc((size_t)capacity * OCT_SUFFIX_LENGTHS, sizeof *index->heads);
    index->previous = calloc((size_t)capacity * OCT_SUFFIX_LENGTHS, sizeof *index->previous);
    if (!index->tokens || !index->heads || !index->previous) {
        oct_suffix_index_destroy(index);
        return oct_fail(OCT_ERR_MACHINE, "no memory for a suffix index of %u tokens (%.1f MiB)", (unsigned)capacity,
                        (double)oct_suffix_index_bytes(capacity) / (1 << 20));
    }
    return OCT_OK;
}

void oct_suffix_index_destroy(oct_suffix_index *index)
{
    free(index->tokens);
    free(index->heads);
    free(index->previous);
    memset(index, 0, sizeof *index);
}

void oct_suffix_index_clear(oct_suffix_index *index)
{
    index->length = index->pending = 0;
}

void oct_suffix_index_append(oct_suffix_index *index, const int32_t *tokens, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        index->tokens[index->end++ & (index->capacity - 1)] = tokens[i];
    const int64_t length = index->length + count, pending = index->pending + count;
    index->length = length < index->capacity ? (uint32_t)length : index->capacity;
    index->pending = pending < index->length ? (uint32_t)pending : index->length;
}

// One token more at the old end of a context.
static uint64_t mix(uint64_t hash, int32_t token)
{
    hash = (hash ^ (uint32_t)token) * 0x9e3779b97f4a7c15u; // odd, from the golden ratio: Fibonacci hashing
    return hash ^ hash >> 32;
}

// The list, of its length, into which a context of that hash belongs.
static uint32_t bucket(const oct_suffix_index *index, uint64_t hash)
{
    return (uint32_t)hash & (index->capacity - 1);
}

// Contexts that reach beyond the text, or over a border, are chained like others: they agree with nothing when a place
// is compared.
static void chain_position(oct_suffix_index *index, uint32_t position)
{
    uint32_t *previous = index->previous + (size_t)(position & (index->capacity - 1)) * OCT_SUFFIX_LENGTHS;
    uint64_t hash = 0;
    uint32_t tokens = 0;
    for (int32_t i = 0; i < OCT_SUFFIX_LENGTHS; i++) {
        for (; tokens < (uint32_t)1 << i; tokens++)
            hash = mix(hash, oct_suffix_index_token(index, position - tokens));
        uint32_t *head = index->heads + (size_t)i * index->capacity + bucket(index, hash);
        previous[i] = *head;
        *head = position;
    }
}

void oct_suffix_index_chain(oct_suffix_index *index, int64_t most)
{
    for (; index->pending > 1 && most > 0; most--, index->pending--)
        chain_position(index, index->end - index->pending);
}

static int32_t match_length(const oct_suffix_index *index, uint32_t position, uint32_t held, const int32_t *context,
                            int32_t count)
{
    const int32_t most = (uint32_t)count < held ? count : (int32_t)held;
    int32_t length = 0;
    while (length < most && oct_suffix_index_token(index, position - (uint32_t)length) == context[length])
        length++;
    return length;
}

// Keeps, of the places in one chain that agree with at least 1 << i tokens, those that agree longest.
static void walk_chain(const oct_suffix_index *index, int32_t i, uint64_t hash, const int32_t *context, int32_t count,
                       oct_suffix_matches *matches)
{
    uint32_t position = index->heads[(size_t)i * index->capacity + bucket(index, hash)];
    uint32_t nearest = 2; // the last position has no token after it
    for (int32_t links = 0; links < OCT_SUFFIX_LINKS; links++) {
        const uint32_t distance = index->end - position;
        if (distance < nearest || distance > index->length)
            return;
        const int32_t length = match_length(index, position, index->length - distance + 1, context, count);
        if (length >= 1 << i && length >= matches->length) {
            matches->count = length > matches->length ? 0 : matches->count;
            matches->length = length;
            matches->positions[matches->count++] = position;
        }
        nearest = distance + 1;
        position = index->previous[(size_t)(position & (index->capacity - 1)) * OCT_SUFFIX_LENGTHS + (size_t)i];
    }
}

void oct_suffix_index_find(const oct_suffix_index *index, const int32_t *context, int32_t count,
                           oct_suffix_matches *matches)
{
    uint64_t hashes[OCT_SUFFIX_LENGTHS], hash = 0;
    int32_t lengths = 0;
    for (int32_t tokens = 0; lengths < OCT_SUFFIX_LENGTHS && tokens < count; tokens++) {
        hash = mix(hash, context[tokens]);
        if (tokens + 1 == 1 << lengths)
            hashes[lengths++] = hash;
    }
    matches->length = matches->count = 0;
    const int32_t compared = count < OCT_SUFFIX_MATCH ? count : OCT_SUFFIX_MATCH;
    for (int32_t i = lengths - 1; i >= 0 && matches->count == 0; i--)
        walk_chain(index, i, hashes[i], context, compared, matches);
}
