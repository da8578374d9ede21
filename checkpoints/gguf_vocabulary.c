// Metadata of the tokenizer: keys "tokenizer.…" and their defaults, which are llama.cpp's (llama-vocab.cpp).
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf_model.h"
#include "runtime/tokenizer.h"

static oct_status wrong(const oct_gguf *gguf, const char *key, const char *expected)
{
    return oct_fail(OCT_ERR_FILE, "%s: %s is not %s", gguf->path, key, expected);
}

// A copy of a string value, of `fallback` where the key is missing.
static oct_status copy_text(const oct_gguf *gguf, const char *key, const char *fallback, char **text)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, key);
    if (value && (value->type != OCT_GGUF_STRING || strlen((const char *)value->bytes) != value->count))
        return wrong(gguf, key, "a text");
    *text = strdup(value ? (const char *)value->bytes : fallback);
    return *text ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for the vocabulary");
}

static oct_status copy_strings(const oct_gguf *gguf, const char *key, bool needed, oct_strings *out)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, key);
    if (!value && !needed)
        return OCT_OK;
    if (!value || value->type != OCT_GGUF_ARRAY || value->element != OCT_GGUF_STRING)
        return wrong(gguf, key, "a list of texts");
    const oct_strings *in = &value->strings;
    if (in->count == 0)
        return OCT_OK;
    uint64_t bytes = in->offsets[in->count];
    out->offsets = malloc(((size_t)in->count + 1) * sizeof *out->offsets);
    out->bytes = malloc(bytes ? bytes : 1);
    if (!out->offsets || !out->bytes)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the vocabulary");
    memcpy(out->offsets, in->offsets, ((size_t)in->count + 1) * sizeof *out->offsets);
    if (bytes)
        memcpy(out->bytes, in->bytes, bytes);
    out->count = in->count;
    return OCT_OK;
}

// The list of `count` numbers of a key; `whole` where they must be integers.
static const oct_gguf_value *number_list(const oct_gguf *gguf, const char *key, bool whole, int32_t count,
                                         oct_status *status)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, key);
    if (!value)
        return NULL;
    double first;
    bool floating = value->element == OCT_GGUF_F32 || value->element == OCT_GGUF_F64;
    if (value->count == (uint64_t)count && oct_gguf_element(value, 0, &first) && floating != whole)
        return value;
    *status = oct_fail(OCT_ERR_FILE, "%s: %s is not a list of %d %s", gguf->path, key, count,
                       whole ? "whole numbers" : "numbers");
    return NULL;
}

static oct_status copy_lists(const oct_gguf *gguf, oct_vocabulary *v)
{
    oct_status status = OCT_OK;
    size_t count = (size_t)v->tokens.count;
    const oct_gguf_value *scores =
        number_list(gguf, "tokenizer.ggml.scores", false, v->tokens.count, &status);
    const oct_gguf_value *types =
        number_list(gguf, "tokenizer.ggml.token_type", true, v->tokens.count, &status);
    if (status)
        return status;
    v->scores = scores ? malloc(count * sizeof *v->scores) : NULL;
    v->types = types ? malloc(count * sizeof *v->types) : NULL;
    if ((scores && !v->scores) || (types && !v->types))
        return oct_fail(OCT_ERR_MACHINE, "no memory for the vocabulary");
    for (size_t i = 0; i < count; i++) {
        double number;
        if (scores && oct_gguf_element(scores, i, &number))
            v->scores[i] = (float)number;
        if (types && oct_gguf_element(types, i, &number))
            v->types[i] = number >= 0 && number <= 100 ? (int32_t)number : -1;
    }
    return OCT_OK;
}

static oct_status read_id(const oct_gguf *gguf, const char *key, int32_t fallback, int32_t *id)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, key);
    double number = fallback;
    if (value && !oct_gguf_number(value, &number))
        return wrong(gguf, key, "a number");
    if (!(number >= -1 && number <= INT32_MAX && number == floor(number)))
        number = value && number == (double)UINT32_MAX ? -1 : INT32_MAX; // 2^32 − 1: none; else refused below
    *id = (int32_t)number;
    return OCT_OK;
}

static oct_status read_flag(const oct_gguf *gguf, const char *key, bool fallback, bool *flag)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, key);
    double number = fallback;
    if (value && !oct_gguf_number(value, &number))
        return wrong(gguf, key, "true or false");
    *flag = number != 0;
    return OCT_OK;
}

// The end-of-turn token of files that do not name it, by its text.
static int32_t find_end_of_turn(const oct_vocabulary *v)
{
    static const char *const texts[] = {"<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"};
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++)
        for (int32_t i = 0; i < v->tokens.count; i++) {
            uint64_t length = v->tokens.offsets[i + 1] - v->tokens.offsets[i];
            if (length == strlen(texts[t]) &&
                memcmp(v->tokens.bytes + v->tokens.offsets[i], texts[t], length) == 0)
                return i;
        }
    return -1;
}

static oct_status read_specials(const oct_gguf *gguf, oct_vocabulary *v)
{
    bool spm = strcmp(v->kind, "llama") == 0;
    oct_status status = read_id(gguf, "tokenizer.ggml.bos_token_id", spm ? 1 : -1, &v->bos);
    if (!status)
        status = read_id(gguf, "tokenizer.ggml.eos_token_id", spm ? 2 : -1, &v->eos);
    if (!status)
        status = read_id(gguf, "tokenizer.ggml.eot_token_id", -1, &v->eot);
    if (!status)
        status = read_id(gguf, "tokenizer.ggml.unknown_token_id", spm ? 0 : -1, &v->unknown);
    if (!status)
        status = read_id(gguf, "tokenizer.ggml.padding_token_id", -1, &v->padding);
    if (!status && v->eot < 0)
        v->eot = find_end_of_turn(v);
    bool bos = spm || strcmp(v->pretokenizer, "llama-bpe") == 0;
    if (!status)
        status = read_flag(gguf, "tokenizer.ggml.add_bos_token", bos, &v->add_bos);
    if (!status)
        status = read_flag(gguf, "tokenizer.ggml.add_eos_token", false, &v->add_eos);
    if (!status)
        status = read_flag(gguf, "tokenizer.ggml.add_space_prefix", spm, &v->add_space_prefix);
    return status;
}

// A vocabulary that no tokenizer can be made of is said now, not after gigabytes have been written.
static oct_status check_usable(const oct_vocabulary *v)
{
    oct_tokenizer *tokenizer = NULL;
    const oct_status status = oct_vocabulary_check(v);
    if (status)
        return status;
    if (oct_tokenizer_create(&tokenizer, v)) {
        oct_warn("the checkpoint can be written and inspected, but not run: %s", oct_failure_text());
        oct_failure_clear();
    }
    oct_tokenizer_destroy(tokenizer);
    return OCT_OK;
}

static oct_status read_vocabulary(const oct_gguf *gguf, oct_vocabulary *v)
{
    oct_status status = copy_text(gguf, "tokenizer.ggml.model", "", &v->kind);
    if (!status && strcmp(v->kind, "gpt2") && strcmp(v->kind, "llama"))
        return oct_fail(OCT_ERR_FILE, "%s: the tokenizer is \"%.40s\"; Octet knows gpt2 and llama",
                        gguf->path, v->kind);
    if (!status)
        status =
            copy_text(gguf, "tokenizer.ggml.pre", strcmp(v->kind, "gpt2") ? "" : "default", &v->pretokenizer);
    if (!status)
        status = copy_text(gguf, "tokenizer.chat_template", "", &v->chat_template);
    if (!status)
        status = copy_strings(gguf, "tokenizer.ggml.tokens", true, &v->tokens);
    if (!status)
        status = copy_strings(gguf, "tokenizer.ggml.merges", strcmp(v->kind, "gpt2") == 0, &v->merges);
    if (!status)
        status = copy_lists(gguf, v);
    if (!status)
        status = read_specials(gguf, v);
    return status ? status : check_usable(v);
}

oct_status oct_gguf_read_vocabulary(const oct_gguf *gguf, oct_vocabulary *vocabulary)
{
    *vocabulary = (oct_vocabulary){0};
    oct_status status = read_vocabulary(gguf, vocabulary);
    if (status)
        oct_vocabulary_free(vocabulary);
    return status;
}
