"""Golden files: reading, writing, and comparing a candidate's logits with them.

A golden file is one line of JSON (padded with blanks to a multiple of 64 bytes), then little-endian
arrays at the offsets that the header names, counted from the file's first byte. README.md beside this
file describes the arrays. Needs numpy only.
"""
import json

import numpy as np

TOP = 64     # most probable tokens kept of every position
SAMPLES = 64  # tokens kept of the rest, drawn by their probability


def write(path, header, arrays):
    """Writes `arrays` (name -> ndarray) behind the JSON `header`."""
    offset_of, table = 0, []
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        arrays[name] = array.astype(array.dtype.newbyteorder("<"))
        table.append({"name": name, "dtype": array.dtype.newbyteorder("<").str, "shape": list(array.shape)})
    size = 0
    while True:  # the offsets are part of the line whose length they depend on
        offset_of = size
        for entry in table:
            entry["offset"] = offset_of
            offset_of += arrays[entry["name"]].nbytes
            offset_of += -offset_of % 64
        line = json.dumps(dict(header, arrays=table)).encode()
        needed = len(line) + 1
        needed += -needed % 64
        if needed <= size:
            break
        size = needed
    with open(path, "wb") as file:
        file.write(line + b" " * (size - len(line) - 1) + b"\n")
        for entry in table:
            file.write(b"\0" * (entry["offset"] - file.tell()))
            file.write(arrays[entry["name"]].tobytes())


def read(path):
    """Returns (header, {name: ndarray}) of a golden file."""
    with open(path, "rb") as file:
        data = file.read()
    header = json.loads(data[: data.index(b"\n")])
    arrays = {}
    for entry in header["arrays"]:
        count = int(np.prod(entry["shape"], dtype=np.int64))
        flat = np.frombuffer(data, dtype=entry["dtype"], count=count, offset=entry["offset"])
        arrays[entry["name"]] = flat.reshape(entry["shape"])
    return header, arrays


def read_tokens(path):
    """Token ids of a file with one sequence a line."""
    with open(path, encoding="ascii") as file:
        return [[int(word) for word in line.split()] for line in file if line.strip()]


def log_softmax(logits):
    """[positions, vocabulary] in double precision."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def scored_rows(sequences, rows):
    """Which rows of a dump of `rows` positions have a next token to score.

    A dump may hold every position of every sequence, or leave out the last of each."""
    full = sum(len(sequence) for sequence in sequences)
    short = full - len(sequences)
    if rows == short:
        return np.arange(short)
    if rows != full:
        raise ValueError(f"{rows} rows of logits; expected {full} (every position) or {short} (scored ones)")
    keep, base = [], 0
    for sequence in sequences:
        keep.extend(range(base, base + len(sequence) - 1))
        base += len(sequence)
    return np.array(keep)


def next_tokens(sequences):
    return np.array([token for sequence in sequences for token in sequence[1:]])


def summarise(logits_of, sequences, seed=20):
    """Condenses reference logits. `logits_of(i)` gives the logits [vocabulary] of scored position i; the
    vocabulary has at most 65,536 tokens."""
    targets = next_tokens(sequences)
    count = len(targets)
    out = {
        "top_ids": np.zeros((count, TOP), np.uint16),
        "top_logprobs": np.zeros((count, TOP), np.float32),
        "sample_ids": np.zeros((count, SAMPLES), np.uint16),
        "sample_logprobs": np.zeros((count, SAMPLES), np.float32),
        "rest_mass": np.zeros(count, np.float64),
        "next_logprob": np.zeros(count, np.float32),
    }
    random = np.random.default_rng(seed)
    for i in range(count):
        logprobs = log_softmax(logits_of(i))
        order = np.argsort(-logprobs, kind="stable")
        top, rest = order[:TOP], order[TOP:]
        mass = np.exp(logprobs[rest])
        # Systematic sampling: one draw in each of SAMPLES equal parts of the rest's mass.
        at = (np.arange(SAMPLES) + random.random(SAMPLES)) / SAMPLES * mass.sum()
        drawn = rest[np.minimum(np.searchsorted(np.cumsum(mass), at), len(rest) - 1)]
        out["top_ids"][i], out["top_logprobs"][i] = top, logprobs[top]
        out["sample_ids"][i], out["sample_logprobs"][i] = drawn, logprobs[drawn]
        out["rest_mass"][i] = mass.sum()
        out["next_logprob"][i] = logprobs[targets[i]]
    return out


def rest_kl(p_logprobs, q_logprobs, p_mass, q_mass):
    """Sum of p log(p/q) over the tokens outside the top, from tokens drawn by p: (estimate, standard error).

    The mean of log(p/q) over the drawn tokens, with q/p as a control variate: its mean is known to be
    q_mass / p_mass, and for two similar distributions it moves against log(p/q) one to one, so that what
    is left of the variance is of second order. The coefficient is the regression's. Where some token's two
    probabilities differ by more than a factor e, q/p has a long tail that the sample may have missed, and
    the plain mean is taken."""
    if p_mass <= 0.0:
        return 0.0, 0.0
    logarithm = p_logprobs - q_logprobs
    ratio = np.exp(-logarithm)
    deviation = ratio - ratio.mean()
    variance = float(np.mean(deviation**2))
    slope = float(np.mean(deviation * logarithm)) / variance if variance > 0.0 else 0.0
    if np.abs(logarithm).max() > 1.0:
        slope = 0.0
    corrected = logarithm - slope * (ratio - q_mass / p_mass)
    return p_mass * float(corrected.mean()), p_mass * float(corrected.std(ddof=1)) / np.sqrt(len(ratio))


def compare(arrays, logits_of, sequences):
    """Compares a candidate (`logits_of(i)`, full vocabulary) with a condensed reference.

    Returns a dict: positions, top1_agreement, mean_kl (KL(reference || candidate), nats) with
    mean_kl_standard_error, reference_perplexity, perplexity, perplexity_ratio. The 64 likeliest tokens
    enter KL exactly, the rest through rest_kl."""
    targets = next_tokens(sequences)
    count = len(targets)
    agreed, kl, error, logprob = 0, np.zeros(count), np.zeros(count), np.zeros(count)
    for i in range(count):
        q = log_softmax(logits_of(i))
        top = arrays["top_ids"][i].astype(np.int64)
        agreed += int(np.argmax(q) == top[0])
        p_top = arrays["top_logprobs"][i].astype(np.float64)
        q_mass = 1.0 - float(np.exp(q[top]).sum())
        rest, error[i] = rest_kl(arrays["sample_logprobs"][i].astype(np.float64),
                                 q[arrays["sample_ids"][i].astype(np.int64)],
                                 float(arrays["rest_mass"][i]), q_mass)
        kl[i] = float(np.sum(np.exp(p_top) * (p_top - q[top]))) + rest
        logprob[i] = q[targets[i]]
    reference = float(np.exp(-np.mean(arrays["next_logprob"], dtype=np.float64)))
    perplexity = float(np.exp(-logprob.mean()))
    return {
        "positions": count,
        "top1_agreement": agreed / count,
        "mean_kl": float(kl.mean()),
        "mean_kl_standard_error": float(np.sqrt(np.sum(error**2)) / count),
        "reference_perplexity": reference,
        "perplexity": perplexity,
        "perplexity_ratio": perplexity / reference,
    }
