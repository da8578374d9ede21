#!/usr/bin/env python3
"""How fast llama.cpp prefills and decodes a GGUF: the bare loop of llama_decode and arg-max over llama_cpp's low-level
API, without llama-cpp-python's sampler chain and detokeniser, which are slower.

usage: llama_rates.py MODEL.gguf --threads N [--prompt TOKENS] [-n TOKENS] [--sequences 1,2,4] [--settings JSON]
           [--tune prefill|decode] [--token-ids]

Each of the sequences gets a prompt of as many tokens, then all take one token a step, the arg-max of their row. One
JSON object a line for each number of sequences: sequences, prefill_tokens_per_s and decode_tokens_per_s (all
sequences together; decoding counts the tokens after the first), after an uncounted short run.
With --tune it tries its settings one after the other and prints the fastest as a JSON object for --settings.
"""
import argparse
import json
import sys
import time

import llama_cpp
import numpy

# What is mostly fastest, and what is worth trying instead; the model is loaded again for the last.
DEFAULTS = {"ubatch": 512, "flash": 1, "unified": 1, "repack": 1}
TRIALS = {"prefill": [("flash", 0), ("ubatch", 256), ("ubatch", 128), ("repack", 0)],
          "decode": [("flash", 0), ("unified", 0), ("repack", 0)]}
WARM_UP_TOKENS = 32
TUNE_TOKENS = 24


def load(path, settings):
    """The model, its weights rearranged for this processor or not."""
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = bool(settings["repack"])
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise SystemExit("llama.cpp cannot load %s" % path)
    return model


def make_context(model, settings, threads, sequences, length):
    """Room for every sequence at `length` positions each, and for all prompts in one batch."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = sequences * ((length + 255) // 256 * 256)
    params.n_batch = max(params.n_ctx, settings["ubatch"])
    params.n_ubatch = settings["ubatch"]
    params.n_seq_max = sequences
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = (llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if settings["flash"] else
                              llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    params.kv_unified = bool(settings["unified"])
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("llama.cpp cannot make a context of %d tokens" % params.n_ctx)
    return context


def tokenize(model, text):
    raw = text.encode()
    ids = (llama_cpp.llama_token * (len(raw) + 8))()
    count = llama_cpp.llama_tokenize(llama_cpp.llama_model_get_vocab(model), raw, len(raw), ids, len(ids), True, False)
    return list(ids[:count])


class Run:
    """One context and its batch, used again from measurement to measurement."""

    def __init__(self, model, settings, threads, sequences, prompt, tokens):
        self.prompt, self.sequences, self.tokens = prompt, sequences, tokens
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.context = make_context(model, settings, threads, sequences, len(prompt) + tokens)
        self.batch = llama_cpp.llama_batch_init(len(prompt) * sequences, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)

    def add(self, token, position, sequence, wanted):
        at = self.batch.n_tokens
        self.batch.token[at], self.batch.pos[at], self.batch.logits[at] = token, position, wanted
        self.batch.n_seq_id[at], self.batch.seq_id[at][0] = 1, sequence
        self.batch.n_tokens = at + 1

    def decode(self):
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            raise SystemExit("llama_decode failed")

    def best(self, row):
        """The arg-max of the logits of a row of the batch."""
        logits = llama_cpp.llama_get_logits_ith(self.context, row)
        return int(numpy.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())

    def prefill(self, prompt):
        """The first token of every sequence."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        self.batch.n_tokens, last = 0, len(prompt) - 1
        for sequence in range(self.sequences):
            for position, token in enumerate(prompt):
                self.add(token, position, sequence, position == last)
        self.decode()
        return [self.best(sequence * len(prompt) + last) for sequence in range(self.sequences)]

    def warm_up(self):
        """Touches weights and buffers: a short prompt and a step."""
        prompt = self.prompt[:WARM_UP_TOKENS]
        tokens = self.prefill(prompt)
        if self.tokens > 1:
            self.step(tokens, len(prompt))

    def step(self, tokens, position):
        self.batch.n_tokens = 0
        for sequence, token in enumerate(tokens):
            self.add(token, position, sequence, True)
        self.decode()
        return [self.best(row) for row in range(self.sequences)]

    def measure(self):
        """(tokens/s of the prompts, tokens/s of decoding or 0, the first sequence's tokens)"""
        start = time.perf_counter()
        tokens = self.prefill(self.prompt)
        prefilled, answer = time.perf_counter(), [tokens[0]]
        for i in range(self.tokens - 1):
            tokens = self.step(tokens, len(self.prompt) + i)
            answer.append(tokens[0])
        decoded = (self.tokens - 1) * self.sequences
        return (len(self.prompt) * self.sequences / (prefilled - start),
                decoded / (time.perf_counter() - prefilled) if decoded else 0.0, answer)


def measure(model, settings, options, sequences, repeats=1):
    """[repeats] results of Run.measure, after a warm-up."""
    prompt = tokenize(model, " the" * options.prompt)  # one token each in every vocabulary of English
    run = Run(model, settings, options.threads, sequences, prompt, options.n)
    run.warm_up()
    results = [run.measure() for _ in range(repeats)]
    run.close()
    return results


def tune(options, phase):
    """Coordinate descent: each trial is kept where it is faster by more than noise, in the best of two runs."""
    index, settings, best, model, loaded = 0 if phase == "prefill" else 1, dict(DEFAULTS), 0.0, None, None
    options.n = min(options.n, TUNE_TOKENS)
    for name, value in [("repack", DEFAULTS["repack"])] + TRIALS[phase]:
        trial = dict(settings, **{name: value})
        if trial["repack"] != loaded:
            if model:
                llama_cpp.llama_model_free(model)
            model, loaded = load(options.model, trial), trial["repack"]
        speed = max(result[index] for result in measure(model, trial, options, options.sequences[-1], 2))
        print("%s: %.1f tokens/s" % (json.dumps(trial), speed), file=sys.stderr)
        if speed > best * 1.02:
            settings, best = trial, speed
    print(llama_cpp.llama_print_system_info().decode(), file=sys.stderr)
    return settings


def number_list(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--sequences", type=number_list, default=[1])
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--tune", choices=TRIALS)
    parser.add_argument("--token-ids", action="store_true")
    options = parser.parse_args()
    llama_cpp.llama_backend_init()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, None)
    if options.tune:
        print(json.dumps(tune(options, options.tune)))
        return
    settings = dict(DEFAULTS, **options.settings)
    model = load(options.model, settings)
    for sequences in options.sequences:
        prefill, decode, answer = measure(model, settings, options, sequences)[0]
        line = {"sequences": sequences, "prefill_tokens_per_s": round(prefill, 2),
                "decode_tokens_per_s": round(decode, 2)}
        print(json.dumps(dict(line, token_ids=answer) if options.token_ids else line))


if __name__ == "__main__":
    main()
