"""Logits of Hugging Face transformers in fp32 with the weights of a GGUF file (llama, qwen2, qwen3).

The weights are dequantised by gguf-py. llama.cpp's converter permutes the rows of q and k of the llama
architecture from rotate-half order (pairs i, i + d/2) to interleaved order (pairs 2i, 2i + 1); this undoes
it. Needs torch, transformers, gguf, numpy.
"""
import numpy as np

# GGUF name -> transformers name, inside model.layers.N.
LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def interleave(weight, heads):
    """Rows of each head from rotate-half to interleaved order, as llama.cpp's converter stores them."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def uninterleave(weight, heads):
    """The inverse of interleave."""
    rows = weight.shape[0]
    return weight.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def configuration(fields, tensors):
    """A transformers configuration from GGUF metadata. Returns (model class, configuration)."""
    import transformers

    architecture = fields["general.architecture"]
    get = lambda name, default=None: fields.get(f"{architecture}.{name}", default)
    classes = {
        "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig),
        "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config),
        "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config),
    }
    if architecture not in classes:
        raise SystemExit(f"architecture {architecture}: expected one of {sorted(classes)}")
    model_class, config_class = classes[architecture]
    hidden, heads = get("embedding_length"), get("attention.head_count")
    rope = {"rope_type": "default", "rope_theta": float(get("rope.freq_base", 10000.0))}
    if "rope_freqs.weight" in tensors:
        rope = dict(fields["octet.test.llama3_rope"], rope_theta=rope["rope_theta"], rope_type="llama3")
    return model_class, config_class(
        vocab_size=tensors["token_embd.weight"].shape[0],
        hidden_size=hidden,
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv", heads),
        head_dim=get("attention.key_length", hidden // heads),
        max_position_embeddings=get("context_length"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters=rope,
        tie_word_embeddings="output.weight" not in tensors,
        attn_implementation="eager",
    )


def load(path, extra_fields=None):
    """The transformers model with the GGUF's weights."""
    import gguf
    import torch

    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()
              if not name.startswith("tokenizer.")}
    fields.update(extra_fields or {})
    tensors = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
               for tensor in reader.tensors}
    model_class, config = configuration(fields, tensors)
    state = {}
    for name, value in tensors.items():
        if name == "rope_freqs.weight":
            continue
        if fields["general.architecture"] == "llama" and ".attn_q." in name:
            value = uninterleave(value, config.num_attention_heads)
        if fields["general.architecture"] == "llama" and ".attn_k." in name:
            value = uninterleave(value, config.num_key_value_heads)
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            state[f"model.layers.{layer}.{LAYER_NAMES[rest]}"] = torch.from_numpy(value.copy())
        else:
            state[GLOBAL_NAMES[name]] = torch.from_numpy(value.copy())
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    with torch.device("cpu"):
        model = model_class(config).to(torch.float32)
    model.load_state_dict(state, strict=True)
    model.eval()
    return model


def logits(path, sequences, extra_fields=None):
    """[positions, vocabulary] fp32 logits of each sequence, from an empty cache."""
    import torch

    model = load(path, extra_fields)
    out = []
    with torch.no_grad():
        for sequence in sequences:
            out.append(model(torch.tensor([sequence]), use_cache=False).logits[0].float().numpy())
    return out
