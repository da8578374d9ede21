"""Octet on SmolLM2-135M-Instruct against transformers in fp32, over 2,617 positions of real text.

OCTET_SMOLLM2_GGUF names the GGUF (launch/test sets it). The bars: top-1 agreement of 97 %, or llama.cpp's own
less 0.5 points; mean KL at most 0.01; perplexity within 1 %. With fp32 activations nothing but the fp16 cache
separates Octet from the reference, so the bars there, over the first passage, are tighter.
"""
import hashlib
import os
import sys

import golden_format as golden
import octet_runs

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "smollm2")


def source(header):
    """Path of the GGUF that the golden file was made from."""
    path = os.environ.get("OCTET_SMOLLM2_GGUF", "")
    if not path:
        octet_runs.skip("OCTET_SMOLLM2_GGUF is not set (launch/test fetches the model and sets it)")
    if not os.path.exists(path):
        octet_runs.skip(f"OCTET_SMOLLM2_GGUF={path} does not exist")
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if digest != header["model_sha256"]:
        print(f"FAILED: {path} has SHA-256 {digest}, expected {header['model_sha256']}")
        sys.exit(1)
    return path


def check(name, ours, arrays, sequences, bars):
    """Prints the figures of one run and its bars; True if all are met."""
    rows = golden.scored_rows(sequences, len(ours))
    got = golden.compare(arrays, lambda i: ours[rows[i]], sequences)
    drift = abs(got["perplexity_ratio"] - 1.0)
    good = (got["top1_agreement"] >= bars["agreement"] and got["mean_kl"] <= bars["kl"]
            and drift <= bars["perplexity"])
    print(f"{name}: {got['positions']} positions, top-1 agreement {got['top1_agreement']:.4f} "
          f"(bar {bars['agreement']:.4f}), mean KL {got['mean_kl']:.2e} ± {got['mean_kl_standard_error']:.0e} "
          f"(bar {bars['kl']}), perplexity {got['perplexity']:.3f} against {got['reference_perplexity']:.3f} "
          f"({drift:.2%}, bar {bars['perplexity']:.1%}){'' if good else '  FAILED'}")
    return good


def main():
    octet_runs.require_program()
    header, arrays = golden.read(os.path.join(FOLDER, "logits.golden"))
    tokens = os.path.join(FOLDER, header["tokens"])
    sequences = golden.read_tokens(tokens)
    llama = header["llama_cpp"]
    path = source(header)
    print(f"llama.cpp: top-1 agreement {llama['top1_agreement']:.4f}, mean KL {llama['mean_kl']:.5f}, "
          f"perplexity {llama['perplexity']:.3f}")
    default = {"agreement": min(0.97, llama["top1_agreement"] - 0.005), "kl": 0.01, "perplexity": 0.01}
    exact = {"agreement": 0.99, "kl": 0.001, "perplexity": 0.002}
    with octet_runs.work_folder() as folder:
        model = octet_runs.import_model(path, folder)
        ours, _ = octet_runs.logits(model, tokens, header["vocabulary"], folder, ranks=2)
        results = [check("octet", ours, arrays, sequences, default)]
        # The fp32 path is slow: one passage.
        first = sequences[:1]
        tokens = os.path.join(folder, "first.tokens")
        with open(tokens, "w", encoding="ascii") as file:
            file.write(" ".join(map(str, first[0])) + "\n")
        head = {name: array[: len(first[0]) - 1] for name, array in arrays.items()}
        ours, _ = octet_runs.logits(model, tokens, header["vocabulary"], folder, ["--activations", "fp32"], ranks=2)
        results.append(check("octet, fp32 activations", ours, head, first, exact))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
