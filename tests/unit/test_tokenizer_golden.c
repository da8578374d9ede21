// Every kind of tokenizer against its reference on thousands of texts, and the way back.
#include "test_tokenizer_fixture.h"

#include <xxhash.h>

typedef struct kind {
    const char *vocabulary, *ids;
    unsigned flags;
    bool no_space_prefix;
} kind;

static const kind kinds[] = {
    {"smollm", "smollm", 0, false},
    {"gpt-2", "gpt-2", 0, false},
    {"llama-bpe", "llama-bpe", 0, false},
    {"qwen2", "qwen2", 0, false},
    {"qwen2", "qwen2-keep-bytes", OCT_ENCODE_KEEP_BYTES, false},
    {"llama-spm", "llama-spm", 0, false},
    {"llama-spm", "llama-spm-noprefix", 0, true},
};

static fixture_strings strings;

static oct_tokenizer *open_kind(const kind *what)
{
    oct_vocabulary vocabulary = fixture_vocabulary(what->vocabulary);
    if (what->no_space_prefix)
        vocabulary.add_space_prefix = false;
    oct_tokenizer *tokenizer = NULL;
    if (oct_tokenizer_create(&tokenizer, &vocabulary) != OCT_OK)
        fail_msg("%s: %s", what->ids, oct_failure_text());
    oct_vocabulary_free(&vocabulary);
    return tokenizer;
}

static void encode(const oct_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags,
                   oct_token_list *list)
{
    list->count = 0;
    if (oct_tokenizer_encode(tokenizer, text, bytes, flags, list) != OCT_OK)
        fail_msg("%s", oct_failure_text());
}

static void check_hashes(const kind *what, const oct_tokenizer *tokenizer, fixture *ids)
{
    size_t wrong = 0, first = 0;
    oct_token_list list = {0};
    assert_int_equal(fixture_i32(ids), strings.count);
    for (size_t i = 0; i < strings.count; i++) {
        encode(tokenizer, strings.texts[i], strings.bytes[i], what->flags, &list);
        uint64_t hash = XXH64(list.ids, list.count * sizeof *list.ids, 0);
        if (hash != fixture_u64(ids) && wrong++ == 0)
            first = i;
    }
    oct_token_list_free(&list);
    if (wrong > 0)
        fail_msg("%s: %zu of %zu strings differ from the reference, first number %zu: %.*s", what->ids, wrong,
                 strings.count, first, (int)strings.bytes[first], strings.texts[first]);
}

static void check_ids(const kind *what, const oct_tokenizer *tokenizer, const char *text, size_t bytes,
                      unsigned flags, fixture *ids)
{
    oct_token_list list = {0};
    encode(tokenizer, text, bytes, what->flags | flags, &list);
    size_t count = (size_t)fixture_i32(ids);
    const char *expected = fixture_take(ids, count * sizeof(int32_t));
    bool same =
        list.count == count && (count == 0 || memcmp(list.ids, expected, count * sizeof(int32_t)) == 0);
    if (!same) {
        for (size_t i = 0; i < list.count || i < count; i++) {
            int32_t id = -1;
            if (i < count)
                memcpy(&id, expected + i * sizeof id, sizeof id);
            print_error("%zu: %d, reference %d\n", i, i < list.count ? list.ids[i] : -1, id);
        }
        fail_msg("%s: ids of \"%.*s\" differ from the reference", what->ids, (int)bytes, text);
    }
    oct_token_list_free(&list);
}

static void test_ids(void **state)
{
    const kind *what = *state;
    char name[128];
    (void)snprintf(name, sizeof name, "%s.ids", what->ids);
    fixture ids = fixture_open(name);
    oct_tokenizer *tokenizer = open_kind(what);
    check_hashes(what, tokenizer, &ids);
    for (int32_t i = fixture_i32(&ids); i > 0; i--) {
        size_t string = (size_t)fixture_i32(&ids);
        assert_true(string < strings.count);
        check_ids(what, tokenizer, strings.texts[string], strings.bytes[string], 0, &ids);
    }
    for (int32_t i = fixture_i32(&ids); i > 0; i--) {
        size_t bytes = (size_t)fixture_i32(&ids);
        const char *text = fixture_take(&ids, bytes);
        check_ids(what, tokenizer, text, bytes, OCT_ENCODE_PARSE_SPECIAL, &ids);
    }
    assert_int_equal(ids.at, ids.size);
    free(ids.bytes);
    oct_tokenizer_destroy(tokenizer);
}

// What a text is expected to come back as: byte-level kinds lose bytes that have no token at all (SmolLM2),
// SentencePiece kinds turn U+2581 into the space that it stands for.
static size_t expected_back(const bool *known, const char *text, size_t bytes, bool scored, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (scored && bytes - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 2;
        } else if (known[(unsigned char)text[i]]) {
            out[n++] = text[i];
        }
    }
    return n;
}

static void find_known_bytes(const oct_tokenizer *tokenizer, bool known[256])
{
    memset(known, 0, 256 * sizeof *known);
    for (int32_t id = 0; id < oct_tokenizer_count(tokenizer); id++) {
        size_t bytes;
        const char *piece = oct_tokenizer_piece(tokenizer, id, &bytes);
        if (bytes == 1)
            known[(unsigned char)piece[0]] = true;
    }
}

static void check_way_back(const kind *what, const oct_tokenizer *tokenizer, const bool *known,
                           const char *text, size_t bytes, unsigned decode_flags)
{
    bool scored = strncmp(what->vocabulary, "llama-spm", 9) == 0;
    unsigned flags = OCT_ENCODE_KEEP_BYTES;
    oct_token_list list = {0};
    encode(tokenizer, text, bytes, flags, &list);
    char *expected = malloc(bytes + 1), *back = malloc(bytes + 1);
    assert_true(expected && back);
    size_t expected_bytes = expected_back(known, text, bytes, scored, expected), n = 0, ready;
    oct_detokenizer *detokenizer;
    assert_int_equal(oct_detokenizer_create(&detokenizer, tokenizer, OCT_DETOKENIZE_BEGIN | decode_flags),
                     OCT_OK);
    for (size_t i = 0; i <= list.count; i++) {
        const char *part = i < list.count ? oct_detokenizer_feed(detokenizer, list.ids[i], &ready)
                                          : oct_detokenizer_flush(detokenizer, &ready);
        if (ready > bytes - n)
            fail_msg("%s: \"%.*s\" comes back longer", what->ids, (int)bytes, text);
        memcpy(back + n, part, ready);
        n += ready;
    }
    if (n != expected_bytes || memcmp(back, expected, n) != 0)
        fail_msg("%s: \"%.*s\" comes back as \"%.*s\"", what->ids, (int)bytes, text, (int)n, back);
    oct_detokenizer_destroy(detokenizer);
    oct_token_list_free(&list);
    free(expected);
    free(back);
}

static void test_texts_come_back(void **state)
{
    const kind *what = *state;
    oct_tokenizer *tokenizer = open_kind(what);
    bool known[256];
    find_known_bytes(tokenizer, known);
    for (size_t i = 0; i < strings.count; i++) {
        // Where SmolLM2 has no tokens for a part of a character, what is left of it is not UTF-8.
        bool cuts = strcmp(what->vocabulary, "smollm") == 0;
        check_way_back(what, tokenizer, known, strings.texts[i], strings.bytes[i],
                       cuts ? OCT_DETOKENIZE_RAW : 0);
    }
    oct_tokenizer_destroy(tokenizer);
}

static void test_bytes_come_back(void **state)
{
    const kind *what = *state;
    oct_tokenizer *tokenizer = open_kind(what);
    bool known[256];
    find_known_bytes(tokenizer, known);
    unsigned seed = 12345;
    for (int round = 0; round < 3000; round++) {
        char text[257];
        size_t bytes = (size_t)rand_r(&seed) % 256;
        for (size_t i = 0; i < bytes;
             i++) // half of the rounds: any bytes; half: mostly words, marks and spaces
            text[i] =
                round % 2 ? (char)rand_r(&seed) : "ab \n\xCC\x81\xE2\xF0\x9F\x80\x81 '9"[rand_r(&seed) % 15];
        check_way_back(what, tokenizer, known, text, bytes, OCT_DETOKENIZE_RAW);
    }
    oct_tokenizer_destroy(tokenizer);
}

static int setup(void **state)
{
    (void)state;
    strings = fixture_read_strings();
    return strings.count >= 5000 ? 0 : -1; // the promise is at least 5,000 texts
}

static int teardown(void **state)
{
    (void)state;
    fixture_free_strings(&strings);
    return 0;
}

#define KIND(function, i)                                                                                    \
    {                                                                                                        \
#function ": " #i, function, NULL, NULL, (void *)(uintptr_t)&kinds[i]                                \
    }
#define TESTS(i) KIND(test_ids, i), KIND(test_texts_come_back, i), KIND(test_bytes_come_back, i)

int main(void)
{
    const struct CMUnitTest tests[] = {TESTS(0), TESTS(1), TESTS(2), TESTS(3), TESTS(4), TESTS(5), TESTS(6)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
