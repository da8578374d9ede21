// Random weights in a named shape, made strip by strip in the encoding that is written: any bytes are valid
// codes, so no weight is ever quantised. What a strip holds depends on shape, tensor, tile and range alone.
#include "checkpoints/synthetic.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "checkpoints/source.h"

typedef struct synthetic_state {
    uint64_t seed;
    double scale;
} synthetic_state;

// splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// Uniform in [−1, 1).
static float next_uniform(uint64_t *state)
{
    return (float)(int32_t)(next_random(state) >> 32) * 0x1p-31f;
}

static uint64_t key(const synthetic_state *s, int32_t index, int64_t tile, int64_t first)
{
    uint64_t words[] = {s->seed, (uint64_t)index, (uint64_t)tile, (uint64_t)first};
    return XXH3_64bits(words, sizeof words);
}

// The standard deviation of a tensor's weights. With 1/√K a product keeps the size of its input. Embeddings
// are small beside what the FFNs add (about 2.4 in all), or a tied head would repeat the last token for ever;
// the first attention is as small as they are, or the FFNs would see the average of the prompt and little
// else.
static double deviation(const oct_source *source, int32_t index)
{
    const oct_tensor_spec *spec = &source->specs[index];
    const synthetic_state *state = source->state;
    double plain = state->scale / sqrt((double)spec->columns), deep = sqrt(source->model.layers);
    if (spec->layer < 0)
        return 2 * plain;
    if (spec->split != OCT_SPLIT_COLUMNS)
        return plain;
    if (strstr(spec->name, ".down"))
        return 4 * plain / deep;
    return spec->layer == 0 ? 2 * plain / sqrt(source->model.hidden) : plain / deep;
}

static void fill_random(uint8_t *out, size_t bytes, uint64_t *state)
{
    for (; bytes >= 8; bytes -= 8, out += 8) {
        uint64_t r = next_random(state);
        memcpy(out, &r, 8);
    }
    uint64_t r = next_random(state);
    memcpy(out, &r, bytes);
}

// A block of q4 or q8: scales that vary by a quarter, zero in rows behind the matrix; then random codes.
// Uniform codes have a mean of −1/2; scales of either sign keep it from adding up.
static void make_integer_block(const oct_encoding_info *info, int n, double wanted, int rows, uint64_t *state,
                               uint8_t *out)
{
    double spread =
        sqrt(((double)(1 << info->low_bits) * (1 << info->low_bits) - 1) / 12); // of uniform codes
    float unit = (float)(wanted / spread);
    for (int g = 0; g < n / info->group; g++)
        for (int row = 0; row < 16; row++, out += 2) {
            float varied = 1 + next_uniform(state) / 4;
            bool negative = next_random(state) & 1;
            uint16_t half = row < rows ? oct_f32_to_f16(negative ? -unit * varied : unit * varied) : 0;
            memcpy(out, &half, 2);
        }
    fill_random(out, (size_t)n * 2 * (size_t)info->low_bits, state);
}

// A block of q2_k or q2: S varies from 8 to 15, and T = S with M = −1.5 D puts the middle of the codes at zero.
static void make_pair_block(const oct_encoding_info *info, int n, double wanted, int rows, uint64_t *state,
                            uint8_t *out)
{
    const double spread = sqrt(15.0 / 12), middle_factor = 11.5;
    const float unit = (float)(wanted / spread / middle_factor);
    const uint16_t d = oct_f32_to_f16(unit), m = oct_f32_to_f16(-1.5f * unit);
    for (int row = 0; row < 32; row++, out += 2)
        memcpy(out, row % 16 >= rows ? &(uint16_t){0} : row < 16 ? &d : &m, 2);
    for (int at = 0; at < 16 * n / info->group; at++) {
        const uint8_t factor = (uint8_t)(8 + (next_random(state) & 7));
        *out++ = (uint8_t)(factor | factor << 4);
    }
    fill_random(out, (size_t)n * 4, state);
}

static void make_float_block(oct_encoding encoding, int n, double wanted, int rows, uint64_t *state,
                             uint8_t *out)
{
    float unit = (float)(wanted * sqrt(3)); // uniform numbers have a deviation of 1/√3
    int pair = encoding == OCT_F32 ? 1 : 2;
    for (int at = 0; at < n * 16; at++) {
        float value = at / pair % 16 < rows ? unit * next_uniform(state) : 0;
        uint16_t half = encoding == OCT_F16 ? oct_f32_to_f16(value) : oct_f32_to_bf16(value);
        if (encoding == OCT_F32)
            memcpy(out + (size_t)at * 4, &value, 4);
        else
            memcpy(out + (size_t)at * 2, &half, 2);
    }
}

static void make_strip(oct_source *source, int32_t index, int64_t tile, oct_encoding encoding, int64_t first,
                       int64_t last, uint8_t *strip)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    const oct_tensor_spec *spec = &source->specs[index];
    uint64_t state = key(source->state, index, tile, first);
    double wanted = deviation(source, index);
    int64_t rows = spec->rows - tile * OCT_TILE_ROWS;
    assert((last - first) % OCT_COLUMN_MULTIPLE == 0); // the shapes have no columns to pad
    while (first < last) {
        int64_t border = (first / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
        int n = (int)((border < last ? border : last) - first);
        int used = rows < OCT_TILE_ROWS ? (int)rows : OCT_TILE_ROWS;
        if (info->float_bytes)
            make_float_block(encoding, n, wanted, used, &state, strip);
        else if (info->scale == OCT_SCALE_FACTOR_U4)
            make_pair_block(info, n, wanted, used, &state, strip);
        else
            make_integer_block(info, n, wanted, used, &state, strip);
        strip += oct_block_bytes(encoding, n);
        first += n;
    }
}

// Norms are about one, biases small.
static oct_status read_vector(oct_source *source, int32_t index, float *out)
{
    const oct_tensor_spec *spec = &source->specs[index];
    uint64_t state = key(source->state, index, 0, 0);
    bool norm = strstr(spec->name, "norm") != NULL;
    for (int64_t i = 0; i < spec->rows; i++)
        out[i] = (norm ? 1 : 0) + next_uniform(&state) / 8;
    return OCT_OK;
}

static void release(oct_source *source)
{
    free(source->state);
}

static oct_status fill(oct_source *source, const char *shape)
{
    synthetic_state *state = source->state;
    source->specs = oct_model_tensors(&source->model, &source->count);
    source->tensors = source->specs ? calloc((size_t)source->count, sizeof *source->tensors) : NULL;
    if (!source->tensors)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the list of tensors");
    for (int32_t i = 0; i < source->count; i++) {
        source->tensors[i].encoding = OCT_Q4;
        memcpy(source->tensors[i].type, "random", 7);
    }
    json_t *object =
        json_pack("{s:s, s:s, s:f}", "kind", "synthetic", "source", shape, "scale", state->scale);
    source->provenance = object ? json_dumps(object, 0) : NULL;
    json_decref(object);
    return source->provenance ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory");
}

oct_status oct_source_open_synthetic(oct_source *source, const char *shape, double scale)
{
    *source = (oct_source){.read_vector = read_vector, .make_strip = make_strip, .release = release};
    oct_status status = oct_synthetic_model(shape, &source->model);
    synthetic_state *state = status ? NULL : calloc(1, sizeof *state);
    if (!status && !state)
        status = oct_fail(OCT_ERR_MACHINE, "no memory");
    if (status)
        return status;
    *state = (synthetic_state){.seed = XXH3_64bits(shape, strlen(shape)), .scale = scale};
    source->state = state;
    status = oct_synthetic_vocabulary(source->model.vocabulary, &source->vocabulary);
    if (!status)
        status = fill(source, shape);
    if (status)
        oct_source_close(source);
    return status;
}
