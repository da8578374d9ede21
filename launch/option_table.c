// The rows of the option table. Order is the order of --help.
#include "launch/option_table.h"

#include "runtime/sampling.h"

#define IMPORT (1u << OCT_COMMAND_IMPORT)
#define INSPECT (1u << OCT_COMMAND_INSPECT)
#define GENERATE (1u << OCT_COMMAND_GENERATE)
#define CHAT (1u << OCT_COMMAND_CHAT)
#define SCORE (1u << OCT_COMMAND_SCORE)
#define BENCH (1u << OCT_COMMAND_BENCH)
#define DECODE (GENERATE | CHAT)
#define RUN (DECODE | SCORE | BENCH)
#define ALL (IMPORT | INSPECT | RUN)

#define AT(field) offsetof(oct_options, field)
#define FLAG(field) NULL, OCT_OPTION_FLAG, AT(field), 0, 0, NULL
#define TEXT(argument, field) argument, OCT_OPTION_TEXT, AT(field), 0, 0, NULL
#define CHOICE(words, field, fallback) words, OCT_OPTION_CHOICE, AT(field), 0, 0, fallback
#define WHOLE(argument, field, from, to, fallback) argument, OCT_OPTION_WHOLE, AT(field), from, to, fallback
#define LIST(argument, field, from, to, fallback) argument, OCT_OPTION_LIST, AT(field), from, to, fallback
#define NUMBER(argument, field, from, to, fallback) argument, OCT_OPTION_NUMBER, AT(field), from, to, fallback

// clang-format off
const oct_option_row oct_option_rows[] = {
    {IMPORT, 'o', "output", TEXT("MODEL.h5", output), "the checkpoint to write; a file of that name is replaced"},
    {IMPORT, 0, "synthetic", TEXT("SHAPE", synthetic), "random weights in a named shape instead of a SOURCE"},
    {IMPORT | BENCH, 0, "scale", NUMBER("F", scale, 1e-3, 1e3, "1"), "multiplies the random weights"},
    {IMPORT, 0, "encoding", CHOICE("keep|bf16|f16|q8|q4|q2", encoding, "keep"),
     "how matrices are stored; keep: exactly as the source has them (q4 for synthetic weights); "
     "q2: q2_k, and q2 in part where a model would take more than 2.7 bits a weight"},
    {BENCH, 0, "synthetic", TEXT("SHAPE", synthetic),
     "random weights in a named shape (see octet import --help) instead of a MODEL.h5; they stand in a file in $TMPDIR "
     "(default /tmp) until they are open"},
    {BENCH, 0, "encoding", CHOICE("bf16|f16|q8|q4|q2", encoding, "q4"), "how the matrices of --synthetic are stored"},
    {BENCH, 0, "prompt", WHOLE("TOKENS", prompt_tokens, 1, 1e9, "128"), "length of the prompt"},
    {BENCH, 'n', "max-tokens", WHOLE("TOKENS", max_tokens, 2, 1e6, "64"), "tokens to decode"},
    {BENCH, 0, "columns", LIST("1,2,4,8", columns, 1, 64, "1"),
     "also time steps of so many tokens of one sequence, each of them sampled"},
    {BENCH, 0, "batch", LIST("1,2,4", batch, 1, 64, "1"), "also decode so many sequences at once"},
    {BENCH, 0, "repeat", WHOLE("TIMES", repeat, 1, 1000, "3"), "measure everything so often, in turn; shows medians"},
    {BENCH, 0, "operations", FLAG(operations), "show where the time of a step goes"},
    {BENCH, 0, "json", TEXT("FILE", json_file), "write an array with one object for each cell of the table"},
    {INSPECT, 0, "verify", FLAG(verify), "read everything and check every checksum"},
    {INSPECT | SCORE, 0, "json", FLAG(json), "print one JSON object"},
    {GENERATE, 'p', "prompt", TEXT("TEXT|@FILE|-", prompt), "the prompt: text, the contents of a file, or stdin"},
    {GENERATE, 0, "prompts", TEXT("FILE.jsonl", prompts), "requests, one JSON object a line"},
    {GENERATE, 'o', "output", TEXT("FILE.jsonl", output), "where the results of --prompts go instead of stdout"},
    {DECODE, 'n', "max-tokens", WHOLE("TOKENS", max_tokens, 1, 1e9, "256"), "longest answer, in tokens"},
    {DECODE, 0, "temperature", NUMBER("T", temperature, 0, 100, "0"), "sampling temperature; 0: greedy"},
    {DECODE, 0, "top-k", WHOLE("K", top_k, 0, 1e9, "0"), "sample among the K most likely tokens; 0: all"},
    {DECODE, 0, "top-p", NUMBER("P", top_p, 0, 1, "1"), "sample among the likeliest tokens of mass P"},
    {DECODE, 0, "min-p", NUMBER("P", min_p, 0, 1, "0"), "drop tokens less likely than P times the likeliest"},
    {DECODE, 0, "repetition-penalty", NUMBER("F", repetition_penalty, 1e-3, 1e3, "1"),
     "divide the positive and multiply the negative logits of tokens that occurred; 1: off"},
    {DECODE, 0, "presence-penalty", NUMBER("F", presence_penalty, -1e3, 1e3, "0"),
     "subtract from the logits of tokens that occurred"},
    {DECODE, 0, "frequency-penalty", NUMBER("F", frequency_penalty, -1e3, 1e3, "0"),
     "subtract from the logits of tokens for each time that they occurred"},
    {DECODE, 0, "seed", WHOLE("NUMBER", seed, 0, 9.2e18, "0"), "seed of the sampling noise"},
    {DECODE, 0, "stop", "TEXT", OCT_OPTION_STOPS, 0, 0, 0, NULL, "end the answer before this text; may be repeated"},
    {GENERATE, 0, "logprobs", WHOLE("K", logprobs, 0, OCT_MAX_LOGPROBS, "0"),
     "report the K likeliest tokens of each position"},
    {GENERATE, 0, "chat", FLAG(chat), "put the prompt into the model's chat template"},
    {DECODE, 0, "system", TEXT("TEXT", system), "system message of the chat"},
    {GENERATE, 0, "ignore-eos", FLAG(ignore_eos), "go on behind an end-of-text token"},
    {GENERATE, 0, "token-ids", FLAG(token_ids), "print token ids instead of text"},
    {SCORE, 0, "text", TEXT("FILE", text), "text to score"},
    {SCORE, 0, "tokens", TEXT("FILE", tokens), "token ids to score, separated by white space"},
    {SCORE, 0, "logits", TEXT("FILE", logits), "write every logit: fp32, little endian, [positions][vocabulary]"},
    {SCORE, 0, "reference", TEXT("MODEL.h5", reference), "compare with this model: KL divergence, top-1 agreement"},
    {RUN, 0, "context", WHOLE("TOKENS", context, 0, 1e9, "0"),
     "room for so many tokens a sequence; 0: the model's, at most 8192"},
    {RUN, 0, "prefill-chunk", WHOLE("TOKENS", prefill_chunk, 0, 1e6, "0"),
     "prompt tokens per step; changes speed, never tokens; 0: chosen for speed"},
    {RUN, 0, "threads", WHOLE("N", threads, 0, 4096, "0"), "threads per rank; 0: the physical cores of its part"},
    {RUN, 0, "backend", CHOICE("auto|cpu|cuda", backend, "auto"),
     "what runs the model; auto: cuda where it is built in and every rank has a device, otherwise cpu"},
    {RUN, 0, "share-devices", FLAG(share_devices),
     "of --backend cuda: let several ranks drive one GPU, slowly: their data goes through the host's memory; never "
     "changes tokens"},
    {RUN, 0, "executor", CHOICE("graph|persistent", executor, "graph"),
     "of --backend cuda: narrow steps as a graph of kernels, or as one kernel that stays; changes speed, never tokens"},
    {RUN, 0, "instructions", CHOICE("auto|scalar|avx2|avx512", instructions, "auto"),
     "instruction set of the kernels; other than auto: --backend cpu"},
    {RUN, 0, "activations", CHOICE("int8|fp32", activations, "int8"),
     "of --backend cpu; fp32: slow, for comparisons with other programs"},
    {RUN, 0, "exchange", CHOICE("auto|memory|mpi", exchange, "auto"),
     "how partial sums travel between ranks; changes speed, never tokens"},
    {RUN, 0, "control", CHOICE("auto|ucx|mpi", control, "auto"),
     "how rank 0 tells the others what to do; auto: ucx where it is built in and works; never changes tokens"},
    {RUN, 0, "deadline", NUMBER("SECONDS", deadline, 0, 1e9, "-1"),
     "end the job when a rank makes no progress for so long (10 while decoding, 600 before); 0: never"},
    {GENERATE, 0, "batch", WHOLE("N", sequences, 1, 1024, "16"), "decode up to so many requests of --prompts at once"},
    {DECODE, 0, "kv-tokens", WHOLE("TOKENS", kv_tokens, 0, 2147483647, "0"),
     "room in the KV cache for so many tokens of all sequences together; 0: by --batch, --context and free memory"},
    {DECODE, 0, "speculate", TEXT("off|suffix|auto|draft=MODEL.h5|synthetic:P", speculate),
     "guess tokens ahead and verify them; changes speed, never tokens; "
     "suffix: by what followed the same tokens before; "
     "auto: the same, but verifies in each step only as many guesses as pay, by measured times and acceptance; "
     "draft: by a smaller model with the same tokenizer, which samples alike; "
     "synthetic: for measurements, decodes everything plainly first and then with guesses of which a part of P "
     "is right [off]"},
    {DECODE, 0, "draft-tokens", WHOLE("K", draft_tokens, 0, 32, "7"), "guess at most so many tokens ahead"},
    {DECODE, 0, "stats", TEXT("FILE", stats), "write the run's figures as one JSON object"},
    {ALL, 'v', "verbose", FLAG(verbose), "say more on stderr"},
    {ALL, 'h', "help", FLAG(help), "print this"},
};
_Static_assert(sizeof oct_option_rows / sizeof oct_option_rows[0] <= 64, "`given` has a bit a row");
const size_t oct_option_row_count = sizeof oct_option_rows / sizeof oct_option_rows[0];

const oct_command_row oct_command_rows[OCT_COMMAND_COUNT] = {
    [OCT_COMMAND_IMPORT] = {"import", "import SOURCE.gguf -o MODEL.h5 [options]\n"
                                      "       octet import --synthetic SHAPE -o MODEL.h5 [options]",
                            "write a checkpoint from a GGUF file, or with random weights"},
    [OCT_COMMAND_INSPECT] = {"inspect", "inspect MODEL.h5 [options]", "say what a checkpoint holds; verify it"},
    [OCT_COMMAND_GENERATE] = {"generate", "generate MODEL.h5 (-p TEXT | --prompts FILE.jsonl) [options]",
                              "answer one prompt or many"},
    [OCT_COMMAND_CHAT] = {"chat", "chat MODEL.h5 [options]", "talk with a model"},
    [OCT_COMMAND_SCORE] = {"score", "score MODEL.h5 (--text FILE | --tokens FILE) [options]",
                           "log-likelihood and perplexity of a text"},
    [OCT_COMMAND_BENCH] = {"bench", "bench (MODEL.h5 | --synthetic SHAPE) [options]",
                           "how fast a model runs here, against what the memory allows"},
};
// clang-format on
