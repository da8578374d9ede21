#!/usr/bin/env python3
"""Writes strings.gz: the texts on which the tokenizers are compared with the reference tokenizers.

    make_strings.py TEXT_DIRECTORY

TEXT_DIRECTORY holds Debian packages (bookworm) taken apart with `dpkg-deb -x PACKAGE.deb TEXT_DIRECTORY`:
r-cran-janeaustenr (novels, public domain), unicode-cldr-core (names of characters in some 140 languages,
Unicode licence), unicode-data (only the ages of characters) and libpython3.11-testsuite (Chinese, Japanese
and Korean texts, PSF licence). Code comes from the running Python's standard library (PSF licence); the rest
is made here, from a fixed seed.

Layout after gunzip, little endian: u32 count, u32 bytes[count], then the strings, one behind the other.
Characters taken at random are of Unicode 9 or older: the reference's normaliser knows no younger marks, and
what is unassigned for one library may be a letter for another.
"""
import bz2
import gzip
import html
import lzma
import os
import random
import re
import struct
import sys
import sysconfig
import unicodedata
import zlib
from pathlib import Path

rng = random.Random(20261122)
here = Path(__file__).parent


def slices(text, count, low, high):
    """Pieces of random length at random places."""
    for _ in range(count):
        at = rng.randrange(len(text))
        yield text[at : at + rng.randint(low, high)]


def austen(root):
    data = next(root.rglob("janeaustenr/data/Rdata.rdb")).read_bytes()
    at, raw = 0, b""
    while at + 4 < len(data):  # chunks: length before compression, then a stream of one of three kinds
        kind = data[at + 4 : at + 5]
        tool = {b"2": bz2.BZ2Decompressor, b"Z": lzma.LZMADecompressor}.get(kind, zlib.decompressobj)()
        body = data[at + 4 + (kind in (b"2", b"Z")) :]
        raw += tool.decompress(body)
        at = len(data) - len(tool.unused_data)
    lines, i = [], 0
    while (i := raw.find(b"\x00\x04\x00\x09", i)) >= 0:  # a string of R: flags, length, bytes
        n = struct.unpack(">i", raw[i + 4 : i + 8])[0]
        if 0 <= n < 200:
            lines.append(raw[i + 8 : i + 8 + n].decode("latin-1"))
        i += 4
    return "\n".join(lines)


def cldr(root):
    """Per language, the phrases of its annotations; and all annotated emoji."""
    phrases, emoji = {}, []
    for path in sorted(next(root.rglob("cldr/common/annotations")).glob("*.xml")):
        found = re.findall(r'<annotation cp="([^"]+)"([^>]*)>([^<]+)<', path.read_text("utf-8"))
        texts = [html.unescape(t) for _, kind, t in found if "tts" not in kind and t != "↑↑↑"]
        if len(texts) > 100:
            phrases[path.stem] = texts
        if path.stem == "en":
            emoji = [html.unescape(cp) for cp, kind, _ in found if "tts" in kind]
    for path in next(root.rglob("cldr/common/annotationsDerived")).glob("en.xml"):
        emoji += re.findall(r'<annotation cp="([^"]+)" type="tts"', path.read_text("utf-8"))
    return phrases, emoji


def languages(phrases):
    joints = [" ", ", ", ". ", "\n", "; ", " — ", "، ", "。", " | "]
    for name in sorted(phrases):
        for _ in range(18):
            some = [rng.choice(phrases[name]).replace(" | ", rng.choice(joints)) for _ in range(rng.randint(1, 5))]
            text = rng.choice(joints).join(some)
            yield rng.choice([text] * 5 + [text.upper(), text.title(), unicodedata.normalize("NFD", text)])


def code(count):
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [library / n for n in ("argparse.py", "ast.py", "json/decoder.py", "tarfile.py", "textwrap.py",
                                   "statistics.py", "html/entities.py", "asyncio/tasks.py", "colorsys.py")]
    for path in files:
        yield from slices(path.read_text("utf-8"), count // len(files), 1, 240)


def east_asian(root, count):
    folder = next(root.rglob("test/cjkencodings"))
    for path in sorted(folder.glob("*-utf8.txt")):
        text = path.read_text("utf-8")
        yield from slices(text, count // 12, 1, 60)


def white_space(count):
    blanks = [" "] * 8 + ["\n"] * 3 + ["\t", "\r", "\r\n", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003",
              "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\x1c", "\x1f"]
    words = ["a", "I'm", "x1", "é", "猫", "...", "42", "_", "\u0301", "'", "👍", "-", "Word", "▁"]
    for _ in range(count):
        yield "".join("".join(rng.choice(blanks) for _ in range(rng.randint(0, 5))) + rng.choice(words + [""])
                      for _ in range(rng.randint(1, 8)))


def emoji_texts(emoji, count):
    flags = ["\U0001F3F4" + "".join(chr(0xE0000 + ord(c)) for c in r) + "\U000E007F" for r in ("gbeng", "gbsct", "gbwls")]
    for _ in range(count):
        some = [rng.choice(emoji + flags * 20) for _ in range(rng.randint(1, 6))]
        yield rng.choice(["", " ", " so ", "\ufe0f"]).join(some)
    yield from flags


def read_ages(root):
    """The code points of Unicode 9 and older."""
    old = set()
    for line in next(root.rglob("DerivedAge.txt")).read_text().splitlines():
        found = re.match(r"([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*(\d+)\.", line)
        if found and int(found[3]) <= 9:
            old.update(range(int(found[1], 16), int(found[2] or found[1], 16) + 1))
    return old


def marks(count, old):
    combining = [chr(c) for c in sorted(old) if unicodedata.combining(chr(c))]
    common = [chr(c) for c in range(0x300, 0x345)]
    bases = list("aeiounAEIOUzÅçñשלםعربकतनกขあか가각가漢ạ") + ["\u212b", "\u1e9b\u0323", "\u0958", "\uac00", "\u1100\u1161\u11a8"]
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(1, 8)):
            text += rng.choice(bases) + "".join(rng.choice(common if rng.random() < 0.8 else combining)
                                                for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6])))
            text += rng.choice(["", "", " "])
        yield rng.choice([text, text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)])
    yield "a" + "".join(rng.choice(combining) for _ in range(200))


def scalars(count, old):
    blocks = [(0x20, 0x7F), (0x80, 0x250), (0x370, 0x600), (0x600, 0x800), (0x900, 0x1000), (0x1000, 0x1400),
              (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400), (0x4E00, 0x9FFF), (0xA000, 0xD7A4),
              (0xE000, 0xE100), (0xF900, 0xFFFE), (0x10000, 0x11000), (0x1D400, 0x1D800), (0x1F000, 0x1FB00),
              (0x20000, 0x2A6D0), (0xF0000, 0xF0100), (0x10FF00, 0x10FFFE)]

    def one(block):
        while True:
            c = rng.randrange(*block)
            if c in old and unicodedata.category(chr(c)) not in ("Cn", "Cs"):
                return chr(c)

    for i in range(count):
        if i % 3:
            block = rng.choice(blocks)
            yield "".join(one(block) for _ in range(rng.randint(1, 24)))
        else:
            yield "".join(one(rng.choice(blocks)) for _ in range(rng.randint(1, 24)))


def figures(count):
    parts = ["1", "12", "123", "1234", "12345678", "3.14", "1,000,000", "0x1F", "½", "٣", "Ⅷ", "²", "१२", "①",
             "'s", "'S", "'t", "'RE", "'ve", "'m", "'LL", "'d", "'ſ", "’s", "don't", "I'M", "we'Ll", "' s", "''", "-", "+",
             "e", "°C", "%", "$", "€", "ſ", "K", "ß", "ẞ", "ﬁ", "Ǆ", "ǅ", " ", " ", "\n", "/", ":", "#", "…"]
    for _ in range(count):
        yield "".join(rng.choice(parts) for _ in range(rng.randint(1, 12)))


def odd():
    yield from ["", " ", "  ", "\n", "\t", "\0", "a\0b", "\x04\x06\x13\x14\x16\x1d", "a\x04b\x1dc", "▁", "▁▁ ▁", " ▁a", "<0x0A>",
                "<s>", "</s>", "<unk>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "[INST] x [/INST]", "\ufffe\uffff",
                "\U0010ffff", "\U0001fffe", "a" * 999, "=" * 500, " " * 300 + "x", "\n" * 200, "ab" * 400, "0" * 300,
                "é" * 300, "漢字" * 200, " a" * 200, "\r\n" * 50, "aA" * 100 + "\n" + "!" * 77, "x" + " " * 100 + "\n"]
    yield from (chr(c) for c in range(256))


def main():
    root = Path(sys.argv[1])
    (phrases, emoji), old = cldr(root), read_ages(root)
    novel = austen(root)
    texts = [*odd(), *slices(novel, 900, 1, 200), *slices(novel, 40, 1000, 3000), *languages(phrases), *code(900),
             *east_asian(root, 480), *white_space(500), *emoji_texts(emoji, 400),
             *marks(500, old), *scalars(600, old), *figures(400)]
    texts = [t.encode() for t in dict.fromkeys(texts)]
    data = struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(t)) for t in texts) + b"".join(texts)
    (here / "strings.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{len(texts)} strings, {sum(map(len, texts))} bytes, {os.path.getsize(here / 'strings.gz')} compressed")


if __name__ == "__main__":
    main()
