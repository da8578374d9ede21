// Values of JSON, read with their types and ranges checked.
#include "runtime/json_value.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

const char *oct_json_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

oct_status oct_json_wrong_type(const char *where, const char *name, const json_t *value, const char *expected)
{
    return oct_fail(OCT_ERR_USAGE, "%s%s is %s, expected %s", where, name, oct_json_type_name(value), expected);
}

oct_status oct_json_read_whole(const char *where, const char *name, const json_t *value, int64_t low, int64_t high,
                               int64_t *out)
{
    if (!json_is_integer(value))
        return oct_json_wrong_type(where, name, value, "a whole number");
    int64_t number = json_integer_value(value);
    if (number < low || number > high)
        return oct_fail(OCT_ERR_USAGE, "%s%s is %lld, expected %lld to %lld", where, name, (long long)number,
                        (long long)low, (long long)high);
    *out = number;
    return OCT_OK;
}

oct_status oct_json_read_int32(const char *where, const char *name, const json_t *value, int32_t low, int32_t *out)
{
    int64_t number = 0;
    oct_status status = oct_json_read_whole(where, name, value, low, INT32_MAX, &number);
    if (!status)
        *out = (int32_t)number;
    return status;
}

// What fp32 cannot hold must not become 0 or infinity, which may mean something else.
oct_status oct_json_read_float(const char *where, const char *name, const json_t *value, float *out)
{
    if (!json_is_number(value))
        return oct_json_wrong_type(where, name, value, "a number");
    double number = json_number_value(value);
    if (number > (double)FLT_MAX || number < -(double)FLT_MAX)
        return oct_fail(OCT_ERR_USAGE, "%s%s is %g, too large", where, name, number);
    *out = (float)number;
    if (number != 0 && !(*out >= FLT_MIN || *out <= -FLT_MIN))
        *out = number > 0 ? FLT_MIN : -FLT_MIN;
    return OCT_OK;
}

oct_status oct_json_read_string(const char *where, const char *name, const json_t *value, char **out, size_t *bytes)
{
    if (!json_is_string(value))
        return oct_json_wrong_type(where, name, value, "a string");
    size_t length = json_string_length(value);
    if (!bytes && strlen(json_string_value(value)) != length)
        return oct_fail(OCT_ERR_USAGE, "%s%s holds a character \\u0000, which is not allowed here", where, name);
    char *copy = malloc(length + 1);
    if (!copy)
        return oct_fail(OCT_ERR_MACHINE, "%sno memory for a string of %zu bytes", where, length);
    memcpy(copy, json_string_value(value), length + 1);
    *out = copy;
    if (bytes)
        *bytes = length;
    return OCT_OK;
}
