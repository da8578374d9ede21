// Builds a tokenizer from a vocabulary, and answers questions about single tokens.
#include "runtime/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"

static const char *const end_names[] = {"<|im_end|>",    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
                                        "<|endoftext|>", "</s>",       "<|end|>",    "<end_of_turn>",
                                        "<|return|>",    "<eos>"};

const char *oct_tokenizer_piece(const oct_tokenizer *tokenizer, int32_t id, size_t *bytes)
{
    *bytes = 0;
    if (id < 0 || id >= tokenizer->count)
        return NULL;
    *bytes = tokenizer->offsets[id + 1] - tokenizer->offsets[id];
    return tokenizer->pieces + tokenizer->offsets[id];
}

int32_t oct_tokenizer_count(const oct_tokenizer *tokenizer)
{
    return tokenizer->count;
}

bool oct_tokenizer_is_control(const oct_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->count &&
           (tokenizer->types[id] == OCT_TOKEN_CONTROL || tokenizer->types[id] == OCT_TOKEN_UNKNOWN);
}

bool oct_tokenizer_is_end(const oct_tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->count && tokenizer->ends[id];
}

static oct_status fill_types(oct_tokenizer *tokenizer, const oct_vocabulary *vocabulary)
{
    tokenizer->types = malloc((size_t)tokenizer->count);
    tokenizer->ends = calloc((size_t)tokenizer->count, sizeof *tokenizer->ends);
    if (!tokenizer->types || !tokenizer->ends)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a vocabulary of %d tokens", tokenizer->count);
    for (int32_t id = 0; id < tokenizer->count; id++)
        tokenizer->types[id] = (unsigned char)(vocabulary->types ? vocabulary->types[id] : OCT_TOKEN_NORMAL);
    return OCT_OK;
}

static void fill_byte_ids(oct_tokenizer *tokenizer)
{
    for (int byte = 0; byte < 256; byte++)
        tokenizer->byte_ids[byte] = -1;
    int wanted = tokenizer->byte_level ? OCT_TOKEN_NORMAL : OCT_TOKEN_BYTE;
    for (int32_t id = tokenizer->count; id-- > 0;) {
        size_t bytes;
        const char *piece = oct_tokenizer_piece(tokenizer, id, &bytes);
        if (bytes == 1 && tokenizer->types[id] == wanted)
            tokenizer->byte_ids[(unsigned char)piece[0]] = id;
    }
}

static oct_status fill_texts(oct_tokenizer *tokenizer)
{
    oct_status status = oct_text_table_create(&tokenizer->texts, (size_t)tokenizer->count, tokenizer->pieces,
                                              tokenizer->offsets);
    if (status != OCT_OK)
        return status;
    for (int32_t id = 0; id < tokenizer->count; id++)
        if (tokenizer->types[id] == OCT_TOKEN_NORMAL || tokenizer->types[id] == OCT_TOKEN_USER_DEFINED)
            oct_text_table_add(&tokenizer->texts, id);
    return OCT_OK;
}

// One merge "left right" of the vocabulary. Those whose tokens are not there are left out.
static bool add_merge(oct_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t rank, char *scratch)
{
    const char *space = bytes > 1 ? memchr(text + 1, ' ', bytes - 1) : NULL;
    if (!space)
        return false;
    size_t left_bytes = oct_byte_alphabet_decode(text, (size_t)(space - text), scratch);
    if (left_bytes == SIZE_MAX)
        return false;
    size_t right_bytes =
        oct_byte_alphabet_decode(space + 1, bytes - (size_t)(space + 1 - text), scratch + left_bytes);
    if (right_bytes == SIZE_MAX)
        return false;
    int32_t left = oct_text_table_find(&tokenizer->texts, scratch, left_bytes);
    int32_t right = oct_text_table_find(&tokenizer->texts, scratch + left_bytes, right_bytes);
    int32_t merged = oct_text_table_find(&tokenizer->texts, scratch, left_bytes + right_bytes);
    if (left < 0 || right < 0 || merged < 0)
        return false;
    oct_pair_table_add(&tokenizer->pairs, left, right, rank, merged);
    return true;
}

static oct_status fill_merges(oct_tokenizer *tokenizer, const oct_strings *merges)
{
    oct_status status = oct_pair_table_create(&tokenizer->pairs, (size_t)merges->count);
    if (status != OCT_OK)
        return status;
    size_t longest = 0;
    for (int32_t i = 0; i < merges->count; i++)
        if (merges->offsets[i + 1] - merges->offsets[i] > longest)
            longest = merges->offsets[i + 1] - merges->offsets[i];
    char *scratch = malloc(longest + 1);
    if (!scratch)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a merge of %zu bytes", longest);
    int32_t dropped = 0;
    for (int32_t i = 0; i < merges->count; i++)
        dropped += !add_merge(tokenizer, merges->bytes + merges->offsets[i],
                              merges->offsets[i + 1] - merges->offsets[i], (uint32_t)i, scratch);
    free(scratch);
    if (dropped > 0)
        oct_note("%d of %d merges name tokens that the vocabulary does not have; left out", dropped,
                 merges->count);
    return OCT_OK;
}

// Scores become integers that order the same, highest first: the bits of a float order like a signed
// magnitude. -0 counts as 0.
static oct_status fill_priorities(oct_tokenizer *tokenizer, const float *scores)
{
    tokenizer->priorities = malloc((size_t)tokenizer->count * sizeof *tokenizer->priorities);
    if (!tokenizer->priorities)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the scores of %d tokens", tokenizer->count);
    for (int32_t id = 0; id < tokenizer->count; id++) {
        float score = scores ? scores[id] + 0.0F : 0.0F;
        uint32_t bits;
        memcpy(&bits, &score, sizeof bits);
        uint32_t ascending = bits & 0x80000000U ? ~bits : bits | 0x80000000U;
        tokenizer->priorities[id] = ~ascending;
    }
    return OCT_OK;
}

static int compare_pieces(const oct_tokenizer *tokenizer, int32_t a, int32_t b)
{
    size_t a_bytes, b_bytes;
    const char *a_piece = oct_tokenizer_piece(tokenizer, a, &a_bytes);
    const char *b_piece = oct_tokenizer_piece(tokenizer, b, &b_bytes);
    int order = memcmp(a_piece, b_piece, a_bytes < b_bytes ? a_bytes : b_bytes);
    if (order != 0)
        return order;
    if (a_bytes != b_bytes)
        return a_bytes < b_bytes ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int compare_specials(const void *a, const void *b, void *tokenizer)
{
    return compare_pieces(tokenizer, *(const int32_t *)a, *(const int32_t *)b);
}

static oct_status fill_specials(oct_tokenizer *tokenizer)
{
    tokenizer->specials = malloc((size_t)tokenizer->count * sizeof *tokenizer->specials);
    if (!tokenizer->specials)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the special tokens");
    for (int32_t id = 0; id < tokenizer->count; id++) {
        size_t bytes;
        const char *piece = oct_tokenizer_piece(tokenizer, id, &bytes);
        bool special = oct_tokenizer_is_control(tokenizer, id);
        if (bytes == 0 || (!special && tokenizer->types[id] != OCT_TOKEN_USER_DEFINED))
            continue;
        tokenizer->specials[tokenizer->n_specials++] = id;
        tokenizer->special_begins[(unsigned char)piece[0]] = true;
        for (size_t i = 0; special && i < sizeof end_names / sizeof end_names[0]; i++)
            if (bytes == strlen(end_names[i]) && memcmp(piece, end_names[i], bytes) == 0)
                tokenizer->ends[id] = true;
    }
    qsort_r(tokenizer->specials, (size_t)tokenizer->n_specials, sizeof *tokenizer->specials, compare_specials,
            tokenizer);
    return OCT_OK;
}

static oct_status fill(oct_tokenizer *tokenizer, const oct_vocabulary *vocabulary)
{
    oct_status status = fill_types(tokenizer, vocabulary);
    if (status == OCT_OK)
        status = oct_tokenizer_build_pieces(tokenizer, vocabulary);
    if (status == OCT_OK)
        status = fill_texts(tokenizer);
    if (status == OCT_OK)
        status = fill_specials(tokenizer);
    if (status != OCT_OK)
        return status;
    fill_byte_ids(tokenizer);
    if (tokenizer->eos >= 0)
        tokenizer->ends[tokenizer->eos] = true;
    if (tokenizer->eot >= 0)
        tokenizer->ends[tokenizer->eot] = true;
    if (!tokenizer->byte_level)
        return fill_priorities(tokenizer, vocabulary->scores);
    const char *name = vocabulary->pretokenizer ? vocabulary->pretokenizer : "";
    status = oct_pretokenizer_create(&tokenizer->pretokenizer, name);
    if (status != OCT_OK)
        return status;
    tokenizer->normalises = oct_pretokenizer_normalises(tokenizer->pretokenizer);
    tokenizer->whole_words = oct_pretokenizer_prefers_whole_words(tokenizer->pretokenizer);
    return fill_merges(tokenizer, &vocabulary->merges);
}

oct_status oct_tokenizer_create(oct_tokenizer **tokenizer, const oct_vocabulary *vocabulary)
{
    oct_status status = oct_vocabulary_check(vocabulary);
    if (status != OCT_OK)
        return status;
    bool byte_level = strcmp(vocabulary->kind, "gpt2") == 0;
    if (!byte_level && strcmp(vocabulary->kind, "llama") != 0)
        return oct_fail(OCT_ERR_FILE,
                        "the vocabulary is of kind \"%s\"; known are gpt2 (byte-level BPE) and llama "
                        "(SentencePiece-style BPE)",
                        vocabulary->kind);
    oct_tokenizer *made = calloc(1, sizeof *made);
    if (!made)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a tokenizer");
    made->byte_level = byte_level;
    made->add_bos = vocabulary->add_bos;
    made->add_eos = vocabulary->add_eos;
    made->add_space_prefix = !byte_level && vocabulary->add_space_prefix;
    made->count = vocabulary->tokens.count;
    made->bos = vocabulary->bos;
    made->eos = vocabulary->eos;
    made->eot = vocabulary->eot;
    made->unknown = vocabulary->unknown;
    status = fill(made, vocabulary);
    if (status != OCT_OK) {
        oct_tokenizer_destroy(made);
        return status;
    }
    *tokenizer = made;
    return OCT_OK;
}

void oct_tokenizer_destroy(oct_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    oct_pretokenizer_destroy(tokenizer->pretokenizer);
    oct_text_table_free(&tokenizer->texts);
    oct_pair_table_free(&tokenizer->pairs);
    free(tokenizer->types);
    free(tokenizer->ends);
    free(tokenizer->offsets);
    free(tokenizer->pieces);
    free(tokenizer->priorities);
    free(tokenizer->specials);
    free(tokenizer);
}
