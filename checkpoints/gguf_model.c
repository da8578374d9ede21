// Metadata of the llama family: which keys mean what. Keys:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's llama-arch.cpp.
#include "checkpoints/gguf_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Families that Octet has a step program for. llama's files rotate neighbours, because their converter
// permutes q and k; the others keep the order of Hugging Face.
static const struct {
    const char *name;
    oct_rope_convention convention;
} families[] = {{"llama", OCT_ROPE_PAIRS}, {"qwen2", OCT_ROPE_HALVES}, {"qwen3", OCT_ROPE_HALVES}};
#define FAMILIES (sizeof families / sizeof families[0])

// The value of "<family>.<key>".
static const oct_gguf_value *family_value(const oct_gguf *gguf, const oct_model *model, const char *key)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", model->family, key);
    return oct_gguf_find(gguf, full);
}

// A number, the fallback where the key is missing (NAN: it must be there). A list of equal numbers counts
// too.
static oct_status read_number(const oct_gguf *gguf, const oct_model *model, const char *key, double fallback,
                              double *number)
{
    const oct_gguf_value *value = family_value(gguf, model, key);
    *number = fallback;
    if (!value && isnan(fallback))
        return oct_fail(OCT_ERR_FILE, "%s: the metadata has no %s.%s", gguf->path, model->family, key);
    if (!value || oct_gguf_number(value, number))
        return OCT_OK;
    double first, other;
    if (!oct_gguf_element(value, 0, &first))
        return oct_fail(OCT_ERR_FILE, "%s: %s.%s is not a number", gguf->path, model->family, key);
    for (uint64_t i = 1; i < value->count; i++)
        if (!oct_gguf_element(value, i, &other) || other != first)
            return oct_fail(OCT_ERR_FILE,
                            "%s: %s.%s differs from layer to layer, which Octet does not support", gguf->path,
                            model->family, key);
    *number = first;
    return OCT_OK;
}

static oct_status read_whole(const oct_gguf *gguf, const oct_model *model, const char *key, double fallback,
                             int32_t *whole)
{
    double number;
    oct_status status = read_number(gguf, model, key, fallback, &number);
    if (status)
        return status;
    if (!(number >= 0 && number <= INT32_MAX && number == floor(number)))
        return oct_fail(OCT_ERR_FILE, "%s: %s.%s is %g, expected a whole number", gguf->path, model->family,
                        key, number);
    *whole = (int32_t)number;
    return OCT_OK;
}

static oct_status read_family(const oct_gguf *gguf, oct_model *model)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, "general.architecture");
    if (!value || value->type != OCT_GGUF_STRING)
        return oct_fail(OCT_ERR_FILE, "%s: the metadata has no general.architecture", gguf->path);
    for (size_t i = 0; i < FAMILIES; i++)
        if (strcmp((const char *)value->bytes, families[i].name) == 0) {
            snprintf(model->family, sizeof model->family, "%s", families[i].name);
            model->rope_convention = families[i].convention;
            return OCT_OK;
        }
    return oct_fail(OCT_ERR_FILE, "%s: the architecture is \"%.40s\"; Octet knows llama, qwen2 and qwen3",
                    gguf->path, (const char *)value->bytes);
}

static void read_name(const oct_gguf *gguf, oct_model *model)
{
    const oct_gguf_value *value = oct_gguf_find(gguf, "general.name");
    const char *name = value && value->type == OCT_GGUF_STRING ? (const char *)value->bytes : "";
    size_t used = 0;
    for (; *name && used + 1 < sizeof model->name; name++) // for people, and for JSON: printable ASCII
        model->name[used++] = *name >= ' ' && *name < 127 ? *name : '?';
}

static oct_status read_sizes(const oct_gguf *gguf, oct_model *m)
{
    double head_dim, value_dim, experts;
    const oct_gguf_value *tokens = oct_gguf_find(gguf, "tokenizer.ggml.tokens");
    m->vocabulary = tokens && tokens->count <= INT32_MAX ? (int32_t)tokens->count : 0;
    oct_status status = read_whole(gguf, m, "block_count", NAN, &m->layers);
    if (!status)
        status = read_whole(gguf, m, "embedding_length", NAN, &m->hidden);
    if (!status)
        status = read_whole(gguf, m, "feed_forward_length", NAN, &m->ffn);
    if (!status)
        status = read_whole(gguf, m, "context_length", NAN, &m->context);
    if (!status)
        status = read_whole(gguf, m, "attention.head_count", NAN, &m->heads);
    if (!status)
        status = read_whole(gguf, m, "attention.head_count_kv", m->heads, &m->kv_heads);
    if (!status)
        status =
            read_number(gguf, m, "attention.key_length", m->heads > 0 ? m->hidden / m->heads : 0, &head_dim);
    if (!status)
        status = read_number(gguf, m, "attention.value_length", head_dim, &value_dim);
    if (!status)
        status = read_number(gguf, m, "expert_count", 0, &experts);
    if (status)
        return status;
    if (experts > 0)
        return oct_fail(OCT_ERR_FILE, "%s has %g experts; Octet does not support mixtures of experts yet",
                        gguf->path, experts);
    if (head_dim != value_dim || !(head_dim >= 1 && head_dim <= OCT_MAX_HEAD_DIM))
        return oct_fail(OCT_ERR_FILE,
                        "%s: heads have %g key and %g value dimensions; expected as many, up to %d",
                        gguf->path, head_dim, value_dim, OCT_MAX_HEAD_DIM);
    m->head_dim = (int32_t)head_dim;
    return OCT_OK;
}

// The linear factor of RoPE scaling; other kinds are refused rather than ignored.
static oct_status read_scaling(const oct_gguf *gguf, const oct_model *m, double *factor)
{
    const oct_gguf_value *type = family_value(gguf, m, "rope.scaling.type");
    const char *name = type && type->type == OCT_GGUF_STRING ? (const char *)type->bytes : "linear";
    *factor = 1;
    if (strcmp(name, "none") == 0)
        return OCT_OK;
    if (strcmp(name, "linear"))
        return oct_fail(OCT_ERR_FILE,
                        "%s: RoPE scaling is \"%.40s\"; Octet knows none, linear and Llama 3's table",
                        gguf->path, name);
    oct_status status = read_number(gguf, m, "rope.scale_linear", 1, factor);
    if (!status)
        status = read_number(gguf, m, "rope.scaling.factor", *factor, factor);
    if (*factor == 0) // converters write 0 for "no scaling"
        *factor = 1;
    return status;
}

// Llama 3's scaling comes as a table of divisors of the frequencies.
static oct_status read_divisors(const oct_gguf *gguf, oct_model *m)
{
    double factor;
    oct_status status = read_scaling(gguf, m, &factor);
    if (status)
        return status;
    for (int i = 0; i < OCT_MAX_HEAD_DIM / 2; i++)
        m->rope_divisors[i] = i < m->rope_dims / 2 ? (float)factor : 0;
    const oct_gguf_tensor *table = oct_gguf_find_tensor(gguf, "rope_freqs.weight");
    if (!table)
        return OCT_OK;
    if (table->type != 0 || table->shape[0] != m->rope_dims / 2 || table->bytes != (uint64_t)m->rope_dims * 2)
        return oct_fail(OCT_ERR_FILE, "%s: rope_freqs.weight is no F32 list of %d numbers", gguf->path,
                        m->rope_dims / 2);
    uint8_t bytes[OCT_MAX_HEAD_DIM * 2];
    status = oct_gguf_read(gguf, table, 0, bytes, table->bytes);
    for (int i = 0; i < m->rope_dims / 2 && !status; i++) {
        float divisor;
        memcpy(&divisor, bytes + i * 4, sizeof divisor);
        m->rope_divisors[i] *= divisor;
    }
    return status;
}

static oct_status read_rope(const oct_gguf *gguf, oct_model *m)
{
    double number;
    oct_status status = read_number(gguf, m, "attention.layer_norm_rms_epsilon", NAN, &number);
    m->norm_epsilon = (float)number;
    if (!status)
        status = read_number(gguf, m, "rope.freq_base", 10000, &number);
    m->rope_theta = (float)number;
    if (!status)
        status = read_whole(gguf, m, "rope.dimension_count", m->head_dim, &m->rope_dims);
    if (!status && (m->rope_dims < 2 || m->rope_dims % 2 || m->rope_dims > m->head_dim))
        status = oct_fail(OCT_ERR_FILE, "%s: %s.rope.dimension_count is %d, expected an even number up to %d",
                          gguf->path, m->family, m->rope_dims, m->head_dim);
    return status ? status : read_divisors(gguf, m);
}

oct_status oct_gguf_read_model(const oct_gguf *gguf, oct_model *model)
{
    memset(model, 0, sizeof *model);
    oct_status status = read_family(gguf, model);
    if (!status)
        status = read_sizes(gguf, model);
    if (!status)
        status = read_rope(gguf, model);
    if (status)
        return status;
    read_name(gguf, model);
    if (model->vocabulary == 0)
        return oct_fail(OCT_ERR_FILE, "%s: the metadata has no tokenizer.ggml.tokens", gguf->path);
    model->tied = !oct_gguf_find_tensor(gguf, "output.weight");
    model->qkv_bias = oct_gguf_find_tensor(gguf, "blk.0.attn_q.bias") != NULL;
    model->qk_norm = oct_gguf_find_tensor(gguf, "blk.0.attn_q_norm.weight") != NULL;
    return oct_model_check(model);
}
