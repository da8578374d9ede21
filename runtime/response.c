// Responses as JSON lines.
#include "runtime/response.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/utf8.h"

static const char *finish_reason_name(oct_finish_reason reason)
{
    static const char *const names[] = {"stop", "length", "error"};
    return names[reason];
}

char *oct_utf8_repair(const char *text, size_t bytes, size_t *repaired_bytes)
{
    char *repaired = malloc(3 * bytes + 1); // each byte may become the three of U+FFFD
    if (!repaired)
        return NULL;
    size_t used = 0;
    for (size_t at = 0; at < bytes;) {
        size_t length;
        bool valid = oct_utf8_step(text + at, bytes - at, &length) == OCT_UTF8_VALID;
        memcpy(repaired + used, valid ? text + at : "\xef\xbf\xbd", valid ? length : 3);
        used += valid ? length : 3;
        at += length;
    }
    repaired[used] = '\0';
    *repaired_bytes = used;
    return repaired;
}

static json_t *repaired_string(const char *text, size_t bytes)
{
    size_t repaired_bytes;
    char *repaired = oct_utf8_repair(text, bytes, &repaired_bytes);
    json_t *string = repaired ? json_stringn(repaired, repaired_bytes) : NULL;
    free(repaired);
    return string;
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *figure_value(const oct_figure *figure)
{
    if (figure->whole && fabs(figure->value) < 0x1p62)
        return json_integer((json_int_t)llround(figure->value));
    return number_or_null(figure->value);
}

static json_t *token_list(const oct_response *response)
{
    json_t *list = json_array();
    for (size_t i = 0; i < response->token_count && list; i++)
        if (json_array_append_new(list, json_integer(response->token_ids[i]))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *logprob_object(const oct_token_logprob *entry)
{
    json_t *object = json_object();
    if (object && json_object_set_new(object, "token", json_integer(entry->token)) == 0 &&
        json_object_set_new(object, "logprob", number_or_null((double)entry->logprob)) == 0)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *logprobs_of_token(const oct_response *response, size_t i)
{
    json_t *object = logprob_object(&response->logprobs[i]), *top = json_array();
    int failed = !object || !top;
    for (int32_t k = 0; k < response->top_count && !failed; k++)
        failed = json_array_append_new(
            top, logprob_object(&response->top[i * (size_t)response->top_count + (size_t)k]));
    if (!failed && json_object_set(object, "top", top) == 0) {
        json_decref(top);
        return object;
    }
    json_decref(top);
    json_decref(object);
    return NULL;
}

static json_t *logprob_list(const oct_response *response)
{
    json_t *list = json_array();
    for (size_t i = 0; i < response->token_count && list; i++)
        if (json_array_append_new(list, logprobs_of_token(response, i))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

// json_object_set_new() refuses NULL and then gives its value back itself, so that a failure of a part is a
// failure here.
static bool fill(json_t *object, const oct_response *response)
{
    const char *reason = finish_reason_name(response->finish_reason);
    if (json_object_set_new(object, "text", repaired_string(response->text, response->text_bytes)) ||
        json_object_set_new(object, "token_ids", token_list(response)) ||
        json_object_set_new(object, "finish_reason", json_string(reason)))
        return false;
    if (response->error &&
        json_object_set_new(object, "error", repaired_string(response->error, strlen(response->error))))
        return false;
    for (size_t i = 0; i < response->figure_count; i++)
        if (json_object_set_new(object, response->figures[i].name, figure_value(&response->figures[i])))
            return false;
    return !response->logprobs || !json_object_set_new(object, "logprobs", logprob_list(response));
}

// The id is put in front as the text that the request keeps.
static char *with_id(const char *id, const char *object)
{
    const char *begin = "{\"id\":";
    char *line = malloc(strlen(begin) + strlen(id) + strlen(object) + 1);
    if (line)
        stpcpy(stpcpy(stpcpy(stpcpy(line, begin), id), ","), object + 1);
    return line;
}

char *oct_response_format(const oct_response *response)
{
    json_t *object = json_object();
    char *rest = NULL, *line = NULL;
    if (object && fill(object, response))
        rest = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    if (rest)
        line = with_id(response->id, rest);
    free(rest);
    json_decref(object);
    return line;
}

// Appends [bytes] to the copy that grows at *end; NULL stays NULL.
static const void *append(char **end, const void *from, size_t bytes)
{
    void *place = *end;
    if (from == NULL)
        return NULL;
    if (bytes > 0)
        memcpy(place, from, bytes);
    *end += bytes;
    return place;
}

oct_response *oct_response_copy(const oct_response *response, size_t *bytes)
{
    const size_t figures = response->figure_count * sizeof *response->figures;
    const size_t tokens = response->token_count, logprobs = tokens * sizeof *response->logprobs;
    const size_t ids = tokens * sizeof *response->token_ids;
    const size_t top = response->top != NULL ? logprobs * (size_t)response->top_count : 0;
    const size_t id = strlen(response->id) + 1, error = response->error != NULL ? strlen(response->error) + 1 : 0;
    const size_t whole = sizeof *response + figures + (response->logprobs != NULL ? logprobs : 0) + top + ids + id +
                         response->text_bytes + error;
    oct_response *copy = malloc(whole);
    if (copy == NULL)
        return NULL;
    char *end = (char *)(copy + 1); // the parts that need alignment come first, the widest in front
    *copy = *response;
    copy->figures = append(&end, response->figures, figures);
    copy->logprobs = append(&end, response->logprobs, logprobs);
    copy->top = append(&end, response->top, top);
    copy->token_ids = append(&end, response->token_ids, ids);
    copy->id = append(&end, response->id, id);
    copy->text = append(&end, response->text, response->text_bytes);
    copy->error = append(&end, response->error, error);
    *bytes = whole;
    return copy;
}
