// Reads the fixtures of tests/golden/tokenizer (their layout: make_strings.py and make_golden.py there).
// For test programs; everything ends the test on an error.
#ifndef OCT_TESTS_TOKENIZER_FIXTURE_H
#define OCT_TESTS_TOKENIZER_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer.h"

typedef struct fixture {
    char *bytes; // owned
    size_t size, at;
} fixture;

static inline fixture fixture_open(const char *name)
{
    char command[256];
    int written = snprintf(command, sizeof command, "gzip -dc golden/tokenizer/%s.gz", name);
    assert_true(written > 0 && (size_t)written < sizeof command);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    fixture made = {0};
    size_t room = 0, got;
    do {
        if (made.size == room) {
            room = room ? 2 * room : 1 << 20;
            made.bytes = realloc(made.bytes, room);
            assert_non_null(made.bytes);
        }
        got = fread(made.bytes + made.size, 1, room - made.size, pipe);
        made.size += got;
    } while (got > 0);
    if (pclose(pipe) != 0)
        fail_msg("cannot read golden/tokenizer/%s.gz; run in the folder tests/", name);
    return made;
}

static inline const char *fixture_take(fixture *from, size_t bytes)
{
    assert_true(bytes <= from->size - from->at);
    from->at += bytes;
    return from->bytes + from->at - bytes;
}

static inline int32_t fixture_i32(fixture *from)
{
    int32_t value;
    memcpy(&value, fixture_take(from, sizeof value), sizeof value);
    return value;
}

static inline uint64_t fixture_u64(fixture *from)
{
    uint64_t value;
    memcpy(&value, fixture_take(from, sizeof value), sizeof value);
    return value;
}

static inline char *fixture_text(fixture *from)
{
    size_t bytes = (size_t)fixture_i32(from);
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    memcpy(text, fixture_take(from, bytes), bytes);
    text[bytes] = '\0';
    return text;
}

static inline void fixture_tokens(fixture *from, oct_strings *tokens)
{
    tokens->count = fixture_i32(from);
    size_t bytes = (size_t)fixture_i32(from);
    const char *texts = fixture_take(from, bytes);
    tokens->offsets = malloc(((size_t)tokens->count + 1) * sizeof *tokens->offsets);
    tokens->bytes = malloc(bytes);
    assert_true(tokens->offsets && tokens->bytes);
    uint64_t at = 0;
    for (int32_t i = 0; i < tokens->count; i++) {
        size_t length = strlen(texts);
        tokens->offsets[i] = at;
        memcpy(tokens->bytes + at, texts, length);
        at += length;
        texts += length + 1;
    }
    tokens->offsets[tokens->count] = at;
}

static inline void fixture_merges(fixture *from, const oct_strings *tokens, oct_strings *merges)
{
    merges->count = fixture_i32(from);
    if (merges->count == 0)
        return;
    size_t n = (size_t)merges->count;
    const char *steps = fixture_take(from, n * sizeof(int32_t));
    const unsigned char *lefts = (const unsigned char *)fixture_take(from, n);
    merges->offsets = malloc((n + 1) * sizeof *merges->offsets);
    merges->bytes = malloc(n * 1024);
    assert_true(merges->offsets && merges->bytes);
    int32_t id = -1, step;
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(&step, steps + i * sizeof step, sizeof step);
        id += step;
        const char *text = tokens->bytes + tokens->offsets[id];
        size_t bytes = tokens->offsets[id + 1] - tokens->offsets[id];
        assert_true(id >= 0 && id < tokens->count && lefts[i] < bytes && bytes < 1023);
        merges->offsets[i] = at;
        memcpy(merges->bytes + at, text, lefts[i]);
        merges->bytes[at + lefts[i]] = ' ';
        memcpy(merges->bytes + at + lefts[i] + 1, text + lefts[i], bytes - lefts[i]);
        at += bytes + 1;
    }
    merges->offsets[n] = at;
}

// The vocabulary of a kind, to be freed with oct_vocabulary_free().
static inline oct_vocabulary fixture_vocabulary(const char *kind)
{
    char name[128];
    (void)snprintf(name, sizeof name, "%s.vocabulary", kind);
    fixture from = fixture_open(name);
    oct_vocabulary made = {0};
    assert_memory_equal(fixture_take(&from, 8), "octvocab", 8);
    made.kind = fixture_text(&from);
    made.pretokenizer = fixture_text(&from);
    made.bos = fixture_i32(&from);
    made.eos = fixture_i32(&from);
    made.eot = fixture_i32(&from);
    made.unknown = fixture_i32(&from);
    made.padding = fixture_i32(&from);
    made.add_bos = *fixture_take(&from, 1) != 0;
    made.add_eos = *fixture_take(&from, 1) != 0;
    made.add_space_prefix = *fixture_take(&from, 1) != 0;
    fixture_tokens(&from, &made.tokens);
    size_t n = (size_t)made.tokens.count;
    made.types = malloc(n * sizeof *made.types);
    made.chat_template = calloc(1, 1);
    assert_true(made.types && made.chat_template);
    const char *types = fixture_take(&from, n);
    for (size_t i = 0; i < n; i++)
        made.types[i] = types[i];
    if (*fixture_take(&from, 1)) {
        made.scores = malloc(n * sizeof *made.scores);
        assert_non_null(made.scores);
        int32_t score = 0;
        for (size_t i = 0; i < n; i++)
            made.scores[i] = (float)(score += fixture_i32(&from));
    }
    fixture_merges(&from, &made.tokens, &made.merges);
    assert_int_equal(from.at, from.size);
    free(from.bytes);
    return made;
}

typedef struct fixture_strings {
    fixture file;
    size_t count;
    const char **texts; // not terminated
    size_t *bytes;
} fixture_strings;

static inline fixture_strings fixture_read_strings(void)
{
    fixture_strings made = {.file = fixture_open("strings")};
    made.count = (size_t)fixture_i32(&made.file);
    made.texts = malloc(made.count * sizeof *made.texts);
    made.bytes = malloc(made.count * sizeof *made.bytes);
    assert_true(made.texts && made.bytes);
    for (size_t i = 0; i < made.count; i++)
        made.bytes[i] = (size_t)fixture_i32(&made.file);
    for (size_t i = 0; i < made.count; i++)
        made.texts[i] = fixture_take(&made.file, made.bytes[i]);
    return made;
}

static inline void fixture_free_strings(fixture_strings *strings)
{
    free(strings->file.bytes);
    free(strings->texts);
    free(strings->bytes);
}

#endif
