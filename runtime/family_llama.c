// The Llama family: pre-norm residual, RMSNorm, grouped-query attention, RoPE, SwiGLU. Qwen2 adds biases to q, k
// and v, Qwen3 a norm of each q and k head; both are properties of the model description.
// Sources: Touvron et al. 2023 (Llama 2), section 2; Qwen2 (2024) section 2.2; Qwen3 (2025) section 2.
#include "runtime/families.h"

static void write_attention(oct_step_program *program, int32_t layer)
{
    const oct_model *model = &program->model;
    oct_operation *qkv = oct_program_add(program, OCT_OP_QKV, layer);
    qkv->vectors[0] = oct_program_add_vector(program, "layers.%d.attention_norm", layer);
    qkv->matrices[0] = oct_program_add_matrix(program, "layers.%d.q", layer);
    qkv->matrices[1] = oct_program_add_key_value(program, "layers.%d.k", layer);
    qkv->matrices[2] = oct_program_add_key_value(program, "layers.%d.v", layer);
    oct_operation *rope = oct_program_add(program, OCT_OP_ROPE_CACHE, layer);
    if (model->qkv_bias) {
        rope->vectors[0] = oct_program_add_vector(program, "layers.%d.q_bias", layer);
        rope->vectors[1] = oct_program_add_vector(program, "layers.%d.k_bias", layer);
        rope->vectors[2] = oct_program_add_vector(program, "layers.%d.v_bias", layer);
    }
    if (model->qk_norm) {
        rope->vectors[3] = oct_program_add_vector(program, "layers.%d.q_norm", layer);
        rope->vectors[4] = oct_program_add_vector(program, "layers.%d.k_norm", layer);
    }
    oct_program_add(program, OCT_OP_ATTENTION, layer);
    oct_program_add(program, OCT_OP_OUTPUT, layer)->matrices[0] =
        oct_program_add_matrix(program, "layers.%d.o", layer);
}

static void write_ffn(oct_step_program *program, int32_t layer)
{
    oct_operation *gate_up = oct_program_add(program, OCT_OP_GATE_UP, layer);
    gate_up->vectors[0] = oct_program_add_vector(program, "layers.%d.ffn_norm", layer);
    gate_up->matrices[0] = oct_program_add_matrix(program, "layers.%d.gate", layer);
    gate_up->matrices[1] = oct_program_add_matrix(program, "layers.%d.up", layer);
    oct_program_add(program, OCT_OP_DOWN, layer)->matrices[0] =
        oct_program_add_matrix(program, "layers.%d.down", layer);
}

static void write_program(oct_step_program *program)
{
    oct_program_add(program, OCT_OP_EMBED, -1)->matrices[0] = oct_program_add_matrix(program, "embedding", -1);
    for (int32_t layer = 0; layer < program->model.layers; layer++) {
        write_attention(program, layer);
        write_ffn(program, layer);
    }
    oct_operation *head = oct_program_add(program, OCT_OP_HEAD, -1);
    head->vectors[0] = oct_program_add_vector(program, "output_norm", -1);
    head->matrices[0] = oct_program_add_matrix(program, program->model.tied ? "embedding" : "head", -1);
}

const oct_family oct_family_llama = {"llama", write_program};
const oct_family oct_family_qwen2 = {"qwen2", write_program};
const oct_family oct_family_qwen3 = {"qwen3", write_program};
