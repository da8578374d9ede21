// Requests: their memory, and their reading from JSON lines. The order of requests, blank lines and the file
// itself are the caller's.
#include "runtime/request.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/json_value.h"

oct_request oct_request_default(void)
{
    oct_request request;
    memset(&request, 0, sizeof request);
    request.max_tokens = 256;
    request.sampling = oct_sampling_default();
    return request;
}

static void free_stops(oct_request *request)
{
    for (size_t i = 0; i < request->stop_count; i++)
        free(request->stops[i]);
    free(request->stops);
    request->stops = NULL;
    request->stop_count = 0;
}

void oct_request_free(oct_request *request)
{
    free_stops(request);
    for (size_t i = 0; i < request->message_count; i++) {
        free((char *)(uintptr_t)request->messages[i].role);
        free((char *)(uintptr_t)request->messages[i].content);
    }
    free(request->messages);
    free(request->prompt);
    free(request->id);
    memset(request, 0, sizeof *request);
}

// Where a request comes from, for messages: "prompts.jsonl, line 3: "; "" for the command line.
typedef struct reader {
    oct_request *request;
    const char *where;
} reader;

static oct_status out_of_memory(const char *where)
{
    return oct_fail(OCT_ERR_MACHINE, "%sno memory for the request", where);
}

static oct_status add_stop(const char *where, oct_request *request, const char *stop)
{
    if (stop[0] == '\0')
        return oct_fail(OCT_ERR_USAGE, "%sa stop string is empty, expected at least one character", where);
    if (request->stop_count == OCT_MAX_STOPS)
        return oct_fail(OCT_ERR_USAGE, "%smore than %d stop strings", where, OCT_MAX_STOPS);
    char **stops = realloc(request->stops, sizeof *stops * (request->stop_count + 1));
    if (!stops)
        return out_of_memory(where);
    request->stops = stops;
    stops[request->stop_count] = strdup(stop);
    if (!stops[request->stop_count])
        return out_of_memory(where);
    request->stop_count++;
    return OCT_OK;
}

oct_status oct_request_add_stop(oct_request *request, const char *stop)
{
    return add_stop("", request, stop);
}

bool oct_request_line_is_blank(const char *line, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r' && line[i] != '\n')
            return false;
    return true;
}

// --- keys ----------------------------------------------------------------------------------------------

// The JSON text of an id; of a real number with as few digits as mean the same number.
static char *write_id(const json_t *value)
{
    enum { FEWEST_DIGITS = 15, MOST_DIGITS = 17 };
    for (size_t digits = FEWEST_DIGITS; json_is_real(value) && digits < MOST_DIGITS; digits++) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        if (text == NULL || strtod(text, NULL) == json_real_value(value))
            return text;
        free(text);
    }
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
}

static oct_status set_id(reader *r, const json_t *value)
{
    if (!json_is_string(value) && !json_is_number(value))
        return oct_json_wrong_type(r->where, "id", value, "a string or a number");
    char *id = write_id(value);
    if (!id)
        return out_of_memory(r->where);
    free(r->request->id);
    r->request->id = id;
    return OCT_OK;
}

static oct_status set_prompt(reader *r, const json_t *value)
{
    return oct_json_read_string(r->where, "prompt", value, &r->request->prompt, &r->request->prompt_bytes);
}

static oct_status read_message(reader *r, const json_t *value, oct_chat_message *message)
{
    if (!json_is_object(value))
        return oct_json_wrong_type(r->where, "an entry of messages", value, "an object with role and content");
    const json_t *role = json_object_get(value, "role"), *content = json_object_get(value, "content");
    if (!role || !content || json_object_size(value) != 2)
        return oct_fail(OCT_ERR_USAGE,
                        "%san entry of messages has other keys than role and content, expected both",
                        r->where);
    char *text;
    oct_status status = oct_json_read_string(r->where, "role", role, &text, NULL);
    if (status)
        return status;
    message->role = text;
    status = oct_json_read_string(r->where, "content", content, &text, NULL);
    if (!status)
        message->content = text;
    return status;
}

static oct_status set_messages(reader *r, const json_t *value)
{
    if (!json_is_array(value))
        return oct_json_wrong_type(r->where, "messages", value, "a list");
    size_t count = json_array_size(value);
    if (count == 0)
        return oct_fail(OCT_ERR_USAGE, "%smessages is empty, expected at least one message", r->where);
    r->request->messages = calloc(count, sizeof(oct_chat_message));
    if (!r->request->messages)
        return out_of_memory(r->where);
    oct_status status = OCT_OK;
    for (size_t i = 0; i < count && !status; i++) {
        r->request->message_count = i + 1;
        status = read_message(r, json_array_get(value, i), &r->request->messages[i]);
    }
    return status;
}

static oct_status set_max_tokens(reader *r, const json_t *value)
{
    return oct_json_read_int32(r->where, "max_tokens", value, 1, &r->request->max_tokens);
}

static oct_status set_top_k(reader *r, const json_t *value)
{
    return oct_json_read_int32(r->where, "top_k", value, 0, &r->request->sampling.top_k);
}

static oct_status set_logprobs(reader *r, const json_t *value)
{
    return oct_json_read_int32(r->where, "logprobs", value, 0, &r->request->sampling.logprobs);
}

static oct_status set_seed(reader *r, const json_t *value)
{
    int64_t seed = 0;
    oct_status status = oct_json_read_whole(r->where, "seed", value, 0, INT64_MAX, &seed);
    if (!status)
        r->request->sampling.seed = (uint64_t)seed;
    return status;
}

static oct_status set_ignore_eos(reader *r, const json_t *value)
{
    if (!json_is_boolean(value))
        return oct_json_wrong_type(r->where, "ignore_eos", value, "true or false");
    r->request->ignore_eos = json_is_true(value);
    return OCT_OK;
}

static oct_status set_logit_bias(reader *r, const json_t *value)
{
    oct_sampling *sampling = &r->request->sampling;
    if (!json_is_object(value))
        return oct_json_wrong_type(r->where, "logit_bias", value, "an object of token ids and biases");
    if (json_object_size(value) > OCT_MAX_LOGIT_BIASES)
        return oct_fail(OCT_ERR_USAGE, "%slogit_bias has %zu entries, expected at most %d", r->where,
                        json_object_size(value), OCT_MAX_LOGIT_BIASES);
    sampling->bias_count = 0;
    json_t *object = (json_t *)(uintptr_t)value, *bias;
    const char *key;
    json_object_foreach(object, key, bias)
    {
        char *end;
        errno = 0;
        long long token = strtoll(key, &end, 10);
        if (key[0] < '0' || key[0] > '9' || *end != '\0' || errno || token > INT32_MAX)
            return oct_fail(OCT_ERR_USAGE, "%slogit_bias has the key \"%.40s\", expected a token id",
                            r->where, key);
        oct_logit_bias *entry = &sampling->biases[sampling->bias_count];
        entry->token = (int32_t)token;
        oct_status status = oct_json_read_float(r->where, "a value of logit_bias", bias, &entry->bias);
        if (status)
            return status;
        sampling->bias_count++;
    }
    return OCT_OK;
}

static oct_status set_stop(reader *r, const json_t *value)
{
    free_stops(r->request);
    if (!json_is_string(value) && !json_is_array(value))
        return oct_json_wrong_type(r->where, "stop", value, "a string or a list of strings");
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    oct_status status = OCT_OK;
    for (size_t i = 0; i < count && !status; i++) {
        char *text;
        const json_t *entry = json_is_array(value) ? json_array_get(value, i) : value;
        status = oct_json_read_string(r->where, json_is_array(value) ? "an entry of stop" : "stop", entry, &text, NULL);
        if (!status) {
            status = add_stop(r->where, r->request, text);
            free(text);
        }
    }
    return status;
}

static const struct key {
    const char *name;
    oct_status (*set)(reader *r, const json_t *value); // NULL: a number of the sampling parameters
    size_t number;                                     // its place there
} keys[] = {
    {"id", set_id, 0},
    {"prompt", set_prompt, 0},
    {"messages", set_messages, 0},
    {"max_tokens", set_max_tokens, 0},
    {"temperature", NULL, offsetof(oct_sampling, temperature)},
    {"top_p", NULL, offsetof(oct_sampling, top_p)},
    {"top_k", set_top_k, 0},
    {"min_p", NULL, offsetof(oct_sampling, min_p)},
    {"repetition_penalty", NULL, offsetof(oct_sampling, repetition_penalty)},
    {"presence_penalty", NULL, offsetof(oct_sampling, presence_penalty)},
    {"frequency_penalty", NULL, offsetof(oct_sampling, frequency_penalty)},
    {"logit_bias", set_logit_bias, 0},
    {"logprobs", set_logprobs, 0},
    {"seed", set_seed, 0},
    {"stop", set_stop, 0},
    {"ignore_eos", set_ignore_eos, 0},
};
enum { KEY_COUNT = sizeof keys / sizeof keys[0] };

static oct_status set_key(reader *r, const struct key *key, const json_t *value)
{
    if (key->set)
        return key->set(r, value);
    float *number = (float *)(void *)((char *)&r->request->sampling + key->number);
    return oct_json_read_float(r->where, key->name, value, number);
}

static oct_status unknown_key(const reader *r, const char *name)
{
    char known[512] = "";
    for (int i = 0; i < KEY_COUNT; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", keys[i].name);
    }
    return oct_fail(OCT_ERR_USAGE, "%sunknown key \"%.60s\", expected one of: %s", r->where, name, known);
}

static oct_status set_keys(reader *r, json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        int i = 0;
        while (i < KEY_COUNT && strcmp(keys[i].name, name) != 0)
            i++;
        oct_status status = i == KEY_COUNT ? unknown_key(r, name) : set_key(r, &keys[i], value);
        if (status)
            return status;
    }
    if (!r->request->prompt == !r->request->messages)
        return oct_fail(OCT_ERR_USAGE, "%s%s, expected either prompt or messages", r->where,
                        r->request->prompt ? "both prompt and messages" : "neither prompt nor messages");
    return OCT_OK;
}

// --- the line ------------------------------------------------------------------------------------------

static oct_status take_defaults(const reader *r, const oct_request *defaults, int64_t line_number)
{
    char number[32];
    *r->request = oct_request_default();
    r->request->max_tokens = defaults->max_tokens;
    r->request->ignore_eos = defaults->ignore_eos;
    r->request->sampling = defaults->sampling;
    snprintf(number, sizeof number, "%lld", (long long)line_number);
    r->request->id = strdup(number);
    oct_status status = r->request->id ? OCT_OK : out_of_memory(r->where);
    for (size_t i = 0; i < defaults->stop_count && !status; i++)
        status = add_stop(r->where, r->request, defaults->stops[i]);
    return status;
}

static oct_status parse(reader *r, const char *line, size_t bytes, int32_t vocabulary)
{
    static const char mark[] = "\xef\xbb\xbf"; // U+FEFF, which some editors put in front of a file in UTF-8
    const size_t mark_bytes = sizeof mark - 1;
    json_error_t error;
    if (bytes >= mark_bytes && memcmp(line, mark, mark_bytes) == 0) {
        line += mark_bytes;
        bytes -= mark_bytes;
    }
    json_t *object =
        json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (!object)
        return oct_fail(OCT_ERR_FILE, "%sno JSON at column %d (%s), expected one JSON object", r->where,
                        error.column, error.text);
    oct_status status;
    if (!json_is_object(object)) {
        status =
            oct_fail(OCT_ERR_FILE, "%sthe line is %s, expected a JSON object", r->where, oct_json_type_name(object));
    } else {
        // The id first, so that an error in another key can be told under it.
        json_t *id = json_object_get(object, "id");
        status = id ? set_id(r, id) : OCT_OK;
        if (!status)
            status = set_keys(r, object);
        if (!status)
            status = oct_sampling_check_from(&r->request->sampling, vocabulary, r->where);
    }
    json_decref(object);
    return status;
}

oct_status oct_request_parse(oct_request *request, const char *line, size_t bytes, const char *source,
                             int64_t line_number, const oct_request *defaults, int32_t vocabulary)
{
    char where[512];
    snprintf(where, sizeof where, "%.400s, line %lld: ", source, (long long)line_number);
    reader r = {request, where};
    oct_status status = take_defaults(&r, defaults, line_number);
    if (!status)
        status = parse(&r, line, bytes, vocabulary);
    return status;
}
