// The options of every subcommand: one table with names, arguments, defaults, units and texts that drives
// parsing, checking and --help. To add an option: a field here and a row in option_table.c.
#ifndef OCT_LAUNCH_OPTIONS_H
#define OCT_LAUNCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/status.h"

enum { OCT_STOPS_MAX = 32, OCT_LIST_MAX = 16 };

typedef enum oct_command {
    OCT_COMMAND_IMPORT,
    OCT_COMMAND_INSPECT,
    OCT_COMMAND_GENERATE,
    OCT_COMMAND_CHAT,
    OCT_COMMAND_SCORE,
    OCT_COMMAND_BENCH,
    OCT_COMMAND_COUNT
} oct_command;

// Whole numbers separated by commas.
typedef struct oct_number_list {
    int32_t values[OCT_LIST_MAX];
    int count;
} oct_number_list;

// What the command line said, defaults filled in. Strings point into argv or to constants.
typedef struct oct_options {
    oct_command command;
    const char *operand; // MODEL.h5; SOURCE of import, NULL with --synthetic
    uint64_t given;      // bit i: row i of the table stood on the command line
    bool help, verbose, json;

    const char *output;               // -o: of import and of generate
    const char *synthetic, *encoding; // import and bench
    double scale;                     // import --synthetic
    bool verify;                      // inspect

    const char *prompt, *prompts;     // generate
    int64_t max_tokens;               // -n
    double temperature, top_p, min_p; // sampling
    int64_t top_k, seed, logprobs;
    double repetition_penalty, presence_penalty, frequency_penalty;
    const char *stops[OCT_STOPS_MAX];
    int stop_count;
    bool chat, ignore_eos, token_ids;
    const char *system;
    int64_t sequences; // --batch of generate
    const char *speculate;
    int64_t draft_tokens;
    int64_t context, threads, prefill_chunk, kv_tokens; // 0: as the model, the machine, the program likes
    bool share_devices;
    const char *backend, *executor, *instructions, *activations, *exchange, *control;
    double deadline; // negative: not given
    const char *stats;

    const char *text, *tokens, *reference, *logits; // score

    int64_t prompt_tokens, repeat;  // bench, which has a --batch of its own
    oct_number_list columns, batch; // bench
    bool operations;                // bench
    const char *json_file;          // --json of bench
} oct_options;

// Parses argv[1 … argc) of a subcommand (argv[0] is its name); options may stand anywhere, `--` ends them.
// --help makes every other check void: look at `help` first. Errors: OCT_ERR_USAGE with what was wrong and,
// for an unknown option, the nearest known one. LOCAL.
oct_status oct_options_parse(oct_options *options, oct_command command, int argc, char **argv);

// Did the option called `name` (without dashes) stand on the command line? LOCAL.
bool oct_options_given(const oct_options *options, const char *name);

// The encoding that --encoding asks for, or −1 for "keep". Its words are the encodings' own names; of q2 the writer
// makes q2_k as well (checkpoints/two_bits.h). LOCAL.
int oct_options_encoding(const oct_options *options);

// Prints usage, options and defaults of a subcommand. LOCAL.
void oct_options_help(oct_command command, FILE *file);

// The subcommand called `name`, or -1; and its name.
int oct_command_find(const char *name);
const char *oct_command_name(oct_command command);
// One line for the list of subcommands in `octet --help`.
const char *oct_command_summary(oct_command command);

// The one of `count` words that is nearest to `word` by edit distance, or NULL where none is near enough to
// be meant. For suggestions. LOCAL.
const char *oct_nearest_word(const char *word, const char *const *words, size_t count);

// Parses a whole number with an optional suffix k, M or G (powers of 1024). False where it is none, or does
// not fit. LOCAL.
bool oct_parse_whole(const char *text, int64_t *value);

#endif
