#!/usr/bin/env python3
"""compare_logits.py REFERENCE CANDIDATE: root of the mean square of the differences of two files of `octet score
--logits`, over that of the reference's logits."""
import array
import math
import sys


def read(path):
    values = array.array("f")
    with open(path, "rb") as file:
        values.frombytes(file.read())
    return values


reference, candidate = (read(path) for path in sys.argv[1:3])
if len(reference) != len(candidate) or not reference:
    sys.exit(f"{len(reference)} logits against {len(candidate)}")
if not all(map(math.isfinite, candidate)):
    sys.exit("not all logits are numbers")
difference = sum((a - b) ** 2 for a, b in zip(reference, candidate))
print(f"{math.sqrt(difference / sum(a * a for a in reference)):.6f}")
