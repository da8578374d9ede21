// Recorded tokens by request, and where each slot stands in them.
#include "ranks/drafter_synthetic.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/noise.h"

typedef struct recording {
    int64_t request;
    int32_t *tokens; // [count] owned
    int32_t count, capacity;
} recording;

typedef struct place {
    int64_t request;
    int32_t recording; // -1: none of this request
    int32_t length;    // tokens of the output so far
} place;

typedef struct synthetic {
    oct_drafter drafter;
    double probability;
    int32_t vocabulary;
    bool replays;
    recording *recordings; // [count] ascending by request once it replays
    int32_t count, capacity;
    place places[]; // [slots]
} synthetic;

static int compare(const void *a, const void *b)
{
    const int64_t left = ((const recording *)a)->request, right = ((const recording *)b)->request;
    return (left > right) - (left < right);
}

static int32_t find(const synthetic *s, int64_t request)
{
    const recording key = {.request = request};
    if (s->replays && s->count > 0) {
        const recording *found = bsearch(&key, s->recordings, (size_t)s->count, sizeof key, compare);
        return found == NULL ? -1 : (int32_t)(found - s->recordings);
    }
    for (int32_t i = s->count - 1; i >= 0; i--) // it is among the last ones
        if (s->recordings[i].request == request)
            return i;
    return -1;
}

static oct_status no_memory(void)
{
    return oct_fail(OCT_ERR_MACHINE, "no memory to record what the synthetic drafter shall propose");
}

static oct_status add_recording(synthetic *s, int64_t request)
{
    if (s->count == s->capacity) {
        const int32_t capacity = 2 * s->capacity + 16;
        recording *grown = realloc(s->recordings, (size_t)capacity * sizeof *grown);
        if (grown == NULL)
            return no_memory();
        s->recordings = grown;
        s->capacity = capacity;
    }
    s->recordings[s->count++] = (recording){.request = request};
    return OCT_OK;
}

static oct_status begin(oct_drafter *drafter, int32_t slot, int64_t request, const int32_t *prompt, int32_t count,
                        const oct_sampling *sampling)
{
    (void)sampling;
    synthetic *s = (synthetic *)drafter;
    (void)prompt;
    (void)count;
    place *at = &s->places[slot];
    *at = (place){.request = request, .recording = find(s, request)};
    if (s->replays)
        return OCT_OK;
    if (at->recording < 0) {
        const oct_status status = add_recording(s, request);
        if (status != OCT_OK)
            return status;
        at->recording = s->count - 1;
    }
    s->recordings[at->recording].count = 0; // what a pre-empted sequence has is told again
    return OCT_OK;
}

static oct_status record(recording *r, const int32_t *tokens, int32_t count)
{
    if (r->count + count > r->capacity) {
        const int32_t capacity = 2 * (r->count + count) + 16;
        int32_t *grown = realloc(r->tokens, (size_t)capacity * sizeof *grown);
        if (grown == NULL)
            return no_memory();
        r->tokens = grown;
        r->capacity = capacity;
    }
    memcpy(r->tokens + r->count, tokens, (size_t)count * sizeof *tokens);
    r->count += count;
    return OCT_OK;
}

static oct_status append(oct_drafter *drafter, int32_t slot, const int32_t *tokens, int32_t count)
{
    synthetic *s = (synthetic *)drafter;
    place *at = &s->places[slot];
    at->length += count;
    return s->replays ? OCT_OK : record(&s->recordings[at->recording], tokens, count);
}

// One word of Philox for each request and position: below the probability the draft is right.
static bool is_right(const synthetic *s, int64_t request, int32_t position)
{
    const uint32_t counter[4] = {(uint32_t)position, 0, (uint32_t)request, (uint32_t)((uint64_t)request >> 32)};
    const uint32_t key[2] = {0x73796e74, 0x68657469};
    uint32_t words[4];
    oct_philox(counter, key, words);
    return (double)words[0] < s->probability * 4294967296.0;
}

static oct_status propose(oct_drafter *drafter, int32_t slot, int32_t most, oct_draft *drafts, int32_t *count)
{
    const synthetic *s = (const synthetic *)drafter;
    const place *at = &s->places[slot];
    *count = 0;
    if (!s->replays || at->recording < 0)
        return OCT_OK;
    const recording *known = &s->recordings[at->recording];
    for (int32_t next = at->length; *count < most && next < known->count; next++) {
        const int32_t right = known->tokens[next];
        const int32_t token = is_right(s, at->request, next) ? right : (right + 1) % s->vocabulary;
        drafts[(*count)++] =
            (oct_draft){.token = token, .probability = (float)s->probability, .source = OCT_DRAFT_SYNTHETIC};
    }
    return OCT_OK;
}

static void destroy(oct_drafter *drafter)
{
    synthetic *s = (synthetic *)drafter;
    for (int32_t i = 0; i < s->count; i++)
        free(s->recordings[i].tokens);
    free(s->recordings);
    free(s);
}

oct_status oct_drafter_synthetic_create(oct_drafter **out, int32_t slots, int32_t vocabulary, double probability)
{
    assert(slots >= 1 && vocabulary >= 2 && probability >= 0 && probability <= 1);
    synthetic *s = calloc(1, sizeof *s + (size_t)slots * sizeof *s->places);
    if (s == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the synthetic drafter");
    s->drafter = (oct_drafter){
        .name = "synthetic", .begin = begin, .append = append, .propose = propose, .destroy = destroy};
    s->probability = probability;
    s->vocabulary = vocabulary;
    *out = &s->drafter;
    return OCT_OK;
}

void oct_drafter_synthetic_replay(oct_drafter *drafter)
{
    synthetic *s = (synthetic *)drafter;
    s->replays = true;
    if (s->count > 1)
        qsort(s->recordings, (size_t)s->count, sizeof *s->recordings, compare);
}
