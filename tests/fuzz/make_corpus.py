#!/usr/bin/env python3
"""Makes the folders of corpus/. Needs no packages.

gguf: very small but valid models with every block type between them; control: a message of each kind as
ranks/control_message.h has it, on a little-endian machine."""
import pathlib
import random
import struct

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
# Number, columns and bytes of each block type (ggml.h, ggml-common.h).
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22),
         "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
         "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "IQ4_NL": (20, 32, 18),
         "BF16": (30, 1, 2)}

# Byte offsets of a block's fp16 numbers: finite ones, so that values can be compared.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": [0], "BF16": [0]}


def random_blocks(kind, count):
    block = TYPES[kind][2]
    data = bytearray(random.randbytes(count * block))
    for at in range(0, len(data), block):
        for half in HALVES[kind]:
            data[at + half + 1] = data[at + half + 1] & 0x83 | 0x2c
    return bytes(data)


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def texts(values):
    return struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values))


def model(architecture, width, kinds, divisors):
    """One layer, one head of 32, FFN 32; kinds gives the types of the seven matrices and the embedding."""
    def number(key, value):
        return pair(f"{architecture}.{key}", U32, struct.pack("<I", value))

    tokens = ["a", "b", "ab", "<|im_end|>"]
    pairs = [pair("general.architecture", STRING, text(architecture)), number("block_count", 1),
             number("embedding_length", width), number("feed_forward_length", 32), number("context_length", 64),
             number("attention.head_count", 1), number("attention.key_length", 32),
             number("attention.value_length", 32), number("rope.dimension_count", 32),
             pair(f"{architecture}.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", 1e-5)),
             pair("tokenizer.ggml.model", STRING, text("gpt2")),
             pair("tokenizer.ggml.tokens", ARRAY, texts(tokens)),
             pair("tokenizer.ggml.merges", ARRAY, texts(["a b"])),
             pair("tokenizer.ggml.token_type", ARRAY, struct.pack("<IQ4i", 5, 4, 1, 1, 1, 3)),
             pair("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ4f", 6, 4, 0, 0, 0, 0)),
             pair("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", 3)),
             pair("tokenizer.ggml.add_bos_token", BOOL, b"\0")]
    tensors = [("token_embd.weight", width, len(tokens), kinds[0]), ("output_norm.weight", width, 0, "F32"),
               ("blk.0.attn_norm.weight", width, 0, "F32"), ("blk.0.ffn_norm.weight", width, 0, "F32"),
               ("blk.0.attn_q.weight", width, 32, kinds[1]), ("blk.0.attn_k.weight", width, 32, kinds[2]),
               ("blk.0.attn_v.weight", width, 32, kinds[3]), ("blk.0.attn_output.weight", 32, width, kinds[4]),
               ("blk.0.ffn_gate.weight", width, 32, kinds[5]), ("blk.0.ffn_up.weight", width, 32, kinds[6]),
               ("blk.0.ffn_down.weight", 32, width, kinds[7])]
    if divisors:
        tensors.append(("rope_freqs.weight", 16, 0, "F32"))
    if architecture == "qwen2":
        tensors += [(f"blk.0.attn_{part}.bias", 32, 0, "F32") for part in "qkv"]
    infos, data = b"", b""
    for name, columns, rows, kind in tensors:
        code, block, size = TYPES[kind]
        infos += text(name) + struct.pack("<I", 2 if rows else 1) + struct.pack("<Q", columns)
        infos += (struct.pack("<Q", rows) if rows else b"") + struct.pack("<IQ", code, len(data))
        length = columns // block * size * max(rows, 1)
        data += struct.pack("<f", 1.5) * (length // 4) if kind == "F32" else random_blocks(kind, length // size)
        data += bytes(-len(data) % 32)
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)) + b"".join(pairs) + infos
    return header + bytes(-len(header) % 32) + data


def message(kind, payload=b""):
    return struct.pack("<QiI", 1, kind, len(payload)) + payload


def cut_list(cuts):
    return b"".join(struct.pack("<ii", slot, length) for slot, length in cuts)


def step(columns, cuts):
    return struct.pack("<ii", len(columns), len(cuts)) + b"".join(struct.pack("<4i", *c) for c in columns) + cut_list(cuts)


def sequence(slot, biases, tokens, prompt_count, cuts):
    """oct_control_sequence; its sampling: seed, temperature, top-k, top-p, min-p, three penalties, logprobs, biases."""
    sampling = struct.pack("<QfifffffiI", 7, 0.8, 40, 0.95, 0.05, 1.2, 0.4, 0.3, 2, len(biases))
    sampling += b"".join(struct.pack("<if", token, bias) for token, bias in biases)
    sampling = sampling.ljust(8 + 9 * 4 + 300 * 8, b"\0") + bytes(4)
    head = struct.pack("<4i", slot, len(cuts), len(tokens), prompt_count) + sampling
    return head + struct.pack(f"<{len(tokens)}i", *tokens) + cut_list(cuts)


def write_control():
    folder = pathlib.Path(__file__).parent / "corpus" / "control"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"sequence": sequence(3, [(17, 3.5), (30, -100)], [5, 999, 0], 2, [(3, 0)]),
             "step": step([(17, 0, 0, 1), (999, 3, 1, 0), (0, 2, 2, 0)], [(1, 0), (2, 100)]),
             "logits": struct.pack("<i", 7), "probe": b"", "touch": struct.pack("<q", 256), "idle": b"", "pass": b"",
             "finish": b""}
    for kind, (name, payload) in enumerate(kinds.items()):
        (folder / name).write_bytes(message(kind, payload))


def main():
    write_control()
    random.seed(1)
    folder = pathlib.Path(__file__).parent / "corpus" / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    legacy = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q4_0", "Q4_1"]
    (folder / "llama-legacy.gguf").write_bytes(model("llama", 32, legacy, True))
    (folder / "qwen2-floats.gguf").write_bytes(
        model("qwen2", 32, ["F16", "BF16", "F32", "F16", "F16", "BF16", "F16", "BF16"], False))
    k = ["Q6_K", "Q2_K", "Q3_K", "Q4_K", "Q4_0", "Q5_K", "Q6_K", "Q8_0"]
    (folder / "llama-k.gguf").write_bytes(model("llama", 256, k, False))


if __name__ == "__main__":
    main()
