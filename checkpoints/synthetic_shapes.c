// The shapes of synthetic models. Sizes are those of the models' published config.json.
#include <stdio.h>
#include <string.h>

#include "checkpoints/source.h"
#include "checkpoints/synthetic.h"

typedef struct shape {
    const char *name, *summary, *family;
    int32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocabulary, context;
    float theta;
    bool tied, biases, norms, llama3_rope;
} shape;

static const shape shapes[] = {
    {"tiny", "llama, 2 layers, under 1 MB, for tests", "llama", 2, 128, 4, 2, 32, 352, 384, 2048, 1e4f, true,
     false, false, false},
    {"heads-9-3", "llama, 2 layers, 9 query and 3 key-value heads, for tests", "llama", 2, 288, 9, 3, 32, 416,
     384, 2048, 1e4f, true, false, false, false},
    {"heads-28-4", "qwen2, 2 layers, 28 query and 4 key-value heads, for tests", "qwen2", 2, 896, 28, 4, 32,
     1184, 512, 2048, 1e6f, false, true, false, false},
    {"qwen3-tiny", "qwen3, 2 layers, heads wider than hidden, for tests", "qwen3", 2, 128, 6, 2, 64, 320, 384,
     2048, 1e6f, true, false, true, false},
    {"smollm2-135m", "SmolLM2 135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, 8192, 1e5f, true, false, false,
     false},
    {"qwen2-0.5b", "Qwen2.5 0.5B", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, 32768, 1e6f, true, true, false,
     false},
    {"qwen3-0.6b", "Qwen3 0.6B", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 40960, 1e6f, true, false, true,
     false},
    {"llama-1.1b", "TinyLlama 1.1B", "llama", 22, 2048, 32, 4, 64, 5632, 32000, 2048, 1e4f, false, false,
     false, false},
    {"llama-3b", "Llama 3.2 3B", "llama", 28, 3072, 24, 8, 128, 8192, 128256, 131072, 5e5f, true, false,
     false, true},
    {"llama-8b", "Llama 3.1 8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 5e5f, false, false,
     false, true},
    {"llama-70b", "Llama 3.1 70B", "llama", 80, 8192, 64, 8, 128, 28672, 128256, 131072, 5e5f, false, false,
     false, true},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

const char *const *oct_synthetic_shapes(void)
{
    static const char *names[SHAPES + 1];
    for (int i = 0; i < SHAPES; i++)
        names[i] = shapes[i].name;
    return names;
}

const char *oct_synthetic_summary(int i)
{
    return shapes[i].summary;
}

// Divisors in the manner of Llama 3: long waves are slowed by 8, short ones not, with a ramp between.
static float long_wave_divisor(int i, int dims)
{
    float place = (float)i / (float)(dims / 2 - 1); // 0: the shortest wave
    return place < 0.5f ? 1 : place > 0.75f ? 8 : 1 + (place - 0.5f) * 28;
}

oct_status oct_synthetic_model(const char *name, oct_model *m)
{
    const shape *s = NULL;
    for (int i = 0; i < SHAPES; i++)
        if (strcmp(shapes[i].name, name) == 0)
            s = &shapes[i];
    if (!s)
        return oct_fail(OCT_ERR_USAGE, "--synthetic %s is no known shape; octet import --help lists them",
                        name);
    memset(m, 0, sizeof *m);
    snprintf(m->family, sizeof m->family, "%s", s->family);
    snprintf(m->name, sizeof m->name, "synthetic %s", s->name);
    m->layers = s->layers;
    m->hidden = s->hidden;
    m->heads = s->heads;
    m->kv_heads = s->kv_heads;
    m->head_dim = m->rope_dims = s->head_dim;
    m->ffn = s->ffn;
    m->vocabulary = s->vocabulary;
    m->context = s->context;
    m->norm_epsilon = 1e-5f;
    m->rope_theta = s->theta;
    m->rope_convention = strcmp(s->family, "llama") ? OCT_ROPE_HALVES : OCT_ROPE_PAIRS;
    for (int i = 0; i < m->rope_dims / 2; i++)
        m->rope_divisors[i] = s->llama3_rope ? long_wave_divisor(i, m->rope_dims) : 1;
    m->tied = s->tied;
    m->qkv_bias = s->biases;
    m->qk_norm = s->norms;
    return oct_model_check(m);
}
