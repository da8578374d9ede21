"""The golden format itself: what is written is read back, and the condensed comparison gives the figures of the
full vocabulary, for candidates near the reference and far from it."""
import os
import sys
import tempfile

import numpy as np

import golden_format as golden

VOCABULARY = 3000


def full(reference, candidate, sequences):
    """Agreement, mean KL and perplexity ratio from full distributions."""
    p, q = golden.log_softmax(reference), golden.log_softmax(candidate)
    targets = golden.next_tokens(sequences)
    rows = np.arange(len(targets))
    return (np.mean(p.argmax(axis=1) == q.argmax(axis=1)), np.mean(np.sum(np.exp(p) * (p - q), axis=1)),
            np.exp(np.mean(p[rows, targets] - q[rows, targets])))


def main():
    random = np.random.default_rng(5)
    sequences = [[int(id) for id in random.integers(0, VOCABULARY, length)] for length in (150, 101)]
    count = len(golden.next_tokens(sequences))
    reference = (3.0 * random.standard_normal((count, VOCABULARY))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.golden")
        golden.write(path, {"vocabulary": VOCABULARY}, golden.summarise(lambda i: reference[i], sequences))
        header, arrays = golden.read(path)
    failures = int(header["vocabulary"] != VOCABULARY)
    for noise in (0.0, 0.03, 0.1, 0.5, 2.0):
        candidate = reference + noise * random.standard_normal(reference.shape)
        got = golden.compare(arrays, lambda i: candidate[i], sequences)
        agreement, kl, ratio = full(reference, candidate, sequences)
        error = abs(got["mean_kl"] - kl)
        good = (got["top1_agreement"] == agreement and abs(got["perplexity_ratio"] / ratio - 1) < 1e-5
                and error <= 4 * got["mean_kl_standard_error"] + 1e-6)
        failures += not good
        print(f"noise {noise}: agreement {got['top1_agreement']:.3f}, mean KL {got['mean_kl']:.6f} "
              f"± {got['mean_kl_standard_error']:.6f}, over the whole vocabulary {kl:.6f}{'' if good else '  FAILED'}")
    rows = golden.scored_rows(sequences, 251)
    failures += not (len(rows) == count and rows[148] == 148 and rows[149] == 150)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
