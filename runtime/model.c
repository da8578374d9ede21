// The description of a model: its checks, its JSON form, its partitions and the list of its tensors.
#include "runtime/model.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct int_field {
    const char *name;
    size_t offset;
    int32_t minimum, maximum;
} int_field;

// Limits far above any known model: they keep products of two of them inside 64 bits and a damaged file from
// asking for absurd sizes.
static const int_field int_fields[] = {
    {"layers", offsetof(oct_model, layers), 1, 4096},
    {"hidden", offsetof(oct_model, hidden), 32, 1 << 20},
    {"heads", offsetof(oct_model, heads), 1, 1 << 14},
    {"kv_heads", offsetof(oct_model, kv_heads), 1, 1 << 14},
    {"head_dim", offsetof(oct_model, head_dim), 32, OCT_MAX_HEAD_DIM},
    {"ffn", offsetof(oct_model, ffn), 1, 1 << 22},
    {"vocabulary", offsetof(oct_model, vocabulary), 1, 1 << 24},
    {"context", offsetof(oct_model, context), 1, 1 << 30},
    {"rope_dims", offsetof(oct_model, rope_dims), 2, OCT_MAX_HEAD_DIM},
};
#define INT_FIELDS (sizeof int_fields / sizeof int_fields[0])

static int32_t *int_of(const oct_model *model, const int_field *field)
{
    return (int32_t *)((char *)model + field->offset);
}

static oct_status check_shape(const oct_model *m)
{
    for (size_t i = 0; i < INT_FIELDS; i++) {
        const int_field *field = &int_fields[i];
        int32_t value = *int_of(m, field);
        if (value < field->minimum || value > field->maximum)
            return oct_fail(OCT_ERR_FILE, "model: %s is %d, expected %d to %d", field->name, value,
                            field->minimum, field->maximum);
    }
    if (m->hidden % 32)
        return oct_fail(OCT_ERR_FILE, "model: hidden is %d, expected a multiple of 32", m->hidden);
    if (m->head_dim % 32)
        return oct_fail(OCT_ERR_FILE, "model: head_dim is %d, expected a multiple of 32", m->head_dim);
    if (m->heads % m->kv_heads)
        return oct_fail(OCT_ERR_FILE, "model: kv_heads is %d, expected a divisor of heads, which is %d",
                        m->kv_heads, m->heads);
    if (m->rope_dims % 2 || m->rope_dims > m->head_dim)
        return oct_fail(OCT_ERR_FILE,
                        "model: rope_dims is %d, expected an even number up to head_dim, which is %d",
                        m->rope_dims, m->head_dim);
    return OCT_OK;
}

oct_status oct_model_check(const oct_model *m)
{
    if (!m->family[0] || !memchr(m->family, 0, sizeof m->family))
        return oct_fail(OCT_ERR_FILE, "model: family is empty or too long");
    if (!memchr(m->name, 0, sizeof m->name))
        return oct_fail(OCT_ERR_FILE, "model: name is too long");
    oct_status status = check_shape(m);
    if (status)
        return status;
    if (!(m->norm_epsilon > 0 && m->norm_epsilon < 1))
        return oct_fail(OCT_ERR_FILE, "model: norm_epsilon is %g, expected a number between 0 and 1",
                        (double)m->norm_epsilon);
    if (!(m->rope_theta >= 1 && m->rope_theta < 1e30f))
        return oct_fail(OCT_ERR_FILE, "model: rope_theta is %g, expected a number of at least 1",
                        (double)m->rope_theta);
    if (m->rope_convention != OCT_ROPE_PAIRS && m->rope_convention != OCT_ROPE_HALVES)
        return oct_fail(OCT_ERR_FILE, "model: rope_convention is %d, expected pairs or halves",
                        (int)m->rope_convention);
    for (int i = 0; i < m->rope_dims / 2; i++)
        if (!(m->rope_divisors[i] > 0 && m->rope_divisors[i] < 1e30f))
            return oct_fail(OCT_ERR_FILE, "model: rope_divisors[%d] is %g, expected a positive number", i,
                            (double)m->rope_divisors[i]);
    return OCT_OK;
}

static bool divisors_are_one(const oct_model *m)
{
    for (int i = 0; i < m->rope_dims / 2; i++)
        if (m->rope_divisors[i] != 1)
            return false;
    return true;
}

char *oct_model_to_json(const oct_model *m)
{
    json_t *object = json_object();
    json_object_set_new(object, "family", json_string(m->family));
    json_object_set_new(object, "name", json_string(m->name));
    for (size_t i = 0; i < INT_FIELDS; i++)
        json_object_set_new(object, int_fields[i].name, json_integer(*int_of(m, &int_fields[i])));
    json_object_set_new(object, "norm_epsilon", json_real((double)m->norm_epsilon));
    json_object_set_new(object, "rope_theta", json_real((double)m->rope_theta));
    json_object_set_new(object, "rope_convention",
                        json_string(m->rope_convention == OCT_ROPE_PAIRS ? "pairs" : "halves"));
    if (!divisors_are_one(m)) {
        json_t *array = json_array();
        for (int i = 0; i < m->rope_dims / 2; i++)
            json_array_append_new(array, json_real((double)m->rope_divisors[i]));
        json_object_set_new(object, "rope_divisors", array);
    }
    json_object_set_new(object, "tied", json_boolean(m->tied));
    json_object_set_new(object, "qkv_bias", json_boolean(m->qkv_bias));
    json_object_set_new(object, "qk_norm", json_boolean(m->qk_norm));
    char *text = json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(object);
    return text;
}

static oct_status missing(const char *name, const char *type)
{
    return oct_fail(OCT_ERR_FILE, "model: the configuration has no %s, or it is not %s", name, type);
}

static oct_status read_text(const json_t *object, const char *name, char *out, size_t size)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value) || json_string_length(value) >= size)
        return missing(name, "a short string");
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return OCT_OK;
}

static oct_status read_float(const json_t *object, const char *name, float *out)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_number(value))
        return missing(name, "a number");
    *out = (float)json_number_value(value);
    return OCT_OK;
}

static oct_status read_bool(const json_t *object, const char *name, bool *out)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_boolean(value))
        return missing(name, "true or false");
    *out = json_is_true(value);
    return OCT_OK;
}

static oct_status read_integers(const json_t *object, oct_model *m)
{
    for (size_t i = 0; i < INT_FIELDS; i++) {
        const json_t *value = json_object_get(object, int_fields[i].name);
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX)
            return missing(int_fields[i].name, "a whole number");
        *int_of(m, &int_fields[i]) = (int32_t)json_integer_value(value);
    }
    return check_shape(m);
}

static oct_status read_rope(const json_t *object, oct_model *m)
{
    char convention[16];
    oct_status status = read_text(object, "rope_convention", convention, sizeof convention);
    if (status)
        return status;
    if (strcmp(convention, "pairs") && strcmp(convention, "halves"))
        return missing("rope_convention", "\"pairs\" or \"halves\"");
    m->rope_convention = convention[0] == 'p' ? OCT_ROPE_PAIRS : OCT_ROPE_HALVES;
    const json_t *array = json_object_get(object, "rope_divisors");
    size_t count = (size_t)m->rope_dims / 2;
    if (array && json_array_size(array) != count)
        return missing("rope_divisors", "a list of rope_dims / 2 numbers");
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (array && !json_is_number(value))
            return missing("rope_divisors", "a list of rope_dims / 2 numbers");
        m->rope_divisors[i] = array ? (float)json_number_value(value) : 1;
    }
    return OCT_OK;
}

static oct_status read_model(const json_t *object, oct_model *m)
{
    oct_status status = read_text(object, "family", m->family, sizeof m->family);
    if (!status)
        status = read_text(object, "name", m->name, sizeof m->name);
    if (!status)
        status = read_integers(object, m);
    if (!status)
        status = read_float(object, "norm_epsilon", &m->norm_epsilon);
    if (!status)
        status = read_float(object, "rope_theta", &m->rope_theta);
    if (!status)
        status = read_rope(object, m);
    if (!status)
        status = read_bool(object, "tied", &m->tied);
    if (!status)
        status = read_bool(object, "qkv_bias", &m->qkv_bias);
    if (!status)
        status = read_bool(object, "qk_norm", &m->qk_norm);
    return status ? status : oct_model_check(m);
}

oct_status oct_model_from_json(const char *text, oct_model *model)
{
    json_error_t error;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        return oct_fail(OCT_ERR_FILE, "model: the configuration is not a JSON object: %s", error.text);
    }
    oct_model read;
    memset(&read, 0, sizeof read);
    oct_status status = read_model(object, &read);
    json_decref(object);
    if (!status)
        *model = read;
    return status;
}

oct_partition oct_model_attention_partition(const oct_model *model)
{
    return oct_partition_make(model->heads, model->head_dim, OCT_MAX_GRANULES);
}

oct_partition oct_model_ffn_partition(const oct_model *model)
{
    return oct_partition_make((model->ffn + 31) / 32, 32, OCT_MAX_GRANULES);
}

oct_partition oct_model_vocabulary_partition(const oct_model *model)
{
    return oct_partition_make((model->vocabulary + 15) / 16, 16, OCT_MAX_VOCABULARY_GRANULES);
}

oct_run oct_model_kv_run(const oct_model *model, oct_run heads)
{
    if (heads.begin >= heads.end)
        return (oct_run){0, 0};
    int32_t shared = model->heads / model->kv_heads; // query heads of one key-value head
    return (oct_run){heads.begin / shared, (heads.end + shared - 1) / shared};
}

// Where the list of tensors grows.
typedef struct spec_list {
    oct_tensor_spec *specs;
    int32_t count;
    int32_t layer;
} spec_list;

static void add(spec_list *list, const char *name, oct_split split, int64_t rows, int64_t columns,
                oct_partition partition)
{
    oct_tensor_spec *spec = &list->specs[list->count++];
    *spec = (oct_tensor_spec){
        .layer = list->layer, .split = split, .rows = rows, .columns = columns, .partition = partition};
    if (list->layer < 0)
        snprintf(spec->name, sizeof spec->name, "%s", name);
    else
        snprintf(spec->name, sizeof spec->name, "layers.%d.%s", list->layer, name);
}

static void add_vector(spec_list *list, const char *name, int64_t rows)
{
    add(list, name, OCT_SPLIT_NONE, rows, 1, (oct_partition){0});
}

static void add_layer(spec_list *list, const oct_model *m)
{
    oct_partition attention = oct_model_attention_partition(m), ffn = oct_model_ffn_partition(m);
    oct_partition kv = {.units = m->kv_heads, .granules = m->kv_heads, .unit_size = m->head_dim};
    int64_t q_rows = (int64_t)m->heads * m->head_dim, kv_rows = (int64_t)m->kv_heads * m->head_dim;
    add_vector(list, "attention_norm", m->hidden);
    add(list, "q", OCT_SPLIT_ROWS, q_rows, m->hidden, attention);
    add(list, "k", OCT_SPLIT_ROWS, kv_rows, m->hidden, kv);
    add(list, "v", OCT_SPLIT_ROWS, kv_rows, m->hidden, kv);
    if (m->qkv_bias) {
        add_vector(list, "q_bias", q_rows);
        add_vector(list, "k_bias", kv_rows);
        add_vector(list, "v_bias", kv_rows);
    }
    if (m->qk_norm) {
        add_vector(list, "q_norm", m->head_dim);
        add_vector(list, "k_norm", m->head_dim);
    }
    add(list, "o", OCT_SPLIT_COLUMNS, m->hidden, q_rows, attention);
    add_vector(list, "ffn_norm", m->hidden);
    add(list, "gate", OCT_SPLIT_ROWS, m->ffn, m->hidden, ffn);
    add(list, "up", OCT_SPLIT_ROWS, m->ffn, m->hidden, ffn);
    add(list, "down", OCT_SPLIT_COLUMNS, m->hidden, m->ffn, ffn);
}

oct_tensor_spec *oct_model_tensors(const oct_model *model, int32_t *count)
{
    spec_list list = {.specs = calloc((size_t)model->layers * 14 + 3, sizeof *list.specs), .layer = -1};
    if (!list.specs)
        return NULL;
    oct_partition vocabulary = oct_model_vocabulary_partition(model);
    add(&list, "embedding", OCT_SPLIT_ROWS, model->vocabulary, model->hidden, vocabulary);
    for (list.layer = 0; list.layer < model->layers; list.layer++)
        add_layer(&list, model);
    list.layer = -1;
    add_vector(&list, "output_norm", model->hidden);
    if (!model->tied)
        add(&list, "head", OCT_SPLIT_ROWS, model->vocabulary, model->hidden, vocabulary);
    *count = list.count;
    return list.specs;
}
