"""Octet's logits against transformers' on the tiny model of each family, with fp32 activations.

Fails where a logit differs by more than 2e-3 of the logit range, where the arg-max differs although the
reference's margin is larger than that, or where two ranks write other bits than one.
"""
import os
import sys

import numpy as np

import golden_format as golden
import octet_runs

HERE = os.path.dirname(os.path.abspath(__file__))
BAR = 2e-3


def check(name, folder):
    """Prints one line; True if the model is within the bar."""
    base = os.path.join(HERE, "tiny", name)
    header, arrays = golden.read(base + ".golden")
    reference = arrays["logits"]
    model = octet_runs.import_model(base + ".gguf", folder)
    options = ["--activations", "fp32"]
    ours, _ = octet_runs.logits(model, base + ".tokens", header["vocabulary"], folder, options)
    pair, _ = octet_runs.logits(model, base + ".tokens", header["vocabulary"], folder, options, ranks=2)
    if len(ours) != len(reference):
        print(f"{name}: FAILED, {len(ours)} rows of logits, expected {len(reference)}")
        return False
    span = float(np.ptp(reference))
    # NaN compares as false: a bar must be met, not merely not missed.
    error = float(np.abs(np.asarray(ours, np.float64) - reference).max()) / span
    sorted_rows = np.sort(reference, axis=1)
    clear = sorted_rows[:, -1] - sorted_rows[:, -2] > 2 * BAR * span
    wrong = int(np.sum(ours.argmax(axis=1)[clear] != reference.argmax(axis=1)[clear]))
    same = ours.tobytes() == pair.tobytes()
    good = error <= BAR and wrong == 0 and same
    print(f"{name}: {len(ours)} positions, largest error {error:.2e} of the range {span:.1f} (bar {BAR:.0e}), "
          f"{wrong} of {int(clear.sum())} clear arg-maxes wrong, "
          f"2 ranks {'give the same bits' if same else 'GIVE OTHER BITS'}{'' if good else '  FAILED'}")
    return good


def main():
    octet_runs.require_program()
    names = sorted(entry[:-7] for entry in os.listdir(os.path.join(HERE, "tiny")) if entry.endswith(".golden"))
    if len(names) < 5:
        print(f"FAILED: {len(names)} tiny models found, expected 5 or more")
        return 1
    with octet_runs.work_folder() as folder:
        results = [check(name, folder) for name in names]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
