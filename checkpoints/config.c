// Configuration and vocabulary to sections, and back.
#include "checkpoints/config.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "octet checkpoint"

// Scalars of the vocabulary by name.
typedef struct int_field {
    const char *name;
    size_t offset;
} int_field;
static const int_field ids[] = {{"bos", offsetof(oct_vocabulary, bos)},
                                {"eos", offsetof(oct_vocabulary, eos)},
                                {"eot", offsetof(oct_vocabulary, eot)},
                                {"unknown", offsetof(oct_vocabulary, unknown)},
                                {"padding", offsetof(oct_vocabulary, padding)}};
static const int_field flags[] = {{"add_bos", offsetof(oct_vocabulary, add_bos)},
                                  {"add_eos", offsetof(oct_vocabulary, add_eos)},
                                  {"add_space_prefix", offsetof(oct_vocabulary, add_space_prefix)}};
#define COUNT(array) (sizeof array / sizeof array[0])

static bool copy_blob(oct_blob *blob, const void *bytes, uint64_t size)
{
    *blob = (oct_blob){0};
    if (!size)
        return true;
    blob->bytes = malloc(size);
    if (!blob->bytes)
        return false;
    memcpy(blob->bytes, bytes, size);
    blob->size = size;
    return true;
}

static bool copy_strings(oct_blob *offsets, oct_blob *bytes, const oct_strings *strings)
{
    uint64_t size = strings->count ? strings->offsets[strings->count] : 0;
    uint64_t listed = strings->count ? ((uint64_t)strings->count + 1) * sizeof *strings->offsets : 0;
    return copy_blob(offsets, strings->offsets, listed) && copy_blob(bytes, strings->bytes, size);
}

static json_t *vocabulary_json(const oct_vocabulary *v)
{
    json_t *object = json_object();
    json_object_set_new(object, "kind", json_string(v->kind));
    json_object_set_new(object, "pretokenizer", json_string(v->pretokenizer ? v->pretokenizer : ""));
    json_object_set_new(object, "tokens", json_integer(v->tokens.count));
    json_object_set_new(object, "merges", json_integer(v->merges.count));
    json_object_set_new(object, "scores", json_boolean(v->scores));
    json_object_set_new(object, "types", json_boolean(v->types));
    size_t length = v->chat_template ? strlen(v->chat_template) : 0;
    json_object_set_new(object, "chat_template_bytes", json_integer((json_int_t)length));
    for (size_t i = 0; i < COUNT(ids); i++)
        json_object_set_new(object, ids[i].name,
                            json_integer(*(const int32_t *)((const char *)v + ids[i].offset)));
    for (size_t i = 0; i < COUNT(flags); i++)
        json_object_set_new(object, flags[i].name,
                            json_boolean(*(const bool *)((const char *)v + flags[i].offset)));
    return object;
}

static char *config_text(const oct_model *model, const oct_vocabulary *vocabulary, const char *provenance,
                         const char *encoding)
{
    char *model_text = oct_model_to_json(model);
    json_t *root = json_object(), *origin = json_loads(provenance, 0, NULL);
    json_object_set_new(origin, "importer", json_string("octet " OCTET_VERSION));
    json_object_set_new(origin, "encoding", json_string(encoding));
    json_object_set_new(root, "format", json_string(FORMAT));
    json_object_set_new(root, "version", json_integer(OCT_FORMAT_VERSION));
    json_object_set_new(root, "model", model_text ? json_loads(model_text, 0, NULL) : NULL);
    json_object_set_new(root, "vocabulary", vocabulary_json(vocabulary));
    json_object_set_new(root, "provenance", origin);
    char *text =
        json_object_size(root) == 5 ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    free(model_text);
    return text;
}

oct_status oct_config_write(const oct_model *model, const oct_vocabulary *v, const char *provenance,
                            const char *encoding, oct_blob sections[OCT_SECTION_COUNT])
{
    uint64_t tokens = (uint64_t)v->tokens.count;
    char *text = config_text(model, v, provenance, encoding);
    if (!text)
        return oct_fail(OCT_ERR_FILE,
                        "the names of model and tokenizer are not valid UTF-8, or memory is exhausted");
    sections[OCT_SECTION_CONFIG] = (oct_blob){text, strlen(text)};
    const char *chat = v->chat_template ? v->chat_template : "";
    bool copied =
        copy_strings(&sections[OCT_SECTION_TOKEN_OFFSETS], &sections[OCT_SECTION_TOKEN_BYTES], &v->tokens) &&
        copy_strings(&sections[OCT_SECTION_MERGE_OFFSETS], &sections[OCT_SECTION_MERGE_BYTES], &v->merges) &&
        copy_blob(&sections[OCT_SECTION_SCORES], v->scores, v->scores ? tokens * 4 : 0) &&
        copy_blob(&sections[OCT_SECTION_TYPES], v->types, v->types ? tokens * 4 : 0) &&
        copy_blob(&sections[OCT_SECTION_CHAT_TEMPLATE], chat, strlen(chat));
    return copied ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for the vocabulary");
}

static oct_status wrong(const char *name, const char *expected)
{
    return oct_fail(OCT_ERR_FILE, "the checkpoint's configuration has no %s, or it is not %s", name,
                    expected);
}

// A section must have exactly the size that the configuration gives it. Its bytes, copied with a zero behind.
static oct_status take_section(const oct_blob sections[], oct_section section, uint64_t size, void **out)
{
    if (sections[section].size != size)
        return oct_fail(OCT_ERR_FILE, "the checkpoint's %s has %llu bytes; its configuration expects %llu",
                        oct_section_path(section), (unsigned long long)sections[section].size,
                        (unsigned long long)size);
    *out = malloc(size + 1);
    if (!*out)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the vocabulary");
    if (size)
        memcpy(*out, sections[section].bytes, size);
    ((char *)*out)[size] = '\0';
    return OCT_OK;
}

static oct_status read_count(const json_t *object, const char *name, int32_t *count)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= INT32_MAX)
        return wrong(name, "a whole number");
    *count = (int32_t)json_integer_value(value);
    return OCT_OK;
}

static oct_status read_strings(const json_t *object, const char *name, const oct_blob sections[],
                               oct_section offsets, oct_strings *out)
{
    int32_t count = 0;
    oct_status status = read_count(object, name, &count);
    if (status || count == 0)
        return status;
    status = take_section(sections, offsets, ((uint64_t)count + 1) * 8, (void **)&out->offsets);
    if (status)
        return status;
    out->count = count;
    return take_section(sections, (oct_section)(offsets + 1), out->offsets[count], (void **)&out->bytes);
}

static oct_status read_text(const json_t *object, const char *name, char **out)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_string(value))
        return wrong(name, "a text");
    *out = strdup(json_string_value(value));
    return *out ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for the vocabulary");
}

static oct_status read_scalars(const json_t *object, oct_vocabulary *v)
{
    for (size_t i = 0; i < COUNT(ids); i++) {
        const json_t *value = json_object_get(object, ids[i].name);
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < -1 || id > INT32_MAX)
            return wrong(ids[i].name, "a token id or -1");
        *(int32_t *)((char *)v + ids[i].offset) = (int32_t)id;
    }
    for (size_t i = 0; i < COUNT(flags); i++) {
        const json_t *value = json_object_get(object, flags[i].name);
        if (!json_is_boolean(value))
            return wrong(flags[i].name, "true or false");
        *(bool *)((char *)v + flags[i].offset) = json_is_true(value);
    }
    return OCT_OK;
}

static oct_status read_vocabulary(const json_t *object, const oct_blob sections[], oct_vocabulary *v)
{
    int32_t chat_bytes = 0;
    oct_status status = read_text(object, "kind", &v->kind);
    if (!status)
        status = read_text(object, "pretokenizer", &v->pretokenizer);
    if (!status)
        status = read_strings(object, "tokens", sections, OCT_SECTION_TOKEN_OFFSETS, &v->tokens);
    if (!status)
        status = read_strings(object, "merges", sections, OCT_SECTION_MERGE_OFFSETS, &v->merges);
    if (!status)
        status = read_scalars(object, v);
    uint64_t list = (uint64_t)v->tokens.count * 4;
    if (!status && json_is_true(json_object_get(object, "scores")))
        status = take_section(sections, OCT_SECTION_SCORES, list, (void **)&v->scores);
    if (!status && json_is_true(json_object_get(object, "types")))
        status = take_section(sections, OCT_SECTION_TYPES, list, (void **)&v->types);
    if (!status)
        status = read_count(object, "chat_template_bytes", &chat_bytes);
    if (!status)
        status = take_section(sections, OCT_SECTION_CHAT_TEMPLATE, (uint64_t)chat_bytes,
                              (void **)&v->chat_template);
    return status ? status : oct_vocabulary_check(v);
}

static oct_status check_format(const json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    if (!format || strcmp(format, FORMAT))
        return wrong("format", "\"" FORMAT "\"");
    if (version > OCT_FORMAT_VERSION)
        return oct_fail(OCT_ERR_FILE,
                        "the checkpoint has format version %lld, this program reads up to %d; take a "
                        "newer octet, or import the model again",
                        (long long)version, OCT_FORMAT_VERSION);
    return version == OCT_FORMAT_VERSION ? OCT_OK : wrong("version", "a known number");
}

static oct_status read_root(const json_t *root, const oct_blob sections[], oct_model *model,
                            oct_vocabulary *vocabulary, char **provenance)
{
    const json_t *described = json_object_get(root, "model"), *origin = json_object_get(root, "provenance");
    oct_status status = check_format(root);
    if (status)
        return status;
    if (!json_is_object(described) || !json_is_object(origin))
        return wrong("model or provenance", "an object");
    char *text = json_dumps(described, JSON_REAL_PRECISION(17));
    status = text ? oct_model_from_json(text, model) : oct_fail(OCT_ERR_MACHINE, "no memory");
    free(text);
    if (!status)
        status = read_vocabulary(json_object_get(root, "vocabulary"), sections, vocabulary);
    if (!status && vocabulary->tokens.count != model->vocabulary)
        status = oct_fail(OCT_ERR_FILE, "the checkpoint's vocabulary has %d tokens, its model %d",
                          vocabulary->tokens.count, model->vocabulary);
    if (!status)
        *provenance = json_dumps(origin, JSON_REAL_PRECISION(17));
    return status;
}

oct_status oct_config_read(const oct_blob sections[OCT_SECTION_COUNT], oct_model *model,
                           oct_vocabulary *vocabulary, char **provenance)
{
    const oct_blob *config = &sections[OCT_SECTION_CONFIG];
    json_t *root =
        config->size ? json_loadb(config->bytes, config->size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(root)) {
        json_decref(root);
        return oct_fail(OCT_ERR_FILE, "the file has no configuration of a checkpoint in %s",
                        oct_section_path(OCT_SECTION_CONFIG));
    }
    oct_vocabulary read = {0};
    oct_status status = read_root(root, sections, model, &read, provenance);
    json_decref(root);
    if (status)
        oct_vocabulary_free(&read);
    else
        *vocabulary = read;
    return status;
}
