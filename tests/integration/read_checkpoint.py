#!/usr/bin/env python3
"""Reads an Octet checkpoint with h5py and numpy by docs/checkpoint-format.md alone: no code is shared with Octet.

Usage: read_checkpoint.py MODEL.h5 HASHES.json GGUF_NAME
HASHES.json: per GGUF file and tensor the SHA-256 of its dequantised fp32 values (tests/golden/make_gguf_blocks.py).
"""
import hashlib
import json
import sys

import h5py
import numpy as np

TILE, BLOCK = 16, 256
IQ4_NL = np.array([0, 23, 44, 62, 78, 92, 105, 117, 128, 140, 152, 165, 180, 196, 216, 240])
# name: low bits, high bits, columns a group, kind of scale, zero, codebook
INTEGERS = {
    "q8": (8, 0, 32, "f16", 128, None), "q4": (4, 0, 32, "f16", 8, None), "q4_1": (4, 0, 32, "f16_min", 0, None),
    "q5_0": (4, 1, 32, "f16", 16, None), "q5_1": (4, 1, 32, "f16_min", 0, None),
    "iq4_nl": (4, 0, 32, "f16", 127, IQ4_NL), "q2_k": (2, 0, 16, "factor_u4", 0, None),
    "q3_k": (2, 1, 16, "factor_s8", 4, None), "q4_k": (4, 0, 32, "factor_u8", 0, None),
    "q5_k": (4, 1, 32, "factor_u8", 0, None), "q6_k": (4, 2, 16, "factor_s8", 32, None),
    "q2": (2, 0, 32, "factor_u4", 0, None),
}
GGUF_NAMES = {"embedding": "token_embd.weight", "output_norm": "output_norm.weight", "head": "output.weight",
              "attention_norm": "attn_norm.weight", "q": "attn_q.weight", "k": "attn_k.weight", "v": "attn_v.weight",
              "q_bias": "attn_q.bias", "k_bias": "attn_k.bias", "v_bias": "attn_v.bias", "o": "attn_output.weight",
              "ffn_norm": "ffn_norm.weight", "gate": "ffn_gate.weight", "up": "ffn_up.weight",
              "down": "ffn_down.weight"}


class Bytes:
    """Takes numbers off the front of a byte string."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, kind, *shape):
        count = int(np.prod(shape))
        out = np.frombuffer(self.data, kind, count, self.at).reshape(shape)
        self.at += out.nbytes
        return out


def plane(stream, bits, columns):
    """A plane of codes: [16 rows, columns]."""
    per = 8 // bits
    vectors = stream.take("u1", columns // 4 // per, TILE, 4)
    quads = np.stack([vectors >> (bits * i) & ((1 << bits) - 1) for i in range(per)], axis=1)
    return quads.reshape(columns // 4, TILE, 4).transpose(1, 0, 2).reshape(TILE, columns)


def scales(stream, kind, groups):
    """Scale and minimum (None: none) [groups, 16] as fp32; their products are exact."""
    if kind == "f16":
        return stream.take("<f2", groups, TILE).astype("f4"), None
    if kind == "f16_min":
        pairs = stream.take("<f2", groups, 2, TILE).astype("f4")
        return pairs[:, 0], pairs[:, 1]
    if kind == "factor_s8":
        d = stream.take("<f2", TILE).astype("f4")
        return d * stream.take("i1", groups, TILE), None
    d, m = stream.take("<f2", 2, TILE).astype("f4")
    if kind == "factor_u8":
        factors = stream.take("u1", groups, 2, TILE)
        return d * factors[:, 0], m * factors[:, 1]
    factors = stream.take("u1", groups, TILE)
    return d * (factors & 15), m * (factors >> 4)


def block(stream, encoding, columns):
    """One block: [16 rows, columns] fp32."""
    if encoding == "f32":
        return stream.take("<f4", columns, TILE).T
    if encoding in ("f16", "bf16"):
        pairs = stream.take("<u2", columns // 2, TILE, 2).transpose(1, 0, 2).reshape(TILE, columns)
        return pairs.view("<f2").astype("f4") if encoding == "f16" else (pairs.astype("u4") << 16).view("<f4")
    low, high, group, kind, zero, codebook = INTEGERS[encoding]
    scale, minimum = scales(stream, kind, columns // group)
    codes = plane(stream, low, columns).astype("i4")
    if high:
        codes = codes | plane(stream, high, columns).astype("i4") << low
    values = ((codebook[codes] if codebook is not None else codes) - zero).astype("f4")
    out = np.repeat(scale.T, group, axis=1) * values
    return out if minimum is None else out + np.repeat(minimum.T, group, axis=1)


def strip(stream, encoding, first, last):
    """Sixteen rows over the columns [first, last)."""
    width, end = last - first, first + (last - first + 31) // 32 * 32
    parts = []
    while first < end:
        to = min((first // BLOCK + 1) * BLOCK, end)
        parts.append(block(stream, encoding, to - first))
        first = to
    return np.concatenate(parts, axis=1)[:, :width]


def matrix(row, data):
    """All weights of a matrix, [rows, columns] fp32, from the bytes of its dataset."""
    rows, columns, encoding = int(row["rows"]), int(row["columns"]), row["encoding"].decode()
    units, size, granules = int(row["units"]), int(row["unit_size"]), int(row["granules"])
    out = np.empty((rows, columns), "f4")
    stream = Bytes(data)
    for g in range(granules):
        first, last = g * units // granules * size, (g + 1) * units // granules * size
        by_rows = row["split"] == b"rows"
        row_range = range(first, min(last, rows), TILE) if by_rows else range(0, rows, TILE)
        limit = min(last, rows) if by_rows else rows
        columns_from, columns_to = (0, columns) if by_rows else (first, min(last, columns))
        for at in row_range:
            tile = strip(stream, encoding, columns_from, columns_to)
            out[at:min(at + TILE, limit), columns_from:columns_to] = tile[:min(at + TILE, limit) - at]
    assert stream.at == len(data), f"{stream.at} bytes decoded of {len(data)}"
    return out


def gguf_name(name):
    parts = name.split(".")
    return GGUF_NAMES[name] if len(parts) == 1 else f"blk.{parts[1]}.{GGUF_NAMES[parts[2]]}"


def main():
    path, hashes, model = sys.argv[1:]
    expected = json.load(open(hashes))[model]
    with h5py.File(path, "r") as file:
        config = json.loads(bytes(file["config"][:]))
        assert config["format"] == "octet checkpoint" and config["version"] == 1
        catalogue, granules, vectors = file["catalogue"][:], file["granules"][:], file["vectors"][:]
        compared = 0
        for row in catalogue:
            name, first, count = row["name"].decode(), int(row["first"]), int(row["granules"])
            if row["split"] == b"vector":
                values = vectors[first:first + int(row["rows"])]
            else:
                dataset = file["tensors"][name]
                assert dataset.id.get_offset() == row["file_offset"] and dataset.shape == (row["bytes"],)
                own = granules[first:first + count]
                assert own["offset"][0] == 0 and own["offset"][-1] + own["bytes"][-1] == row["bytes"]
                assert (np.diff(own["offset"]) == own["bytes"][:-1]).all()
                values = matrix(row, bytes(dataset[:]))
            found = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
            assert found == expected[gguf_name(name)], f"{name}: other values than the GGUF file's"
            compared += 1
        offsets, data = file["vocabulary/token_offsets"][:], bytes(file["vocabulary/token_bytes"][:])
        tokens = [data[a:b] for a, b in zip(offsets, offsets[1:])]
        assert len(tokens) == config["vocabulary"]["tokens"] and tokens[:3] == [b"a", b"b", b"ab"]
    rope = "rope_freqs.weight" in expected
    assert compared == len(expected) - rope, f"{compared} of {len(expected)} tensors"
    if rope:
        assert config["model"]["rope_divisors"] == [1.5] * 16
    print(f"{model}: {compared} tensors equal")


if __name__ == "__main__":
    main()
