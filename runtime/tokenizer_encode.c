// Text to tokens: special tokens first, then the stretches between them by the vocabulary's kind.
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"
#include "runtime/utf8.h"
#include "runtime/utf8_nfc.h"

oct_status oct_token_list_append(oct_token_list *list, const int32_t *ids, size_t n)
{
    if (n > list->capacity - list->count) {
        size_t capacity = list->capacity ? list->capacity : 64;
        while (capacity < list->count + n)
            capacity *= 2;
        int32_t *grown = realloc(list->ids, capacity * sizeof *grown);
        if (!grown)
            return oct_fail(OCT_ERR_MACHINE, "no memory for %zu tokens", capacity);
        list->ids = grown;
        list->capacity = capacity;
    }
    if (n > 0)
        memcpy(list->ids + list->count, ids, n * sizeof *ids);
    list->count += n;
    return OCT_OK;
}

void oct_token_list_free(oct_token_list *list)
{
    free(list->ids);
    *list = (oct_token_list){0};
}

typedef struct encoding {
    const oct_tokenizer *tokenizer;
    unsigned flags;
    oct_token_list *list;
    oct_bpe bpe;
    const char *text; // SentencePiece-style: what the symbols lie in
} encoding;

static bool merge_by_rank(const void *context, const oct_bpe_symbol *left, const oct_bpe_symbol *right,
                          int32_t *merged, uint32_t *priority)
{
    const encoding *work = context;
    const oct_pair_slot *slot = oct_pair_table_find(&work->tokenizer->pairs, left->id, right->id);
    if (!slot)
        return false;
    *merged = slot->merged;
    *priority = slot->rank;
    return true;
}

// SentencePiece looks at the text of the pair, not at how its halves came to be.
static bool merge_by_score(const void *context, const oct_bpe_symbol *left, const oct_bpe_symbol *right,
                           int32_t *merged, uint32_t *priority)
{
    const encoding *work = context;
    const oct_tokenizer *tokenizer = work->tokenizer;
    *merged = oct_text_table_find(&tokenizer->texts, work->text + left->start,
                                  (size_t)left->length + right->length);
    if (*merged < 0)
        return false;
    *priority = tokenizer->priorities[*merged];
    return true;
}

// A word of a byte-level text: one symbol for each byte that has a token.
static oct_status encode_word(void *context, const char *word, size_t bytes)
{
    encoding *work = context;
    const oct_tokenizer *tokenizer = work->tokenizer;
    if (tokenizer->whole_words) {
        int32_t id = oct_text_table_find(&tokenizer->texts, word, bytes);
        if (id >= 0)
            return oct_token_list_append(work->list, &id, 1);
    }
    oct_status status = oct_bpe_reserve(&work->bpe, bytes);
    if (status != OCT_OK)
        return status;
    oct_bpe_symbol *symbols = work->bpe.symbols;
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = tokenizer->byte_ids[(unsigned char)word[i]];
        if (id >= 0)
            symbols[n++] = (oct_bpe_symbol){.id = id, .start = (uint32_t)i, .length = 1};
    }
    oct_bpe_merge(&work->bpe, n, merge_by_rank, work);
    for (size_t i = 0; i < n && status == OCT_OK; i++)
        if (symbols[i].length > 0)
            status = oct_token_list_append(work->list, &symbols[i].id, 1);
    return status;
}

// A stretch of text, byte-level: valid runs are cut by the pre-tokenizer, invalid bytes between them are
// words of their own.
static oct_status encode_byte_level(encoding *work, const char *text, size_t bytes)
{
    oct_status status = OCT_OK;
    while (bytes > 0 && status == OCT_OK) {
        size_t run = oct_utf8_valid_prefix(text, bytes);
        if (run > 0) {
            char *normal = NULL;
            size_t normal_bytes = run;
            if (work->tokenizer->normalises && !(work->flags & OCT_ENCODE_KEEP_BYTES))
                status = oct_utf8_nfc(text, run, &normal, &normal_bytes);
            if (status == OCT_OK)
                status = oct_pretokenizer_cut(work->tokenizer->pretokenizer, normal ? normal : text,
                                              normal_bytes, encode_word, work);
            free(normal);
        } else {
            size_t length;
            while (run < bytes && oct_utf8_step(text + run, bytes - run, &length) != OCT_UTF8_VALID)
                run += length;
            status = encode_word(work, text, run);
        }
        text += run;
        bytes -= run;
    }
    return status;
}

// A character that is no token: its bytes' tokens, or the unknown token, or nothing.
static oct_status append_fallback(encoding *work, const oct_bpe_symbol *symbol)
{
    const oct_tokenizer *tokenizer = work->tokenizer;
    int32_t ids[4];
    bool whole = true;
    for (uint32_t i = 0; i < symbol->length; i++) {
        ids[i] = tokenizer->byte_ids[(unsigned char)work->text[symbol->start + i]];
        whole = whole && ids[i] >= 0;
    }
    if (whole)
        return oct_token_list_append(work->list, ids, symbol->length);
    return oct_token_list_append(work->list, &tokenizer->unknown, tokenizer->unknown >= 0 ? 1 : 0);
}

// A stretch of text, SentencePiece-style: one symbol for each character; merges may cross spaces, so the
// whole stretch is one word.
static oct_status encode_scored(encoding *work, const char *text, size_t bytes)
{
    char *copy = malloc(bytes + 1);
    if (!copy)
        return oct_fail(OCT_ERR_MACHINE, "no memory to tokenize %zu bytes", bytes);
    size_t n = 0, length;
    if (work->tokenizer->add_space_prefix)
        copy[n++] = ' ';
    for (size_t at = 0; at < bytes; at += length) {
        if (bytes - at >= 3 && memcmp(text + at, "\xE2\x96\x81", 3) == 0) {
            length = 3;
            copy[n++] = ' ';
        } else {
            length = 1;
            copy[n++] = text[at];
        }
    }
    work->text = copy;
    oct_status status = oct_bpe_reserve(&work->bpe, n);
    oct_bpe_symbol *symbols = work->bpe.symbols;
    size_t count = 0;
    for (size_t at = 0; at < n && status == OCT_OK; at += length) {
        if (oct_utf8_step(copy + at, n - at, &length) != OCT_UTF8_VALID)
            length = 1;
        symbols[count++] =
            (oct_bpe_symbol){.id = oct_text_table_find(&work->tokenizer->texts, copy + at, length),
                             .start = (uint32_t)at,
                             .length = (uint32_t)length};
    }
    if (status == OCT_OK)
        oct_bpe_merge(&work->bpe, count, merge_by_score, work);
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        if (symbols[i].length > 0 && symbols[i].id >= 0)
            status = oct_token_list_append(work->list, &symbols[i].id, 1);
        else if (symbols[i].length > 0)
            status = append_fallback(work, &symbols[i]);
    }
    free(copy);
    return status;
}

static oct_status encode_stretch(encoding *work, const char *text, size_t bytes)
{
    if (bytes == 0)
        return OCT_OK;
    if (work->tokenizer->byte_level)
        return encode_byte_level(work, text, bytes);
    return encode_scored(work, text, bytes);
}

// The first of the sorted specials in [low, high) whose byte `depth` is at least `byte`; all of them agree
// up to there. Pieces that end before it come first.
static int32_t lower_bound(const oct_tokenizer *tokenizer, int32_t low, int32_t high, size_t depth, int byte)
{
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        size_t bytes;
        const char *piece = oct_tokenizer_piece(tokenizer, tokenizer->specials[middle], &bytes);
        int found = depth < bytes ? (unsigned char)piece[depth] : -1;
        if (found < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// The longest special token that `text` begins with, or -1: narrows the sorted list byte by byte.
static int32_t match_special(const encoding *work, const char *text, size_t bytes, size_t *length)
{
    const oct_tokenizer *tokenizer = work->tokenizer;
    int32_t low = 0, high = tokenizer->n_specials, best = -1;
    for (size_t depth = 0; depth < bytes && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(tokenizer, low, high, depth, byte);
        high = lower_bound(tokenizer, low, high, depth, byte + 1);
        for (int32_t i = low; i < high; i++) {
            size_t whole;
            int32_t id = tokenizer->specials[i];
            (void)oct_tokenizer_piece(tokenizer, id, &whole);
            if (whole != depth + 1)
                break;
            if ((work->flags & OCT_ENCODE_PARSE_SPECIAL) || tokenizer->types[id] == OCT_TOKEN_USER_DEFINED) {
                best = id;
                *length = whole;
                break;
            }
        }
    }
    return best;
}

static oct_status encode_text(encoding *work, const char *text, size_t bytes)
{
    size_t begin = 0, length = 1;
    for (size_t at = 0; at < bytes; at += length) {
        length = 1;
        if (!work->tokenizer->special_begins[(unsigned char)text[at]])
            continue;
        int32_t id = match_special(work, text + at, bytes - at, &length);
        if (id < 0)
            continue;
        oct_status status = encode_stretch(work, text + begin, at - begin);
        if (status == OCT_OK)
            status = oct_token_list_append(work->list, &id, 1);
        if (status != OCT_OK)
            return status;
        begin = at + length;
    }
    return encode_stretch(work, text + begin, bytes - begin);
}

oct_status oct_tokenizer_encode(const oct_tokenizer *tokenizer, const char *text, size_t text_bytes,
                                unsigned flags, oct_token_list *list)
{
    if (text_bytes >= INT32_MAX)
        return oct_fail(OCT_ERR_USAGE, "a text of %zu bytes is too long to tokenize; at most %d are possible",
                        text_bytes, INT32_MAX - 1);
    size_t before = list->count;
    encoding work = {.tokenizer = tokenizer, .flags = flags, .list = list};
    bool bos = (flags & OCT_ENCODE_ADD_BOS) || ((flags & OCT_ENCODE_ADD_SPECIAL) && tokenizer->add_bos);
    bool eos = (flags & OCT_ENCODE_ADD_SPECIAL) && tokenizer->add_eos;
    oct_status status = oct_token_list_append(list, &tokenizer->bos, bos && tokenizer->bos >= 0);
    if (status == OCT_OK)
        status = encode_text(&work, text, text_bytes);
    if (status == OCT_OK)
        status = oct_token_list_append(list, &tokenizer->eos, eos && tokenizer->eos >= 0);
    oct_bpe_free(&work.bpe);
    if (status != OCT_OK)
        list->count = before;
    return status;
}
