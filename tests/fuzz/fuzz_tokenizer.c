// Fuzzes the tokenizer. The first byte chooses kind and flags; with its top bit set the rest is a text for
// a small fixed vocabulary, which must come back as it was; else the rest is cut into a vocabulary's tokens
// and merges, and a text. Nothing may crash, and no vocabulary may be taken that breaks the rules.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/chat_template.h"
#include "runtime/tokenizer.h"
#include "runtime/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TOKENS = 400 };
static char texts[1 << 16];
static uint64_t offsets[MAX_TOKENS + 1], merge_offsets[MAX_TOKENS + 1];
static int32_t types[MAX_TOKENS];
static float scores[MAX_TOKENS];

static const char *const pretokenizers[] = {"smollm", "llama-bpe", "qwen2", "gpt-2"};

static void add(oct_strings *tokens, const char *text, size_t bytes, int32_t type)
{
    memcpy(texts + offsets[tokens->count], text, bytes);
    offsets[tokens->count + 1] = offsets[tokens->count] + bytes;
    scores[tokens->count] = -(float)(tokens->count % 7);
    types[tokens->count++] = type;
}

// All bytes, a few merges and specials.
static void fill_fixed(oct_vocabulary *vocabulary, int byte_level)
{
    static const char hex[] = "0123456789ABCDEF";
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; byte++) {
        int printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        char text[8] = {'<', '0', 'x', hex[byte / 16], hex[byte % 16], '>'};
        size_t bytes = byte_level ? oct_utf8_encode(printable ? byte : next++, text) : 6;
        add(&vocabulary->tokens, text, bytes, byte_level ? OCT_TOKEN_NORMAL : OCT_TOKEN_BYTE);
    }
    static const char *const more[] = {"ab", "abc", "aa", "aaaa", "\xE2\x96\x81", "Ġa"};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        add(&vocabulary->tokens, more[i], strlen(more[i]), OCT_TOKEN_NORMAL);
    add(&vocabulary->tokens, "<s>", 3, OCT_TOKEN_CONTROL);
    add(&vocabulary->tokens, "<s>>", 4, OCT_TOKEN_USER_DEFINED);
    static char merges[] = "a bab ca aaa aa\xC4\xA0 a";
    static uint64_t fixed_offsets[] = {0, 3, 7, 10, 15, 19};
    vocabulary->merges = (oct_strings){.count = 5, .offsets = fixed_offsets, .bytes = merges};
}

// Tokens (and merges: the same strings) are cut from the input: a length byte, then so many bytes.
static size_t fill_wild(oct_vocabulary *vocabulary, const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size && data[at] != 0 && vocabulary->tokens.count < MAX_TOKENS) {
        size_t bytes = data[at] % 24;
        int32_t type = 1 + data[at] / 32 % 7; // 7 is no type: has to be refused
        if (bytes > size - at - 1)
            break;
        add(&vocabulary->tokens, (const char *)data + at + 1, bytes, type);
        at += 1 + bytes;
    }
    memcpy(merge_offsets, offsets, sizeof offsets);
    vocabulary->merges =
        (oct_strings){.count = vocabulary->tokens.count, .offsets = merge_offsets, .bytes = texts};
    vocabulary->unknown = data[0] % 8 - 1;
    return at;
}

static void check_back(const oct_tokenizer *tokenizer, const oct_token_list *list, const char *text,
                       size_t bytes)
{
    size_t at = 0, ready;
    oct_detokenizer *detokenizer;
    if (oct_detokenizer_create(&detokenizer, tokenizer, OCT_DETOKENIZE_RAW | OCT_DETOKENIZE_SPECIAL) !=
        OCT_OK)
        abort();
    for (size_t i = 0; i < list->count; i++) {
        const char *part = oct_detokenizer_feed(detokenizer, list->ids[i], &ready);
        if (ready > bytes - at || memcmp(part, text + at, ready) != 0)
            abort();
        at += ready;
    }
    if (at != bytes)
        abort();
    oct_detokenizer_destroy(detokenizer);
}

static void check_stream(const oct_tokenizer *tokenizer, const oct_token_list *list)
{
    oct_detokenizer *detokenizer;
    size_t ready;
    if (oct_detokenizer_create(&detokenizer, tokenizer, OCT_DETOKENIZE_BEGIN) != OCT_OK)
        abort();
    for (size_t i = 0; i <= list->count; i++) {
        const char *part = i < list->count ? oct_detokenizer_feed(detokenizer, list->ids[i], &ready)
                                           : oct_detokenizer_flush(detokenizer, &ready);
        if (oct_utf8_valid_prefix(part, ready) != ready)
            abort();
    }
    oct_detokenizer_destroy(detokenizer);
}

static void check_template(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size), *prompt = NULL;
    const oct_chat_message messages[] = {{"user", "a"}, {"assistant", " </think>\n"}, {"user", ""}};
    oct_chat_template chat = {0};
    if (oct_chat_template_recognise(&chat, text) == OCT_OK &&
        oct_chat_template_render(&chat, messages, 3, true, &prompt) != OCT_OK)
        abort();
    oct_chat_template_free(&chat);
    free(prompt);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    int choice = *data++, fixed = choice & 0x80, byte_level = choice & 0x40;
    size--;
    oct_vocabulary vocabulary = {.kind = byte_level ? "gpt2" : "llama",
                                 .pretokenizer = (char *)(uintptr_t)pretokenizers[choice & 3],
                                 .bos = -1,
                                 .eos = -1,
                                 .eot = -1,
                                 .unknown = -1,
                                 .padding = -1,
                                 .scores = scores,
                                 .types = types,
                                 .add_space_prefix = !fixed};
    vocabulary.tokens = (oct_strings){.offsets = offsets, .bytes = texts};
    if (fixed) {
        fill_fixed(&vocabulary, byte_level);
    } else {
        size_t used = fill_wild(&vocabulary, data, size);
        data += used;
        size -= used;
    }
    oct_failure_clear();
    oct_tokenizer *tokenizer = NULL;
    if (oct_tokenizer_create(&tokenizer, &vocabulary) == OCT_OK) {
        oct_token_list list = {0};
        unsigned flags = OCT_ENCODE_KEEP_BYTES | (choice & 4 ? OCT_ENCODE_PARSE_SPECIAL : 0u);
        if (!fixed && (choice & 8))
            flags &= ~(unsigned)OCT_ENCODE_KEEP_BYTES;
        if (oct_tokenizer_encode(tokenizer, (const char *)data, size, flags, &list) != OCT_OK)
            abort();
        // U+2581 comes back as the space that it stands for.
        if (fixed && (byte_level || !memmem(data, size, "\xE2\x96\x81", 3)))
            check_back(tokenizer, &list, (const char *)data, size);
        check_stream(tokenizer, &list);
        oct_token_list_free(&list);
        oct_tokenizer_destroy(tokenizer);
    } else if (fixed) {
        abort();
    }
    check_template(data, size);
    return 0;
}
