#!/usr/bin/env python3
"""Writes runtime/utf8_nfc_tables.h from the Unicode data of this Python (module unicodedata).

    make_nfc_tables.py > runtime/utf8_nfc_tables.h
"""
import sys
import unicodedata as u

HANGUL = range(0xAC00, 0xD7A4)  # composed and decomposed by arithmetic
codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c not in HANGUL]


def rows(items, width=108):
    line = "   "
    for item in items:
        if len(line) + 1 + len(item) > width:
            print(line)
            line = "   "
        line += " " + item
    print(line)


classes = []  # [first, last, class]
for c in codes:
    k = u.combining(chr(c))
    if k and classes and classes[-1][1] == c - 1 and classes[-1][2] == k:
        classes[-1][1] = c
    elif k:
        classes.append([c, c, k])
splits, joins = [], []
for c in codes:
    d = u.decomposition(chr(c))
    if not d or d.startswith("<"):
        continue
    parts = [int(x, 16) for x in d.split()]
    splits.append((c, parts[0], parts[1] if len(parts) > 1 else 0))
    if len(parts) == 2 and u.normalize("NFC", chr(parts[0]) + chr(parts[1])) == chr(c):
        joins.append((parts[0], parts[1], c))
joins.sort()

print(f"""// Tables of canonical decomposition and composition, Unicode {u.unidata_version}; included by utf8_nfc.c alone.
// Written by tests/golden/tokenizer/make_nfc_tables.py; do not edit.
// clang-format off
static const combining_class combining_classes[] = {{""")
rows("{0x%X, 0x%X, %d}," % tuple(x) for x in classes)
print("};\n\nstatic const nfc_split nfc_splits[] = {")
rows("{0x%X, 0x%X, 0x%X}," % x for x in splits)
print("};\n\nstatic const nfc_join nfc_joins[] = {")
rows("{0x%X, 0x%X, 0x%X}," % x for x in joins)
print("};\n// clang-format on")
print(f"{len(classes)} classes, {len(splits)} splits, {len(joins)} joins", file=sys.stderr)
