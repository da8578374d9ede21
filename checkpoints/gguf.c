// The GGUF container: header, metadata and tensor table. Knows nothing of models.
#include "checkpoints/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/gguf_blocks.h"

// Caps far above any real file: what lies behind them is damage.
enum { ENTRIES_MAX = 1 << 20, NAME_MAX_BYTES = 1 << 16, BUFFER_BYTES = 1 << 16 };

// A buffered forward reader. After the first failure every read gives zeros and `status` stays.
typedef struct reader {
    const oct_gguf *gguf;
    uint64_t at;            // next byte of the file
    uint64_t start, filled; // what the buffer holds
    oct_status status;
    uint8_t buffer[BUFFER_BYTES];
} reader;

static uint64_t left(const reader *r)
{
    return r->gguf->file_bytes - r->at;
}

static void damaged(reader *r, const char *what, uint64_t value)
{
    if (!r->status)
        r->status = oct_fail(OCT_ERR_FILE, "%s: damaged GGUF header: %s is %llu at byte %llu of %llu",
                             r->gguf->path, what, (unsigned long long)value, (unsigned long long)r->at,
                             (unsigned long long)r->gguf->file_bytes);
}

static bool refill(reader *r)
{
    ssize_t got;
    do
        got = pread(r->gguf->fd, r->buffer, BUFFER_BYTES, (off_t)r->at);
    while (got < 0 && errno == EINTR);
    if (got <= 0) {
        r->status =
            oct_fail(OCT_ERR_FILE, "%s: cannot read byte %llu: %s", r->gguf->path, (unsigned long long)r->at,
                     got < 0 ? strerror(errno) : "the file has become shorter");
        return false;
    }
    r->start = r->at;
    r->filled = (uint64_t)got;
    return true;
}

static void take(reader *r, void *out, uint64_t bytes)
{
    uint8_t *to = out;
    if (!r->status && bytes > left(r))
        r->status =
            oct_fail(OCT_ERR_FILE,
                     "%s: truncated GGUF: the header wants %llu bytes at byte %llu of %llu; fetch it again",
                     r->gguf->path, (unsigned long long)bytes, (unsigned long long)r->at,
                     (unsigned long long)r->gguf->file_bytes);
    while (bytes && !r->status) {
        if (r->at >= r->start + r->filled && !refill(r))
            break;
        uint64_t n = r->start + r->filled - r->at;
        n = n < bytes ? n : bytes;
        memcpy(to, r->buffer + (r->at - r->start), n);
        to += n;
        r->at += n;
        bytes -= n;
    }
    if (bytes)
        memset(to, 0, bytes);
}

static uint32_t take32(reader *r)
{
    uint8_t b[4];
    take(r, b, 4);
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint64_t take64(reader *r)
{
    uint64_t low = take32(r);
    return low | (uint64_t)take32(r) << 32;
}

// Memory for something that the file claims; the claim was compared with the file's size before.
static void *claim(reader *r, uint64_t bytes)
{
    void *memory = r->status ? NULL : calloc(1, bytes ? bytes : 1);
    if (!memory && !r->status)
        r->status = oct_fail(OCT_ERR_MACHINE, "%s: no memory for %llu bytes of its header", r->gguf->path,
                             (unsigned long long)bytes);
    return memory;
}

// A string of at most `limit` bytes, terminated.
static char *take_string(reader *r, uint64_t limit, uint64_t *length)
{
    uint64_t bytes = take64(r);
    if (bytes > limit || bytes > left(r))
        damaged(r, "the length of a string", bytes);
    char *text = claim(r, bytes + 1);
    if (text)
        take(r, text, bytes);
    if (length)
        *length = bytes;
    return text;
}

static char *take_name(reader *r, const char *what)
{
    uint64_t length;
    char *name = take_string(r, NAME_MAX_BYTES, &length);
    if (name && !r->status && (strlen(name) != length || length == 0))
        damaged(r, what, length);
    return name;
}

static void take_strings(reader *r, oct_gguf_value *value)
{
    oct_strings *strings = &value->strings;
    if (value->count > left(r) / 8 || value->count > INT32_MAX) {
        damaged(r, "the length of a list", value->count);
        return;
    }
    strings->offsets = claim(r, (value->count + 1) * sizeof *strings->offsets);
    uint64_t room = 0, used = 0;
    for (uint64_t i = 0; i < value->count && !r->status; i++) {
        uint64_t bytes = take64(r);
        if (bytes > left(r)) {
            damaged(r, "the length of a string", bytes);
            return;
        }
        if (used + bytes + 1 > room) {
            room = (used + bytes + 1) * 2;
            char *grown = realloc(strings->bytes, room);
            if (!grown) {
                r->status = oct_fail(OCT_ERR_MACHINE, "%s: no memory for its strings", r->gguf->path);
                return;
            }
            strings->bytes = grown;
        }
        take(r, strings->bytes + used, bytes);
        used += bytes;
        strings->offsets[i + 1] = used;
        strings->count = (int32_t)i + 1;
    }
}

static void take_array(reader *r, oct_gguf_value *value)
{
    uint32_t element = take32(r);
    value->count = take64(r);
    if (element >= OCT_GGUF_TYPES || element == OCT_GGUF_ARRAY) {
        damaged(r, "the type of a list's elements", element);
        return;
    }
    value->element = (oct_gguf_type)element;
    if (element == OCT_GGUF_STRING) {
        take_strings(r, value);
        return;
    }
    if (value->count > left(r) / oct_gguf_type_bytes(value->element)) {
        damaged(r, "the length of a list", value->count);
        return;
    }
    uint64_t bytes = value->count * oct_gguf_type_bytes(value->element);
    value->bytes = claim(r, bytes);
    if (value->bytes)
        take(r, value->bytes, bytes);
}

static void take_value(reader *r, oct_gguf_value *value)
{
    value->key = take_name(r, "the length of a key");
    uint32_t type = take32(r);
    if (type >= OCT_GGUF_TYPES) {
        damaged(r, "the type of a value", type);
        return;
    }
    value->type = (oct_gguf_type)type;
    if (value->type == OCT_GGUF_ARRAY) {
        take_array(r, value);
    } else if (value->type == OCT_GGUF_STRING) {
        value->bytes = (uint8_t *)take_string(r, UINT64_MAX, &value->count);
    } else {
        value->bytes = claim(r, 8);
        if (value->bytes)
            take(r, value->bytes, oct_gguf_type_bytes(value->type));
    }
}

static void take_tensor(reader *r, oct_gguf_tensor *tensor)
{
    tensor->name = take_name(r, "the length of a tensor's name");
    uint32_t dimensions = take32(r);
    if (dimensions < 1 || dimensions > 4)
        damaged(r, "a tensor's number of dimensions", dimensions);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t n = i < dimensions && !r->status ? take64(r) : 1;
        if (n < 1 || n > ((uint64_t)1 << 48) / elements)
            damaged(r, "a dimension of a tensor", n);
        elements *= r->status ? 1 : n;
        tensor->shape[i] = (int64_t)n;
    }
    tensor->dimensions = (int)dimensions;
    tensor->type = take32(r);
    tensor->offset = take64(r);
    const oct_gguf_block_type *block = oct_gguf_block_describe(tensor->type);
    if (block && !r->status && tensor->shape[0] % block->columns)
        damaged(r, "the width of a tensor, no multiple of its block's,", (uint64_t)tensor->shape[0]);
    else if (block)
        tensor->bytes = elements / (uint64_t)block->columns * (uint64_t)block->bytes;
}

int oct_gguf_compare_names(const void *a, const void *b)
{
    return strcmp(((const oct_gguf_tensor *)a)->name, ((const oct_gguf_tensor *)b)->name);
}

// Tensor offsets count from the end of the header, rounded up to the alignment.
static void place_tensors(reader *r, oct_gguf *gguf)
{
    double alignment = 32;
    const oct_gguf_value *value = oct_gguf_find(gguf, "general.alignment");
    if (value && (!oct_gguf_number(value, &alignment) || !(alignment >= 1 && alignment <= 1 << 30)))
        damaged(r, "general.alignment", 0);
    if (r->status)
        return;
    uint64_t unit = (uint64_t)alignment, data = (r->at + unit - 1) / unit * unit;
    qsort(gguf->tensors, gguf->tensor_count, sizeof *gguf->tensors, oct_gguf_compare_names);
    for (uint64_t i = 0; i < gguf->tensor_count && !r->status; i++) {
        oct_gguf_tensor *tensor = &gguf->tensors[i];
        if (i && oct_gguf_compare_names(tensor - 1, tensor) == 0)
            r->status = oct_fail(OCT_ERR_FILE, "%s: two tensors are called %s", gguf->path, tensor->name);
        uint64_t room = gguf->file_bytes > data ? gguf->file_bytes - data : 0;
        if (tensor->offset > room || tensor->bytes > room - tensor->offset)
            r->status = oct_fail(
                OCT_ERR_FILE, "%s: truncated GGUF: tensor %s ends at byte %llu of %llu; fetch the file again",
                gguf->path, tensor->name, (unsigned long long)(data + tensor->offset + tensor->bytes),
                (unsigned long long)gguf->file_bytes);
        tensor->offset += data;
    }
}

static oct_status take_header(reader *r, oct_gguf *gguf)
{
    char magic[4];
    if (gguf->file_bytes < 4)
        return oct_fail(OCT_ERR_FILE, "%s has %llu bytes: no GGUF file", gguf->path,
                        (unsigned long long)gguf->file_bytes);
    take(r, magic, 4);
    gguf->version = take32(r);
    if (!r->status && memcmp(magic, "GGUF", 4))
        return oct_fail(OCT_ERR_FILE, "%s is no GGUF file: it does not begin with \"GGUF\"", gguf->path);
    if (!r->status && gguf->version >= 1 << 24)
        return oct_fail(OCT_ERR_FILE, "%s is a big-endian GGUF file; expected little endian", gguf->path);
    if (!r->status && (gguf->version < 2 || gguf->version > 3))
        return oct_fail(OCT_ERR_FILE, "%s is GGUF version %u; expected version 2 or 3", gguf->path,
                        gguf->version);
    gguf->tensor_count = take64(r);
    gguf->value_count = take64(r);
    if (gguf->tensor_count > ENTRIES_MAX || gguf->tensor_count > left(r) / 24)
        damaged(r, "the number of tensors", gguf->tensor_count);
    if (gguf->value_count > ENTRIES_MAX || gguf->value_count > left(r) / 13)
        damaged(r, "the number of metadata values", gguf->value_count);
    if (r->status)
        gguf->tensor_count = gguf->value_count = 0;
    return r->status;
}

static oct_status read_all(reader *r, oct_gguf *gguf)
{
    if (take_header(r, gguf))
        return r->status ? r->status : OCT_ERR_FILE;
    gguf->values = claim(r, gguf->value_count * sizeof *gguf->values);
    gguf->tensors = claim(r, gguf->tensor_count * sizeof *gguf->tensors);
    if (!gguf->values || !gguf->tensors)
        gguf->tensor_count = gguf->value_count = 0;
    for (uint64_t i = 0; i < gguf->value_count && !r->status; i++)
        take_value(r, &gguf->values[i]);
    for (uint64_t i = 0; i < gguf->tensor_count && !r->status; i++)
        take_tensor(r, &gguf->tensors[i]);
    if (!r->status)
        place_tensors(r, gguf);
    return r->status;
}

static oct_status open_file(oct_gguf *gguf, const char *path)
{
    struct stat about;
    gguf->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (gguf->fd < 0 || fstat(gguf->fd, &about))
        return oct_fail(OCT_ERR_FILE, "cannot open %s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode))
        return oct_fail(OCT_ERR_FILE, "%s is %s; expected a .gguf file", path,
                        S_ISDIR(about.st_mode) ? "a directory" : "no regular file");
    gguf->file_bytes = (uint64_t)about.st_size;
    gguf->path = strdup(path);
    return gguf->path ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory");
}

oct_status oct_gguf_open(oct_gguf *gguf, const char *path)
{
    *gguf = (oct_gguf){.fd = -1};
    oct_status status = open_file(gguf, path);
    reader *r = status ? NULL : calloc(1, sizeof *r);
    if (r) {
        r->gguf = gguf;
        status = read_all(r, gguf);
        free(r);
    } else if (!status) {
        status = oct_fail(OCT_ERR_MACHINE, "no memory");
    }
    if (status)
        oct_gguf_close(gguf);
    return status;
}

void oct_gguf_close(oct_gguf *gguf)
{
    for (uint64_t i = 0; i < gguf->value_count; i++) {
        free(gguf->values[i].key);
        free(gguf->values[i].bytes);
        free(gguf->values[i].strings.offsets);
        free(gguf->values[i].strings.bytes);
    }
    for (uint64_t i = 0; i < gguf->tensor_count; i++)
        free(gguf->tensors[i].name);
    free(gguf->values);
    free(gguf->tensors);
    if (gguf->path || gguf->fd > 0)
        close(gguf->fd);
    free(gguf->path);
    *gguf = (oct_gguf){.fd = -1};
}

oct_status oct_gguf_read(const oct_gguf *gguf, const oct_gguf_tensor *tensor, uint64_t offset, void *out,
                         uint64_t bytes)
{
    for (uint8_t *to = out; bytes;) {
        uint64_t most = bytes < 1 << 30 ? bytes : 1 << 30;
        ssize_t got = pread(gguf->fd, to, most, (off_t)(tensor->offset + offset));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return oct_fail(OCT_ERR_FILE, "%s: cannot read tensor %s: %s", gguf->path, tensor->name,
                            got < 0 ? strerror(errno) : "the file has become shorter");
        to += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return OCT_OK;
}
