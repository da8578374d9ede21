// The tokenizer on small vocabularies: specials, flags, streaming, errors, damage, long words.
#include "test_tokenizer_fixture.h"

#include <math.h>

#include "runtime/utf8_nfc.h"

typedef struct entry {
    const char *text;
    float score;
    int32_t type;
} entry;

static oct_strings make_strings(const char *const *texts, int32_t n)
{
    oct_strings made = {.count = n, .offsets = calloc((size_t)n + 1, sizeof *made.offsets)};
    made.bytes = malloc(65536);
    assert_true(made.offsets && made.bytes);
    for (int32_t i = 0; i < n; i++) {
        size_t bytes = strlen(texts[i]);
        memcpy(made.bytes + made.offsets[i], texts[i], bytes);
        made.offsets[i + 1] = made.offsets[i] + bytes;
    }
    return made;
}

static oct_vocabulary make_vocabulary(const char *kind, const char *pretokenizer, const entry *entries,
                                      int32_t n)
{
    const char *texts[64];
    assert_true(n <= 64);
    oct_vocabulary made = {.kind = strdup(kind),
                           .pretokenizer = strdup(pretokenizer),
                           .bos = -1,
                           .eos = -1,
                           .eot = -1,
                           .unknown = -1,
                           .padding = -1,
                           .chat_template = strdup("")};
    made.scores = malloc((size_t)n * sizeof *made.scores);
    made.types = malloc((size_t)n * sizeof *made.types);
    assert_true(made.kind && made.pretokenizer && made.chat_template && made.scores && made.types);
    for (int32_t i = 0; i < n; i++) {
        texts[i] = entries[i].text;
        made.scores[i] = entries[i].score;
        made.types[i] = entries[i].type;
    }
    made.tokens = make_strings(texts, n);
    return made;
}

enum { N = OCT_TOKEN_NORMAL, C = OCT_TOKEN_CONTROL, U = OCT_TOKEN_USER_DEFINED, B = OCT_TOKEN_BYTE };

// Bytes a b c, space, the halves of é, and a few specials.
static oct_vocabulary byte_level_vocabulary(const char *pretokenizer)
{
    static const entry entries[] = {
        {"a", 0, N},          {"b", 0, N},    {"c", 0, N},      {"Ġ", 0, N},          {"Ã", 0, N},
        {"©", 0, N},          {"ab", 0, N},   {"bc", 0, N},     {"abc", 0, N},        {"<s>", 0, C},
        {"</s>", 0, C},       {"<s>x", 0, C}, {"<user>", 0, U}, {"<|im_end|>", 0, C}, {"Ġa", 0, N},
        {"<|eot_id|>", 0, N}, {"ðŁ", 0, N},   {"ĺ", 0, N},      {"Ģ", 0, N}};
    static const char *const merges[] = {"b c", "a b", "a bc", "Ġ a", "no where"};
    oct_vocabulary made = make_vocabulary("gpt2", pretokenizer, entries, sizeof entries / sizeof entries[0]);
    made.merges = make_strings(merges, 5);
    made.bos = 9;
    made.eos = 10;
    made.add_bos = made.add_eos = true;
    return made;
}

static oct_vocabulary scored_vocabulary(void)
{
    static const entry entries[] = {{"<unk>", 0, OCT_TOKEN_UNKNOWN},
                                    {"<s>", 0, C},
                                    {"</s>", 0, C},
                                    {"<0xC3>", 0, B},
                                    {"<0xA9>", 0, B},
                                    {"▁", -9, N},
                                    {"a", -8, N},
                                    {"b", -7, N},
                                    {"ab", -2, N},
                                    {"▁a", -1, N},
                                    {"▁ab", -3, N},
                                    {"ba", -0.5F, N},
                                    {"ou", -1, N}};
    oct_vocabulary made = make_vocabulary("llama", "default", entries, sizeof entries / sizeof entries[0]);
    made.unknown = 0;
    made.bos = 1;
    made.eos = 2;
    made.add_bos = true;
    made.add_space_prefix = true;
    return made;
}

static oct_tokenizer *make_tokenizer(oct_vocabulary vocabulary)
{
    oct_tokenizer *tokenizer = NULL;
    if (oct_tokenizer_create(&tokenizer, &vocabulary) != OCT_OK)
        fail_msg("%s", oct_failure_text());
    oct_vocabulary_free(&vocabulary);
    return tokenizer;
}

static void check_ids(const oct_tokenizer *tokenizer, const char *text, unsigned flags, const char *expected)
{
    oct_token_list list = {0};
    char found[1024] = "";
    assert_int_equal(oct_tokenizer_encode(tokenizer, text, strlen(text), flags, &list), OCT_OK);
    for (size_t i = 0; i < list.count; i++)
        (void)snprintf(found + strlen(found), sizeof found - strlen(found), i ? " %d" : "%d", list.ids[i]);
    assert_string_equal(found, expected);
    oct_token_list_free(&list);
}

static void test_byte_level(void **state)
{
    (void)state;
    oct_tokenizer *tokenizer = make_tokenizer(byte_level_vocabulary("gpt-2"));
    check_ids(tokenizer, "abc", 0, "8"); // "b c" has the lowest rank, then "a bc"
    check_ids(tokenizer, "ab", 0, "6");
    check_ids(tokenizer, "aabcab", 0, "0 8 6");
    check_ids(tokenizer, "a a", 0, "0 14");
    check_ids(tokenizer, "é", 0, "4 5");
    check_ids(tokenizer, "azb", 0, "6"); // z has no token: left out before merging, as the reference does
    check_ids(tokenizer, "", 0, "");
    check_ids(tokenizer, "", OCT_ENCODE_ADD_SPECIAL, "9 10");
    check_ids(tokenizer, "a", OCT_ENCODE_ADD_SPECIAL | OCT_ENCODE_ADD_BOS, "9 0 10");
    check_ids(tokenizer, "a", OCT_ENCODE_ADD_BOS, "9 0");
    oct_tokenizer_destroy(tokenizer);
}

static void test_specials(void **state)
{
    (void)state;
    oct_tokenizer *tokenizer = make_tokenizer(byte_level_vocabulary("gpt-2"));
    check_ids(tokenizer, "a<s>b", OCT_ENCODE_PARSE_SPECIAL, "0 9 1");
    check_ids(tokenizer, "a<s>xb", OCT_ENCODE_PARSE_SPECIAL, "0 11 1"); // the longest wins
    check_ids(tokenizer, "a<s>b", 0, "0 1");       // words of their own; < s > have no tokens
    check_ids(tokenizer, "a<user>b", 0, "0 12 1"); // user-defined: always
    check_ids(tokenizer, "<<s><|im_end|><|im_en", OCT_ENCODE_PARSE_SPECIAL, "9 13");
    check_ids(tokenizer, "<|eot_id|>", OCT_ENCODE_PARSE_SPECIAL, ""); // a normal token of that text
    for (int32_t id = -2; id < 30; id++) {
        assert_int_equal(oct_tokenizer_is_end(tokenizer, id), id == 10 || id == 13);
        assert_int_equal(oct_tokenizer_is_control(tokenizer, id),
                         id == 9 || id == 10 || id == 11 || id == 13);
    }
    oct_tokenizer_destroy(tokenizer);
}

static void test_scored(void **state)
{
    (void)state;
    oct_tokenizer *tokenizer = make_tokenizer(scored_vocabulary());
    check_ids(tokenizer, "ab", 0, "10");      // "▁a" scores best, and with "b" it is "▁ab"
    check_ids(tokenizer, "bab", 0, "5 11 7"); // "ba" scores best
    check_ids(tokenizer, "", OCT_ENCODE_ADD_SPECIAL, "1");
    check_ids(tokenizer, "é", 0, "5 3 4"); // byte tokens
    check_ids(tokenizer, "è", 0, "5 0");   // one of its bytes has no token: unknown
    check_ids(tokenizer, "ou", 0, "5 12"); // the halves are no tokens, the whole is
    check_ids(tokenizer, "a</s>b", OCT_ENCODE_PARSE_SPECIAL, "9 2 5 7");
    oct_tokenizer_destroy(tokenizer);
}

// Feeds ids and gathers what comes out, '|' behind every call's bytes.
static void check_stream(const oct_tokenizer *tokenizer, unsigned flags, const int32_t *ids, size_t n,
                         const char *expected)
{
    char found[256] = "";
    oct_detokenizer *detokenizer;
    assert_int_equal(oct_detokenizer_create(&detokenizer, tokenizer, flags), OCT_OK);
    for (size_t i = 0; i <= n; i++) {
        size_t bytes;
        const char *text = i < n ? oct_detokenizer_feed(detokenizer, ids[i], &bytes)
                                 : oct_detokenizer_flush(detokenizer, &bytes);
        assert_true(strlen(found) + bytes + 2 < sizeof found);
        strncat(found, text, bytes);
        strcat(found, "|");
    }
    assert_string_equal(found, expected);
    oct_detokenizer_destroy(detokenizer);
}

static void test_stream(void **state)
{
    (void)state;
    oct_tokenizer *tokenizer = make_tokenizer(byte_level_vocabulary("gpt-2"));
    const int32_t e[] = {0, 4, 5, 1}, grin[] = {16, 17, 18, 14}; // a é b; F0 9F, 98, 80, " a"
    check_stream(tokenizer, 0, e, 4, "a||é|b||");
    check_stream(tokenizer, 0, grin, 4, "||😀| a||");
    check_stream(tokenizer, OCT_DETOKENIZE_RAW, e, 4, "a|\xC3|\xA9|b||");
    const int32_t broken[] = {4, 0, 5, 16, 17, 0, 16}; // C3 a A9 F0 9F 98 a F0 9F
    check_stream(tokenizer, 0, broken, 7,
                 "|\xEF\xBF\xBD"
                 "a|\xEF\xBF\xBD|||\xEF\xBF\xBD"
                 "a||\xEF\xBF\xBD|");
    const int32_t split[] = {9, 4, 13, 5, 99, -1}; // a control token between the halves; ids out of range
    check_stream(tokenizer, 0, split, 6, "|||é||||");
    check_stream(tokenizer, OCT_DETOKENIZE_SPECIAL, split, 6, "<s>||\xEF\xBF\xBD<|im_end|>|\xEF\xBF\xBD||||");
    oct_tokenizer_destroy(tokenizer);
}

static void test_stream_space(void **state)
{
    (void)state;
    oct_tokenizer *tokenizer = make_tokenizer(scored_vocabulary());
    const int32_t ids[] = {1, 9, 10, 3, 4};
    check_stream(tokenizer, OCT_DETOKENIZE_BEGIN, ids, 5, "|a| ab||é||");
    check_stream(tokenizer, 0, ids, 5, "| a| ab||é||");
    oct_tokenizer_destroy(tokenizer);
}

static void check_refused(oct_vocabulary *vocabulary, const char *says)
{
    oct_tokenizer *tokenizer = NULL;
    oct_failure_clear();
    assert_int_equal(oct_tokenizer_create(&tokenizer, vocabulary), OCT_ERR_FILE);
    assert_null(tokenizer);
    if (!strstr(oct_failure_text(), says))
        fail_msg("\"%s\" does not say \"%s\"", oct_failure_text(), says);
    oct_vocabulary_free(vocabulary);
}

static void test_errors(void **state)
{
    (void)state;
    oct_vocabulary v = byte_level_vocabulary("tekken");
    check_refused(&v, "known are smollm (starcoder, refact), llama-bpe (llama3, llama-v3), qwen2 and gpt-2");
    v = byte_level_vocabulary("");
    check_refused(&v, "\"\"; known are");
    v = make_vocabulary("bert", "", (entry[]){{"a", 0, N}}, 1);
    check_refused(&v, "\"bert\"; known are gpt2");
    v = byte_level_vocabulary("gpt-2");
    v.eos = v.tokens.count;
    check_refused(&v, "end-of-text token of the vocabulary is 19");
    v = byte_level_vocabulary("gpt-2");
    v.tokens.offsets[3] = 9999;
    check_refused(&v, "offsets of the vocabulary's tokens fall from 9999");
    v = byte_level_vocabulary("gpt-2");
    v.merges.offsets[0] = 1;
    check_refused(&v, "merges have no offsets that begin with 0");
    v = byte_level_vocabulary("gpt-2");
    v.types[4] = 0;
    check_refused(&v, "token 4 is of type 0");
    v = scored_vocabulary();
    v.scores[4] = NAN;
    check_refused(&v, "score of token 4");
    v = byte_level_vocabulary("gpt-2");
    v.tokens.count = 0;
    check_refused(&v, "no tokens");
    v = byte_level_vocabulary("gpt-2");
    v.merges.count = -1;
    check_refused(&v, "-1 merges");
}

// A vocabulary without types and scores (both may be NULL).
static void test_bare(void **state)
{
    (void)state;
    oct_vocabulary v = byte_level_vocabulary("gpt-2");
    free(v.types);
    free(v.scores);
    v.types = NULL;
    v.scores = NULL;
    oct_tokenizer *tokenizer = make_tokenizer(v);
    check_ids(tokenizer, "abc", OCT_ENCODE_PARSE_SPECIAL, "8");
    oct_tokenizer_destroy(tokenizer);
    oct_vocabulary_free(&(oct_vocabulary){0});
}

static void check_nfc(const char *text, const char *expected)
{
    char *normal = NULL;
    size_t bytes = 0;
    assert_int_equal(oct_utf8_nfc(text, strlen(text), &normal, &bytes), OCT_OK);
    assert_int_equal(bytes, strlen(expected));
    assert_memory_equal(normal ? normal : text, expected, bytes);
    free(normal);
}

static void test_nfc(void **state)
{
    (void)state;
    check_nfc("plain é", "plain é");
    check_nfc("e\xCC\x81", "é");
    check_nfc("\xE2\x84\xAB", "Å");                                    // Angstrom sign
    check_nfc("q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87");               // marks in order of class
    check_nfc("e\xCC\x81\xCC\x81", "é\xCC\x81");                       // the second is blocked
    check_nfc("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); // Hangul jamo
    check_nfc("\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81");             // syllable and tail
    check_nfc("\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC");             // excluded from composition
    check_nfc("\xE1\xBA\x9B\xCC\xA3", "\xE1\xBA\x9B\xCC\xA3");         // UAX #15, figure 6
    check_nfc("\xF0\x9D\x85\x9E", "\xF0\x9D\x85\x97\xF0\x9D\x85\xA5"); // musical symbol
    char long_marks[2 * 3001] = "a", sorted[2 * 3001] = "a";
    for (int i = 0; i < 1500; i++) {
        strcat(long_marks, "\xCC\xA3\xCC\x96"); // both of class 220: their order stays
        strcat(sorted, "\xCC\xA3\xCC\x96");
    }
    memcpy(sorted, "\xE1\xBA\xA1", 3); // a + dot below
    check_nfc(long_marks, sorted);
}

// A word of 1 MiB: with merging in quadratic time this would take hours, and the test's time limit ends it.
static void check_long(const oct_tokenizer *tokenizer, const char *unit, unsigned flags)
{
    size_t unit_bytes = strlen(unit), bytes = ((size_t)1 << 20) / unit_bytes * unit_bytes;
    char *text = malloc(bytes);
    assert_non_null(text);
    for (size_t at = 0; at < bytes; at += unit_bytes)
        memcpy(text + at, unit, unit_bytes);
    oct_token_list list = {0};
    assert_int_equal(oct_tokenizer_encode(tokenizer, text, bytes, flags, &list), OCT_OK);
    size_t total = 0, piece_bytes;
    for (size_t i = 0; i < list.count; i++) {
        (void)oct_tokenizer_piece(tokenizer, list.ids[i], &piece_bytes);
        total += piece_bytes;
    }
    assert_true(total >= bytes);
    oct_token_list_free(&list);
    free(text);
}

static void test_long_words(void **state)
{
    (void)state;
    oct_vocabulary v = fixture_vocabulary("gpt-2");
    oct_tokenizer *tokenizer = make_tokenizer(v);
    check_long(tokenizer, "ab", 0);
    check_long(tokenizer, "a", 0);
    check_long(tokenizer, " ", 0);
    check_long(tokenizer, "\xFF", 0);
    check_long(tokenizer, "<|endoftext|", OCT_ENCODE_PARSE_SPECIAL);
    oct_tokenizer_destroy(tokenizer);
    tokenizer = make_tokenizer(fixture_vocabulary("qwen2"));
    check_long(tokenizer, " \n", 0);
    check_long(tokenizer, " ", 0);
    check_long(tokenizer, "\xCC\xA3\xCC\x81", 0);
    oct_tokenizer_destroy(tokenizer);
    tokenizer = make_tokenizer(fixture_vocabulary("llama-spm"));
    check_long(tokenizer, "the quick", 0);
    check_long(tokenizer, "a", 0);
    oct_tokenizer_destroy(tokenizer);
}

// What the models' own end tokens are.
static void test_ends(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        int32_t ends[3];
    } cases[] = {{"smollm", {0, 2, -1}},
                 {"gpt-2", {50256, -1, -1}},
                 {"llama-bpe", {128001, 128009, -1}},
                 {"qwen2", {151643, 151645, -1}},
                 {"llama-spm", {2, -1, -1}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oct_tokenizer *tokenizer = make_tokenizer(fixture_vocabulary(cases[i].kind));
        for (int32_t id = 0, next = 0; id < oct_tokenizer_count(tokenizer); id++) {
            bool expected = id == cases[i].ends[next];
            assert_int_equal(oct_tokenizer_is_end(tokenizer, id), expected);
            next += expected;
        }
        oct_tokenizer_destroy(tokenizer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level),   cmocka_unit_test(test_specials),
        cmocka_unit_test(test_scored),       cmocka_unit_test(test_stream),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_bare),
        cmocka_unit_test(test_stream_space), cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_long_words),   cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
