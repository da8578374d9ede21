// A GGUF file as the source of a checkpoint: which of its tensors is which of the model's, and their tiles.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/checksum.h"
#include "checkpoints/gguf.h"
#include "checkpoints/gguf_blocks.h"
#include "checkpoints/gguf_model.h"
#include "checkpoints/source.h"
#include "runtime/progress.h"

typedef struct gguf_state {
    oct_gguf gguf;
    const oct_gguf_tensor **tensors; // [count] of each tensor of the model
    uint8_t *rows;                   // 16 rows of the widest tensor
} gguf_state;

// Names of a layer's tensors; the model's own name first.
static const struct {
    const char *name, *gguf;
} names[] = {
    {"embedding", "token_embd.weight"},
    {"output_norm", "output_norm.weight"},
    {"head", "output.weight"},
    {"attention_norm", "attn_norm.weight"},
    {"q", "attn_q.weight"},
    {"k", "attn_k.weight"},
    {"v", "attn_v.weight"},
    {"q_bias", "attn_q.bias"},
    {"k_bias", "attn_k.bias"},
    {"v_bias", "attn_v.bias"},
    {"q_norm", "attn_q_norm.weight"},
    {"k_norm", "attn_k_norm.weight"},
    {"o", "attn_output.weight"},
    {"ffn_norm", "ffn_norm.weight"},
    {"gate", "ffn_gate.weight"},
    {"up", "ffn_up.weight"},
    {"down", "ffn_down.weight"},
};

static void gguf_name(const oct_tensor_spec *spec, char *out, size_t size)
{
    const char *base = spec->layer < 0 ? spec->name : strrchr(spec->name, '.') + 1;
    const char *found = base;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, base) == 0)
            found = names[i].gguf;
    if (spec->layer < 0)
        snprintf(out, size, "%s", found);
    else
        snprintf(out, size, "blk.%d.%s", spec->layer, found);
}

static oct_status bind_matrix(const oct_gguf *gguf, const oct_gguf_tensor *tensor, oct_source_tensor *out)
{
    const oct_gguf_block_type *block = oct_gguf_block_describe(tensor->type);
    if (!block)
        return oct_fail(OCT_ERR_FILE, "%s: tensor %s has block type number %u, which Octet does not know",
                        gguf->path, tensor->name, tensor->type);
    if (block->encoding < 0)
        return oct_fail(OCT_ERR_FILE, "%s: tensor %s has block type %s, which Octet does not support",
                        gguf->path, tensor->name, block->name);
    out->encoding = (oct_encoding)block->encoding;
    snprintf(out->type, sizeof out->type, "%s", block->name);
    return OCT_OK;
}

static oct_status bind_vector(const oct_gguf *gguf, const oct_gguf_tensor *tensor, oct_source_tensor *out)
{
    const oct_gguf_block_type *block = oct_gguf_block_describe(tensor->type);
    if (!block || block->columns != 1 || block->encoding < 0)
        return oct_fail(OCT_ERR_FILE, "%s: vector %s has block type %s; expected F32, F16 or BF16",
                        gguf->path, tensor->name, block ? block->name : "unknown");
    out->encoding = OCT_F32;
    snprintf(out->type, sizeof out->type, "%s", block->name);
    return OCT_OK;
}

static oct_status bind_tensor(oct_source *source, gguf_state *state, int32_t i)
{
    const oct_tensor_spec *spec = &source->specs[i];
    char name[96];
    gguf_name(spec, name, sizeof name);
    const oct_gguf_tensor *tensor = oct_gguf_find_tensor(&state->gguf, name);
    if (!tensor)
        return oct_fail(OCT_ERR_FILE, "%s: tensor %s is missing", state->gguf.path, name);
    bool vector = spec->split == OCT_SPLIT_NONE;
    int64_t columns = vector ? spec->rows : spec->columns, rows = vector ? 1 : spec->rows;
    const int64_t *shape = tensor->shape;
    if (shape[0] != columns || shape[1] != rows || shape[2] != 1 || shape[3] != 1)
        return oct_fail(OCT_ERR_FILE, "%s: tensor %s is %lld × %lld × %lld; expected %lld × %lld",
                        state->gguf.path, name, (long long)shape[0], (long long)shape[1],
                        (long long)(shape[2] * shape[3]), (long long)columns, (long long)rows);
    state->tensors[i] = tensor;
    return vector ? bind_vector(&state->gguf, tensor, &source->tensors[i])
                  : bind_matrix(&state->gguf, tensor, &source->tensors[i]);
}

// A tensor that nothing uses would make another model of it than its makers meant: refused.
static oct_status check_unused(const oct_source *source, const gguf_state *state)
{
    const oct_gguf *gguf = &state->gguf;
    uint64_t extra = oct_gguf_find_tensor(gguf, "rope_freqs.weight") != NULL;
    if (gguf->tensor_count == (uint64_t)source->count + extra)
        return OCT_OK;
    for (uint64_t i = 0; i < gguf->tensor_count; i++) {
        bool used = strcmp(gguf->tensors[i].name, "rope_freqs.weight") == 0;
        for (int32_t j = 0; j < source->count && !used; j++)
            used = state->tensors[j] == &gguf->tensors[i];
        if (!used)
            return oct_fail(OCT_ERR_FILE, "%s: tensor %s has no place in a %s model", gguf->path,
                            gguf->tensors[i].name, source->model.family);
    }
    return OCT_OK;
}

static oct_status read_vector(oct_source *source, int32_t index, float *out)
{
    gguf_state *state = source->state;
    const oct_gguf_tensor *tensor = state->tensors[index];
    uint8_t *bytes = malloc(tensor->bytes);
    if (!bytes)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a vector");
    oct_status status = oct_gguf_read(&state->gguf, tensor, 0, bytes, tensor->bytes);
    oct_encoding encoding = (oct_encoding)oct_gguf_block_describe(tensor->type)->encoding;
    for (int64_t i = 0; i < tensor->shape[0] && !status; i++) {
        const uint8_t *at = bytes + i * (encoding == OCT_F32 ? 4 : 2);
        uint16_t half = (uint16_t)(at[0] | at[1] << 8);
        if (encoding == OCT_F32)
            memcpy(out + i, at, sizeof *out);
        else
            out[i] = encoding == OCT_F16 ? oct_f16_to_f32(half) : oct_bf16_to_f32(half);
    }
    free(bytes);
    return status;
}

static uint64_t row_bytes(const oct_gguf_tensor *tensor)
{
    return tensor->bytes / (uint64_t)tensor->shape[1];
}

static oct_status read_tile(oct_source *source, int32_t index, int64_t tile, oct_tile *out)
{
    gguf_state *state = source->state;
    const oct_gguf_tensor *tensor = state->tensors[index];
    int64_t first = tile * OCT_TILE_ROWS, rows = tensor->shape[1] - first;
    uint64_t stride = row_bytes(tensor);
    rows = rows < OCT_TILE_ROWS ? rows : OCT_TILE_ROWS;
    oct_status status =
        oct_gguf_read(&state->gguf, tensor, (uint64_t)first * stride, state->rows, (uint64_t)rows * stride);
    if (status)
        return status;
    oct_tile_reset(out, source->tensors[index].encoding);
    for (int row = 0; row < rows; row++)
        oct_gguf_unpack_row(tensor->type, state->rows + (uint64_t)row * stride, tensor->shape[0], out, row);
    return OCT_OK;
}

static void release(oct_source *source)
{
    gguf_state *state = source->state;
    oct_gguf_close(&state->gguf);
    free(state->tensors);
    free(state->rows);
    free(state);
}

// XXH3-64 of the whole file.
static oct_status hash_file(const oct_gguf *gguf, uint64_t *hash)
{
    enum { PIECE = 1 << 20 };
    XXH3_state_t *stream = XXH3_createState();
    uint8_t *piece = malloc(PIECE);
    oct_status status = stream && piece ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory");
    if (!status)
        XXH3_64bits_reset(stream);
    oct_gguf_tensor whole = {.name = (char *)"(the whole file)", .offset = 0};
    for (uint64_t at = 0; at < gguf->file_bytes && !status; at += PIECE) {
        uint64_t n = gguf->file_bytes - at < PIECE ? gguf->file_bytes - at : PIECE;
        status = oct_gguf_read(gguf, &whole, at, piece, n);
        if (!status)
            oct_checksum_update(stream, piece, n);
        oct_progress_bump();
    }
    *hash = status ? 0 : XXH3_64bits_digest(stream);
    XXH3_freeState(stream);
    free(piece);
    return status;
}

static oct_status describe(oct_source *source, const oct_gguf *gguf)
{
    uint64_t hash;
    oct_status status = hash_file(gguf, &hash);
    if (status)
        return status;
    const char *slash = strrchr(gguf->path, '/');
    char base[256], hex[20];
    size_t used = 0;
    for (const char *c = slash ? slash + 1 : gguf->path; *c && used + 1 < sizeof base; c++)
        base[used++] = *c >= ' ' && *c < 127 ? *c : '?';
    base[used] = '\0';
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    json_t *object =
        json_pack("{s:s, s:s, s:I, s:s, s:i}", "kind", "gguf", "source", base, "source_bytes",
                  (json_int_t)gguf->file_bytes, "source_xxh3", hex, "gguf_version", (int)gguf->version);
    source->provenance = object ? json_dumps(object, 0) : NULL;
    json_decref(object);
    return source->provenance ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory");
}

static oct_status bind(oct_source *source, gguf_state *state)
{
    source->specs = oct_model_tensors(&source->model, &source->count);
    source->tensors = source->specs ? calloc((size_t)source->count, sizeof *source->tensors) : NULL;
    state->tensors = source->tensors ? calloc((size_t)source->count, sizeof *state->tensors) : NULL;
    if (!state->tensors)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the list of tensors");
    uint64_t widest = 0;
    for (int32_t i = 0; i < source->count; i++) {
        oct_status status = bind_tensor(source, state, i);
        if (status)
            return status;
        uint64_t stride = row_bytes(state->tensors[i]);
        widest = stride > widest ? stride : widest;
    }
    state->rows = malloc(widest * OCT_TILE_ROWS);
    if (!state->rows)
        return oct_fail(OCT_ERR_MACHINE, "no memory for 16 rows of %llu bytes", (unsigned long long)widest);
    return check_unused(source, state);
}

oct_status oct_source_open_gguf(oct_source *source, const char *path)
{
    *source = (oct_source){.read_vector = read_vector, .read_tile = read_tile, .release = release};
    gguf_state *state = calloc(1, sizeof *state);
    if (!state)
        return oct_fail(OCT_ERR_MACHINE, "no memory");
    source->state = state;
    oct_status status = oct_gguf_open(&state->gguf, path);
    if (!status)
        status = oct_gguf_read_model(&state->gguf, &source->model);
    if (!status)
        status = oct_gguf_read_vocabulary(&state->gguf, &source->vocabulary);
    if (!status)
        status = bind(source, state);
    if (!status)
        status = describe(source, &state->gguf);
    if (status)
        oct_source_close(source);
    return status;
}
