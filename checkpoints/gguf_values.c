// Looking things up in a GGUF file that has been read.
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf.h"

uint64_t oct_gguf_type_bytes(oct_gguf_type type)
{
    static const uint8_t sizes[OCT_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[type];
}

const oct_gguf_value *oct_gguf_find(const oct_gguf *gguf, const char *key)
{
    for (uint64_t i = 0; i < gguf->value_count; i++)
        if (strcmp(gguf->values[i].key, key) == 0)
            return &gguf->values[i];
    return NULL;
}

const oct_gguf_tensor *oct_gguf_find_tensor(const oct_gguf *gguf, const char *name)
{
    oct_gguf_tensor wanted = {.name = (char *)name};
    return bsearch(&wanted, gguf->tensors, gguf->tensor_count, sizeof wanted, oct_gguf_compare_names);
}

static bool decode_number(oct_gguf_type type, const uint8_t *bytes, double *number)
{
    uint64_t bits = 0;
    memcpy(&bits, bytes, oct_gguf_type_bytes(type));
    float single;
    switch (type) {
    case OCT_GGUF_I8:
        *number = (int8_t)bits;
        return true;
    case OCT_GGUF_I16:
        *number = (int16_t)bits;
        return true;
    case OCT_GGUF_I32:
        *number = (int32_t)bits;
        return true;
    case OCT_GGUF_I64:
        *number = (double)(int64_t)bits;
        return true;
    case OCT_GGUF_F32:
        memcpy(&single, bytes, sizeof single);
        *number = (double)single;
        return true;
    case OCT_GGUF_F64:
        memcpy(number, bytes, sizeof *number);
        return true;
    case OCT_GGUF_STRING:
    case OCT_GGUF_ARRAY:
    case OCT_GGUF_TYPES:
        return false;
    default:
        *number = (double)bits;
        return true;
    }
}

bool oct_gguf_number(const oct_gguf_value *value, double *number)
{
    return oct_gguf_type_bytes(value->type) && decode_number(value->type, value->bytes, number);
}

bool oct_gguf_element(const oct_gguf_value *value, uint64_t i, double *number)
{
    if (value->type != OCT_GGUF_ARRAY || i >= value->count || !oct_gguf_type_bytes(value->element))
        return false;
    return decode_number(value->element, value->bytes + i * oct_gguf_type_bytes(value->element), number);
}
