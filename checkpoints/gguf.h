// Reading a GGUF file (versions 2 and 3, little endian): metadata and tensor table into memory, tensor data
// by pread. Nothing in the file is trusted: every count and size is compared with what the file can hold.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#ifndef OCT_CHECKPOINTS_GGUF_H
#define OCT_CHECKPOINTS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"
#include "runtime/vocabulary.h"

// Types of metadata values, with the numbers of the format.
typedef enum oct_gguf_type {
    OCT_GGUF_U8,
    OCT_GGUF_I8,
    OCT_GGUF_U16,
    OCT_GGUF_I16,
    OCT_GGUF_U32,
    OCT_GGUF_I32,
    OCT_GGUF_F32,
    OCT_GGUF_BOOL,
    OCT_GGUF_STRING,
    OCT_GGUF_ARRAY,
    OCT_GGUF_U64,
    OCT_GGUF_I64,
    OCT_GGUF_F64,
    OCT_GGUF_TYPES
} oct_gguf_type;

typedef struct oct_gguf_value {
    char *key;          // owned
    oct_gguf_type type; // OCT_GGUF_ARRAY: `element` and `count` say more
    oct_gguf_type element;
    uint64_t count;      // elements of an array, bytes of a string
    uint8_t *bytes;      // scalars and arrays of them as they stand in the file; strings terminated; owned
    oct_strings strings; // of arrays of strings
} oct_gguf_value;

typedef struct oct_gguf_tensor {
    char *name; // owned
    int dimensions;
    int64_t shape[4]; // shape[0] varies fastest: columns, rows, …; 1 where there is no such dimension
    uint32_t type;    // ggml's number of the block type
    uint64_t offset;  // of the data, from the beginning of the file
    uint64_t bytes;   // 0 where the type is unknown
} oct_gguf_tensor;

typedef struct oct_gguf {
    char *path;
    int fd;
    uint64_t file_bytes;
    uint32_t version;
    oct_gguf_value *values;
    uint64_t value_count;
    oct_gguf_tensor *tensors;
    uint64_t tensor_count;
} oct_gguf;

// Opens a file and reads everything but the tensor data. Errors: OCT_ERR_FILE. LOCAL.
oct_status oct_gguf_open(oct_gguf *gguf, const char *path);
// Frees everything; a zeroed gguf is allowed. LOCAL.
void oct_gguf_close(oct_gguf *gguf);

// The metadata value of a key, or NULL; the tensor of a name, or NULL. LOCAL.
const oct_gguf_value *oct_gguf_find(const oct_gguf *gguf, const char *key);
const oct_gguf_tensor *oct_gguf_find_tensor(const oct_gguf *gguf, const char *name);

// Bytes of a scalar of a type; 0 for strings and arrays. LOCAL.
uint64_t oct_gguf_type_bytes(oct_gguf_type type);
// The order of tensors in `tensors`, for qsort and bsearch. LOCAL.
int oct_gguf_compare_names(const void *a, const void *b);

// A number of any integer, bool or floating-point type as double; false for another type. LOCAL.
bool oct_gguf_number(const oct_gguf_value *value, double *number);
// Element i of an array of numbers, likewise. LOCAL.
bool oct_gguf_element(const oct_gguf_value *value, uint64_t i, double *number);

// Reads `bytes` bytes of tensor data at `offset` from the tensor's beginning. Errors: OCT_ERR_FILE. LOCAL.
oct_status oct_gguf_read(const oct_gguf *gguf, const oct_gguf_tensor *tensor, uint64_t offset, void *out,
                         uint64_t bytes);

#endif
