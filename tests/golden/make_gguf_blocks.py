#!/usr/bin/env python3
"""Makes blocks/blocks.gguf: for every block type that Octet imports a tensor of random blocks, and beside it the
fp32 values that gguf-py dequantises from them (NAME.values). And blocks/corpus.json: the SHA-256 of the dequantised
values of every tensor of the small models in ../fuzz/corpus/gguf, as little-endian fp32 in rows.

Needs numpy and gguf from PyPI. Usage: make_gguf_blocks.py
"""
import hashlib
import json
import pathlib

import gguf
import numpy as np

ROWS, COLUMNS = 3, 512
TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# Byte offsets of the fp16 numbers in a block (ggml-common.h); all other bytes may be anything.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(name, random):
    kind = gguf.GGMLQuantizationType[name]
    width, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (ROWS * COLUMNS // width, size), dtype=np.uint8)
    for at in HALVES[name]:
        # any finite fp16: large, subnormal, negative
        bits = random.integers(0, 0x7C00, len(blocks), dtype=np.uint16) | (
            random.integers(0, 2, len(blocks), dtype=np.uint16) << 15)
        blocks[:, at:at + 2] = bits.view(np.uint8).reshape(-1, 2)
    return kind, blocks.reshape(ROWS, -1)


def main():
    random = np.random.default_rng(20261122)
    path = pathlib.Path(__file__).parent / "blocks" / "blocks.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name in TYPES:
        kind, blocks = random_blocks(name, random)
        writer.add_tensor(name, blocks, raw_dtype=kind)
        writer.add_tensor(name + ".values", gguf.quants.dequantize(blocks, kind).astype(np.float32))
    floats = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    writer.add_tensor("F32", floats)
    writer.add_tensor("F32.values", floats)
    writer.add_tensor("F16", floats.astype(np.float16))
    writer.add_tensor("F16.values", floats.astype(np.float16).astype(np.float32))
    brain = gguf.quants.quantize(floats, gguf.GGMLQuantizationType.BF16)
    writer.add_tensor("BF16", brain, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.add_tensor("BF16.values", gguf.quants.dequantize(brain, gguf.GGMLQuantizationType.BF16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    hash_corpus()


def hash_corpus():
    here = pathlib.Path(__file__).parent
    models = {}
    for path in sorted((here.parent / "fuzz" / "corpus" / "gguf").glob("*.gguf")):
        tensors = {}
        for tensor in gguf.GGUFReader(path).tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("<f4")
            tensors[tensor.name] = hashlib.sha256(values.tobytes()).hexdigest()
        models[path.name] = tensors
    (here / "blocks" / "corpus.json").write_text(json.dumps(models, indent=1) + "\n")


if __name__ == "__main__":
    main()
