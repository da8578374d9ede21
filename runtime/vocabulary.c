// The vocabulary's consistency check and its end; importers and checkpoints fill it.
#include "runtime/vocabulary.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static oct_status check_strings(const oct_strings *strings, const char *what)
{
    if (strings->count < 0)
        return oct_fail(OCT_ERR_FILE, "the vocabulary has %" PRId32 " %s; a count cannot be negative",
                        strings->count, what);
    if (strings->count == 0)
        return OCT_OK;
    if (!strings->offsets || strings->offsets[0] != 0)
        return oct_fail(OCT_ERR_FILE, "the vocabulary's %s have no offsets that begin with 0", what);
    for (int32_t i = 0; i < strings->count; i++)
        if (strings->offsets[i] > strings->offsets[i + 1])
            return oct_fail(OCT_ERR_FILE,
                            "the offsets of the vocabulary's %s fall from %" PRIu64 " to %" PRIu64
                            " at number %" PRId32 "; they must not fall",
                            what, strings->offsets[i], strings->offsets[i + 1], i);
    if (strings->offsets[strings->count] > 0 && !strings->bytes)
        return oct_fail(OCT_ERR_FILE, "the vocabulary's %s have no bytes", what);
    return OCT_OK;
}

static oct_status check_ids(const oct_vocabulary *vocabulary)
{
    const struct {
        const char *name;
        int32_t id;
    } ids[] = {{"beginning-of-text", vocabulary->bos},
               {"end-of-text", vocabulary->eos},
               {"end-of-turn", vocabulary->eot},
               {"unknown", vocabulary->unknown},
               {"padding", vocabulary->padding}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        if (ids[i].id < -1 || ids[i].id >= vocabulary->tokens.count)
            return oct_fail(OCT_ERR_FILE,
                            "the %s token of the vocabulary is %" PRId32 "; ids are 0 to %" PRId32
                            ", or -1 for none",
                            ids[i].name, ids[i].id, vocabulary->tokens.count - 1);
    return OCT_OK;
}

oct_status oct_vocabulary_check(const oct_vocabulary *vocabulary)
{
    if (!vocabulary->kind)
        return oct_fail(OCT_ERR_FILE, "the vocabulary has no kind; \"gpt2\" or \"llama\" is expected");
    oct_status status = check_strings(&vocabulary->tokens, "tokens");
    if (status == OCT_OK)
        status = check_strings(&vocabulary->merges, "merges");
    if (status == OCT_OK && vocabulary->tokens.count == 0)
        status = oct_fail(OCT_ERR_FILE, "the vocabulary has no tokens");
    if (status == OCT_OK)
        status = check_ids(vocabulary);
    if (status != OCT_OK)
        return status;
    for (int32_t i = 0; i < vocabulary->tokens.count; i++) {
        if (vocabulary->scores && !isfinite(vocabulary->scores[i]))
            return oct_fail(OCT_ERR_FILE, "the score of token %" PRId32 " is not a finite number", i);
        if (vocabulary->types &&
            (vocabulary->types[i] < OCT_TOKEN_NORMAL || vocabulary->types[i] > OCT_TOKEN_BYTE))
            return oct_fail(OCT_ERR_FILE, "token %" PRId32 " is of type %" PRId32 "; types are %d to %d", i,
                            vocabulary->types[i], OCT_TOKEN_NORMAL, OCT_TOKEN_BYTE);
    }
    return OCT_OK;
}

int32_t oct_vocabulary_find_difference(const oct_vocabulary *a, const oct_vocabulary *b)
{
    const oct_strings *left = &a->tokens, *right = &b->tokens;
    const int32_t both = left->count < right->count ? left->count : right->count;
    for (int32_t i = 0; i < both; i++) {
        const uint64_t bytes = left->offsets[i + 1] - left->offsets[i];
        if (bytes != right->offsets[i + 1] - right->offsets[i] ||
            memcmp(left->bytes + left->offsets[i], right->bytes + right->offsets[i], (size_t)bytes) != 0)
            return i;
    }
    return left->count == right->count ? -1 : both;
}

void oct_vocabulary_free(oct_vocabulary *vocabulary)
{
    free(vocabulary->kind);
    free(vocabulary->pretokenizer);
    free(vocabulary->tokens.offsets);
    free(vocabulary->tokens.bytes);
    free(vocabulary->merges.offsets);
    free(vocabulary->merges.bytes);
    free(vocabulary->scores);
    free(vocabulary->types);
    free(vocabulary->chat_template);
    memset(vocabulary, 0, sizeof *vocabulary);
}
