#!/usr/bin/env python3
"""Makes tiny/: small random models of each family as GGUF files, and their logits.

For NAME in MODELS: tiny/NAME.gguf, tiny/NAME.tokens (a sequence a line) and tiny/NAME.golden (fp32 logits of
Hugging Face transformers, full vocabulary, every position). The weights are scaled so that attention is
neither flat nor one-hot and the logits are peaked. Needs torch, transformers, gguf, numpy.
"""
import os
import zlib
from importlib import metadata

import gguf
import numpy as np

import golden_format as golden
import reference_model

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "tiny")
F32, F16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
BF16, Q8_0 = gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.Q8_0
MERGES = 42

# Heads are uneven on purpose, FFN widths are no multiples of 64 (112 and 144: not even of 32), sequences pass
# the borders of cache pages (64 positions) and one passes an attention split (256).
MODELS = {
    "llama-tied": dict(architecture="llama", type=F16, layers=2, hidden=96, heads=3, kv_heads=1, head_dim=32,
                       ffn=144, tied=True, theta=10000.0, pre="smollm", lengths=[270]),
    "llama-untied": dict(architecture="llama", type=BF16, layers=2, hidden=96, heads=6, kv_heads=2, head_dim=32,
                         ffn=64, tied=False, theta=500000.0, pre="llama-bpe", lengths=[70, 20]),
    "llama3-rope": dict(architecture="llama", type=F32, layers=2, hidden=64, heads=2, kv_heads=1, head_dim=32,
                        ffn=96, tied=True, theta=10000.0, pre="llama-bpe", lengths=[96],
                        llama3=dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                    original_max_position_embeddings=256)),
    "qwen2": dict(architecture="qwen2", type=Q8_0, layers=2, hidden=160, heads=5, kv_heads=1, head_dim=32,
                  ffn=160, tied=True, theta=1000000.0, pre="qwen2", lengths=[70, 20]),
    "qwen3": dict(architecture="qwen3", type=BF16, layers=2, hidden=64, heads=7, kv_heads=1, head_dim=32,
                  ffn=112, tied=False, theta=1000000.0, pre="qwen2", lengths=[70, 20]),
}


def byte_alphabet():
    """The printable character that byte-level BPE writes for each byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table.update({byte: chr(256 + i) for i, byte in enumerate(rest)})
    return table


def vocabulary():
    """(tokens, types, merges): 256 bytes, 42 merges of common English pairs, three control tokens."""
    table = byte_alphabet()
    tokens = [table[byte] for byte in range(256)]
    space = table[32]
    pairs = ["t h", "i n", "e r", "a n", "th e", "o n", "r e", "a t", "e n", "o r", "e s", "i s", "o u", "i t",
             "a l", "a r", "s t", "in g", "e d", "an d", "t o", "o f", "h e", "l e", "i on"]
    merges = pairs + [f"{space} {word}" for word in
                      ("t", "a", "th", "s", "w", "o", "the", "b", "c", "to", "of", "and", "in", "is", "f", "m", "p")]
    assert len(merges) == MERGES
    tokens += [merge.replace(" ", "") for merge in merges]
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * 3
    return tokens + ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], types, merges


def llama3_divisors(spec):
    """rope_freqs.weight: what each frequency is divided by (Llama 3's rule, as in transformers'
    modeling_rope_utils: long waves by the factor, short ones not at all, between them interpolated)."""
    rule = spec["llama3"]
    inverse = spec["theta"] ** (-np.arange(0, spec["head_dim"], 2) / spec["head_dim"])
    turns = rule["original_max_position_embeddings"] * inverse / (2 * np.pi)
    low, high = rule["low_freq_factor"], rule["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / rule["factor"] + smooth)).astype(np.float32)


def weights(spec, tokens):
    """Tensors by GGUF name, in transformers' row order."""
    random = np.random.default_rng(zlib.crc32(spec["name"].encode()))
    draw = lambda gain, rows, columns: random.standard_normal((rows, columns)) * gain / np.sqrt(columns)
    norm = lambda size: 1.0 + 0.25 * random.standard_normal(size)
    hidden, width, kv = spec["hidden"], spec["heads"] * spec["head_dim"], spec["kv_heads"] * spec["head_dim"]
    out = {"token_embd.weight": draw(5.0, tokens, hidden)}
    for layer in range(spec["layers"]):
        tensors = {
            "attn_norm.weight": norm(hidden),
            "attn_q.weight": draw(1.5, width, hidden),
            "attn_k.weight": draw(1.5, kv, hidden),
            "attn_v.weight": draw(1.5, kv, hidden),
            "attn_output.weight": draw(2.0, hidden, width),
            "ffn_norm.weight": norm(hidden),
            "ffn_gate.weight": draw(1.5, spec["ffn"], hidden),
            "ffn_up.weight": draw(1.5, spec["ffn"], hidden),
            "ffn_down.weight": draw(1.5, hidden, spec["ffn"]),
        }
        if spec["architecture"] == "qwen2":
            for name, size in (("q", width), ("k", kv), ("v", kv)):
                tensors[f"attn_{name}.bias"] = 0.5 * random.standard_normal(size)
        if spec["architecture"] == "qwen3":
            tensors["attn_q_norm.weight"] = 1.2 * norm(spec["head_dim"])
            tensors["attn_k_norm.weight"] = 1.2 * norm(spec["head_dim"])
        out.update({f"blk.{layer}.{name}": value for name, value in tensors.items()})
    out["output_norm.weight"] = norm(hidden)
    if not spec["tied"]:
        out["output.weight"] = draw(4.0, tokens, hidden)
    return {name: value.astype(np.float32) for name, value in out.items()}


def write_model(spec, path):
    """Writes the GGUF as llama.cpp's converter would."""
    tokens, types, merges = vocabulary()
    writer = gguf.GGUFWriter(path, spec["architecture"])
    writer.add_name("tiny " + spec["name"])
    writer.add_context_length(512)
    writer.add_embedding_length(spec["hidden"])
    writer.add_block_count(spec["layers"])
    writer.add_feed_forward_length(spec["ffn"])
    writer.add_head_count(spec["heads"])
    writer.add_head_count_kv(spec["kv_heads"])
    writer.add_key_length(spec["head_dim"])
    writer.add_value_length(spec["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6 if spec["architecture"] != "llama" else 1e-5)
    writer.add_rope_freq_base(spec["theta"])
    if spec["architecture"] == "llama":
        writer.add_vocab_size(len(tokens))
        writer.add_rope_dimension_count(spec["head_dim"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(spec["pre"])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 3)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    for name, value in weights(spec, len(tokens)).items():
        if spec["architecture"] == "llama" and ".attn_q." in name:
            value = reference_model.interleave(value, spec["heads"])
        if spec["architecture"] == "llama" and ".attn_k." in name:
            value = reference_model.interleave(value, spec["kv_heads"])
        kind = F32 if value.ndim == 1 else spec["type"]
        # gguf-py's F16 and F32 are plain numpy types; the others are packed bytes with their type beside them.
        if kind in (F32, F16):
            writer.add_tensor(name, value.astype(np.float16 if kind == F16 else np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    if "llama3" in spec:
        writer.add_tensor("rope_freqs.weight", llama3_divisors(spec))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return len(tokens)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    for name, spec in MODELS.items():
        spec["name"] = name
        path = os.path.join(FOLDER, name + ".gguf")
        count = write_model(spec, path)
        random = np.random.default_rng(zlib.crc32((name + " tokens").encode()))
        sequences = [[int(id) for id in random.integers(0, count, length)] for length in spec["lengths"]]
        with open(os.path.join(FOLDER, name + ".tokens"), "w", encoding="ascii") as file:
            file.writelines(" ".join(map(str, sequence)) + "\n" for sequence in sequences)
        extra = {"octet.test.llama3_rope": spec["llama3"]} if "llama3" in spec else None
        logits = np.concatenate(reference_model.logits(path, sequences, extra))
        header = {
            "what": "logits of every position, fp32",
            "model": name + ".gguf",
            "tokens": name + ".tokens",
            "vocabulary": count,
            "reference": "transformers, fp32, eager attention, weights dequantised from the GGUF",
            "versions": {package: metadata.version(package) for package in ("torch", "transformers", "gguf")},
        }
        golden.write(os.path.join(FOLDER, name + ".golden"), header, {"logits": logits})
        top = np.sort(np.exp(golden.log_softmax(logits)), axis=1)
        print(f"{name}: {os.path.getsize(path)} bytes, range {np.ptp(logits):.1f}, "
              f"mean probability of the best token {top[:, -1].mean():.2f}, "
              f"distinct best tokens {len(set(logits.argmax(axis=1)))} of {len(logits)}")


if __name__ == "__main__":
    main()
