#!/usr/bin/env python3
"""Makes smollm2/: passages as token ids, and golden logits of SmolLM2-135M-Instruct.

    make_smollm2_logits.py MODEL.gguf [--passages FOLDER]

The reference is Hugging Face transformers' LlamaForCausalLM (fp32, eager attention) with the weights
dequantised from the same GGUF. llama.cpp, through llama-cpp-python, is measured against it and its figures
are recorded in the header. Needs torch, transformers, gguf, llama-cpp-python, numpy. With --passages the
texts are read anew (NAME:TOKENS lines in LENGTHS below); without, smollm2/tokens.txt is used as it is.
"""
import argparse
import hashlib
import os
from importlib import metadata

import numpy as np

import golden_format as golden
import reference_model

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "smollm2")
LENGTHS = [("emma", 512), ("mansfield-park", 448), ("northanger-abbey", 384), ("persuasion", 384),
           ("pride-and-prejudice", 320), ("sense-and-sensibility", 320), ("emma-dialogue", 256)]


def tokenize(model, folder):
    """Cuts each passage to its length in tokens; writes the text that was kept and the ids."""
    from llama_cpp import Llama

    llama = Llama(model, vocab_only=True, verbose=False)
    with open(os.path.join(FOLDER, "tokens.txt"), "w", encoding="ascii") as out:
        for name, length in LENGTHS:
            with open(os.path.join(folder, name + ".txt"), "rb") as file:
                ids = llama.tokenize(file.read(), add_bos=False, special=False)[:length]
            if len(ids) < length:
                raise SystemExit(f"{name}: {len(ids)} tokens, {length} wanted")
            with open(os.path.join(FOLDER, name + ".txt"), "wb") as file:
                file.write(llama.detokenize(ids))
            out.write(" ".join(map(str, ids)) + "\n")


def llama_cpp_logits(model, sequences):
    """Logits [scored positions, vocabulary] of llama.cpp with its own quantised arithmetic."""
    from llama_cpp import Llama

    llama = Llama(model, n_ctx=1024, n_batch=512, logits_all=True, verbose=False, n_threads=2)
    rows = []
    for sequence in sequences:
        llama.reset()
        llama.eval(sequence)
        rows.append(np.array(llama.scores[: len(sequence) - 1], dtype=np.float32))
    return np.concatenate(rows)


def full_kl(reference, candidate):
    """KL over the whole vocabulary, to show what condensing costs."""
    total = 0.0
    for p_row, q_row in zip(reference, candidate):
        p, q = golden.log_softmax(p_row), golden.log_softmax(q_row)
        total += float(np.sum(np.exp(p) * (p - q)))
    return total / len(reference)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--passages", help="folder of NAME.txt to cut the passages from")
    parser.add_argument("--save", help="also save the full logits of both programs as NAME-{reference,llama}.npy")
    options = parser.parse_args()
    if options.passages:
        tokenize(options.model, options.passages)
    sequences = golden.read_tokens(os.path.join(FOLDER, "tokens.txt"))
    reference = np.concatenate([rows[:-1] for rows in reference_model.logits(options.model, sequences)])
    arrays = golden.summarise(lambda i: reference[i], sequences)
    llama = llama_cpp_logits(options.model, sequences)
    measured = golden.compare(arrays, lambda i: llama[i], sequences)
    measured["mean_kl_full_vocabulary"] = full_kl(reference, llama)
    if options.save:
        np.save(options.save + "-reference.npy", reference)
        np.save(options.save + "-llama.npy", llama)
    with open(options.model, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    packages = ("torch", "transformers", "gguf", "llama-cpp-python", "numpy")
    header = {
        "what": "condensed next-token distributions, teacher-forced",
        "model": os.path.basename(options.model),
        "model_sha256": digest,
        "tokens": "tokens.txt",
        "vocabulary": int(reference.shape[1]),
        "reference": "transformers LlamaForCausalLM, fp32, eager attention, weights dequantised from the GGUF",
        "versions": {name: metadata.version(name) for name in packages},
        "llama_cpp": measured,
    }
    golden.write(os.path.join(FOLDER, "logits.golden"), header, arrays)
    print(measured)


if __name__ == "__main__":
    main()
