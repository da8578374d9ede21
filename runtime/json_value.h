// Values of JSON that somebody else wrote: each is read as what it should be, or refused with what was found and
// expected. `where` begins the message ("prompts.jsonl, line 3: "; "" for none), `name` is what the value is called
// there. Outputs are set only on success. Everything here is LOCAL.
#ifndef OCT_RUNTIME_JSON_VALUE_H
#define OCT_RUNTIME_JSON_VALUE_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "runtime/status.h"

// "an object", "a whole number", ….
const char *oct_json_type_name(const json_t *value);

// Says that a value is none of the expected type: returns OCT_ERR_USAGE.
oct_status oct_json_wrong_type(const char *where, const char *name, const json_t *value, const char *expected);

// A whole number from low to high; from low to INT32_MAX. Errors: OCT_ERR_USAGE.
oct_status oct_json_read_whole(const char *where, const char *name, const json_t *value, int64_t low, int64_t high,
                               int64_t *out);
oct_status oct_json_read_int32(const char *where, const char *name, const json_t *value, int32_t low, int32_t *out);

// A number, as the nearest fp32; what is too small for a normal one becomes the smallest, never 0. Errors:
// OCT_ERR_USAGE (no number, or too large).
oct_status oct_json_read_float(const char *where, const char *name, const json_t *value, float *out);

// A copy of a string, owned by the caller, terminated. With `bytes`, which gets its length, it may hold NUL; without it
// that is refused. Errors: OCT_ERR_USAGE, OCT_ERR_MACHINE (memory).
oct_status oct_json_read_string(const char *where, const char *name, const json_t *value, char **out, size_t *bytes);

#endif
