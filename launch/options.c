// Parsing, checking and printing of options by the table in option_table.c. Not getopt_long: it accepts
// abbreviations, which would change their meaning whenever an option is added, and says unknown names itself.
#include "launch/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/option_table.h"
#include "runtime/encoding.h"

enum { WORD_MAX = 64 };

const char *oct_command_name(oct_command command)
{
    return oct_command_rows[command].name;
}

const char *oct_command_summary(oct_command command)
{
    return oct_command_rows[command].summary;
}

int oct_command_find(const char *name)
{
    for (int i = 0; i < OCT_COMMAND_COUNT; i++)
        if (strcmp(oct_command_rows[i].name, name) == 0)
            return i;
    return -1;
}

// Edit distance (insertions, deletions, replacements) of two short words.
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], n = strlen(b);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = replaced < best ? replaced : best;
        }
    }
    return row[n];
}

const char *oct_nearest_word(const char *word, const char *const *words, size_t count)
{
    const char *nearest = NULL;
    size_t least = strlen(word) / 3 + 2;
    if (strlen(word) > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t far = strlen(words[i]) > WORD_MAX ? SIZE_MAX : distance(word, words[i]);
        if (far < least) {
            least = far;
            nearest = words[i];
        }
    }
    return nearest;
}

bool oct_parse_whole(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || errno)
        return false;
    int shift = *end == 'k' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (end[shift != 0])
        return false;
    if (number > INT64_MAX >> shift || number < INT64_MIN >> shift)
        return false;
    *value = number * ((int64_t)1 << shift);
    return true;
}

static const oct_option_row *find_row(oct_command command, const char *name, size_t length)
{
    for (size_t i = 0; i < oct_option_row_count; i++) {
        const oct_option_row *row = &oct_option_rows[i];
        if (!(row->commands >> command & 1))
            continue;
        if (length == 1 ? row->letter == *name
                        : strlen(row->name) == length && !memcmp(row->name, name, length))
            return row;
    }
    return NULL;
}

static oct_status unknown_option(oct_command command, const char *argument, const char *name, size_t length)
{
    const char *names[64];
    size_t count = 0;
    for (size_t i = 0; i < oct_option_row_count && count < 64; i++)
        if (oct_option_rows[i].commands >> command & 1)
            names[count++] = oct_option_rows[i].name;
    char word[WORD_MAX + 1];
    snprintf(word, sizeof word, "%.*s", (int)(length < WORD_MAX ? length : WORD_MAX), name);
    const char *nearest = length > 1 ? oct_nearest_word(word, names, count) : NULL;
    if (nearest)
        return oct_fail(OCT_ERR_USAGE, "%s: unknown option %s; did you mean --%s?", oct_command_name(command),
                        argument, nearest);
    return oct_fail(OCT_ERR_USAGE, "%s: unknown option %s; octet %s --help lists them",
                    oct_command_name(command), argument, oct_command_name(command));
}

static bool is_choice(const char *words, const char *value)
{
    size_t length = strlen(value);
    for (const char *word = words; word; word = strchr(word, '|')) {
        word += *word == '|';
        if (length && !strchr(value, '|') && strncmp(word, value, length) == 0 &&
            (word[length] == '|' || !word[length]))
            return true;
    }
    return false;
}

static oct_status bad_value(const oct_option_row *row, const char *value, const char *expected)
{
    return oct_fail(OCT_ERR_USAGE, "--%s is \"%s\", expected %s", row->name, value, expected);
}

static oct_status bad_range(const oct_option_row *row, const char *value)
{
    return oct_fail(OCT_ERR_USAGE, "--%s is %s, expected a number from %g to %g", row->name, value,
                    row->minimum, row->maximum);
}

static oct_status add_stop(oct_options *options, const char *value)
{
    if (options->stop_count == OCT_STOPS_MAX)
        return oct_fail(OCT_ERR_USAGE, "--stop is given more than %d times", OCT_STOPS_MAX);
    options->stops[options->stop_count++] = value;
    return OCT_OK;
}

static oct_status store_list(const oct_option_row *row, const char *value, oct_number_list *list)
{
    static const char expected[] = "whole numbers separated by commas";
    *list = (oct_number_list){0};
    for (const char *at = value;; at++) {
        char *end;
        errno = 0;
        const long long number = strtoll(at, &end, 10);
        if (end == at || errno || (*end && *end != ','))
            return bad_value(row, value, expected);
        if ((double)number < row->minimum || (double)number > row->maximum)
            return bad_range(row, value);
        if (list->count == OCT_LIST_MAX)
            return oct_fail(OCT_ERR_USAGE, "--%s is \"%s\", expected at most %d numbers", row->name, value,
                            OCT_LIST_MAX);
        list->values[list->count++] = (int32_t)number;
        at = end;
        if (!*at)
            return OCT_OK;
    }
}

// Stores a value; `checked` is false for defaults, which may lie outside the range to say "not given".
static oct_status store(oct_options *options, const oct_option_row *row, const char *value, bool checked)
{
    void *field = (char *)options + row->offset;
    char *end = NULL;
    double number = 0;
    if (checked && !*value && row->kind != OCT_OPTION_FLAG)
        return oct_fail(OCT_ERR_USAGE, "--%s has an empty argument", row->name);
    switch (row->kind) {
    case OCT_OPTION_FLAG:
        *(bool *)field = true;
        return OCT_OK;
    case OCT_OPTION_WHOLE:
        if (!oct_parse_whole(value, field))
            return bad_value(row, value, "a whole number (suffixes k, M, G)");
        number = (double)*(int64_t *)field;
        break;
    case OCT_OPTION_NUMBER:
        *(double *)field = number = strtod(value, &end);
        if (end == value || *end)
            return bad_value(row, value, "a number");
        break;
    case OCT_OPTION_CHOICE:
        *(const char **)field = value;
        return is_choice(row->argument, value) ? OCT_OK : bad_value(row, value, row->argument);
    case OCT_OPTION_TEXT:
        *(const char **)field = value;
        return OCT_OK;
    case OCT_OPTION_LIST:
        return store_list(row, value, field);
    case OCT_OPTION_STOPS:
        return add_stop(options, value);
    }
    return !checked || (number >= row->minimum && number <= row->maximum) ? OCT_OK : bad_range(row, value);
}

// One option at argv[*at]; *at moves to the last argument that it used.
static oct_status parse_option(oct_options *options, int argc, char **argv, int *at)
{
    const char *argument = argv[*at];
    bool is_long = argument[1] == '-';
    const char *name = argument + (is_long ? 2 : 1);
    size_t length = is_long ? strcspn(name, "=") : 1;
    if (is_long && length == 1)
        return unknown_option(options->command, argument, name, length);
    const oct_option_row *row = find_row(options->command, name, length);
    if (!row)
        return unknown_option(options->command, argument, name, length);
    options->given |= (uint64_t)1 << (row - oct_option_rows);
    const char *attached = is_long ? (name[length] ? name + length + 1 : NULL) : (name[1] ? name + 1 : NULL);
    if (row->kind == OCT_OPTION_FLAG && attached)
        return oct_fail(OCT_ERR_USAGE, "--%s takes no argument", row->name);
    if (row->kind != OCT_OPTION_FLAG && !attached) {
        if (*at + 1 >= argc)
            return oct_fail(OCT_ERR_USAGE, "--%s needs an argument: %s", row->name, row->argument);
        attached = argv[++*at];
    }
    return store(options, row, attached ? attached : "", true);
}

// Exactly one of two options that say what there is to do.
static oct_status check_one_of(const oct_options *options, const char *first, const char *second, const char *say)
{
    const bool has_first = oct_options_given(options, first), has_second = oct_options_given(options, second);
    if (has_first && has_second)
        return oct_fail(OCT_ERR_USAGE, "%s: both --%s and --%s are given; expected one of them",
                        oct_command_name(options->command), first, second);
    return has_first || has_second ? OCT_OK
                                   : oct_fail(OCT_ERR_USAGE, "%s: %s", oct_command_name(options->command), say);
}

// An option that would do nothing without another one.
static oct_status check_needs(const oct_options *options, const char *name, const char *needed)
{
    if (!oct_options_given(options, name) || oct_options_given(options, needed))
        return OCT_OK;
    return oct_fail(OCT_ERR_USAGE, "%s: --%s only has a meaning with --%s", oct_command_name(options->command), name,
                    needed);
}

static oct_status check_combination(const oct_options *options)
{
    if (options->command == OCT_COMMAND_SCORE)
        return check_one_of(options, "text", "tokens", "score what? Give --text FILE or --tokens FILE");
    const oct_status drafts = check_needs(options, "draft-tokens", "speculate");
    if (drafts || options->command != OCT_COMMAND_GENERATE)
        return drafts;
    oct_status status = check_one_of(options, "prompt", "prompts",
                                     "what is the prompt? Give -p TEXT, -p @FILE, -p - or --prompts FILE.jsonl");
    if (!status)
        status = check_needs(options, "output", "prompts");
    if (!status)
        status = check_needs(options, "batch", "prompts");
    if (!status)
        status = check_needs(options, "logprobs", "prompts");
    if (!status)
        status = check_needs(options, "token-ids", "prompt");
    return status ? status : check_needs(options, "system", "chat");
}

static oct_status check_operand(const oct_options *options)
{
    const char *name = oct_command_name(options->command);
    if (options->synthetic && options->operand)
        return oct_fail(OCT_ERR_USAGE, "%s: both --synthetic %s and the file %s; expected one of them", name,
                        options->synthetic, options->operand);
    if (options->command == OCT_COMMAND_BENCH)
        return options->operand || options->synthetic
                   ? check_needs(options, "encoding", "synthetic")
                   : oct_fail(OCT_ERR_USAGE, "bench: which MODEL.h5? Or give --synthetic SHAPE");
    if (options->command != OCT_COMMAND_IMPORT)
        return options->operand ? check_combination(options)
                                : oct_fail(OCT_ERR_USAGE, "%s: which MODEL.h5?", name);
    if (!options->synthetic && !options->operand)
        return oct_fail(OCT_ERR_USAGE, "import: which SOURCE? Give a .gguf file, or --synthetic SHAPE");
    if (!options->output)
        return oct_fail(OCT_ERR_USAGE, "import: where to? Give -o MODEL.h5");
    return OCT_OK;
}

oct_status oct_options_parse(oct_options *options, oct_command command, int argc, char **argv)
{
    *options = (oct_options){.command = command};
    for (size_t i = 0; i < oct_option_row_count; i++)
        if (oct_option_rows[i].fallback && oct_option_rows[i].commands >> command & 1)
            store(options, &oct_option_rows[i], oct_option_rows[i].fallback, false);
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (!ended && argv[i][0] == '-' && argv[i][1]) {
            oct_status status = parse_option(options, argc, argv, &i);
            if (status)
                return status;
        } else if (options->operand) {
            return oct_fail(OCT_ERR_USAGE, "%s: \"%s\" is one file too many, after %s",
                            oct_command_name(command), argv[i], options->operand);
        } else {
            options->operand = argv[i];
        }
    }
    return options->help ? OCT_OK : check_operand(options);
}

int oct_options_encoding(const oct_options *options)
{
    return strcmp(options->encoding, "keep") == 0 ? -1 : oct_encoding_find(options->encoding);
}

bool oct_options_given(const oct_options *options, const char *name)
{
    const oct_option_row *row = find_row(options->command, name, strlen(name));
    return row && options->given >> (row - oct_option_rows) & 1;
}

void oct_options_help(oct_command command, FILE *file)
{
    const oct_command_row *about = &oct_command_rows[command];
    fprintf(file, "usage: octet %s\n\n%s\n\n", about->usage, about->summary);
    for (size_t i = 0; i < oct_option_row_count; i++) {
        const oct_option_row *row = &oct_option_rows[i];
        if (!(row->commands >> command & 1))
            continue;
        char left[WORD_MAX];
        char letter[8] = "   ";
        if (row->letter)
            snprintf(letter, sizeof letter, "-%c,", row->letter);
        snprintf(left, sizeof left, "%s --%s %s", letter, row->name, row->argument ? row->argument : "");
        bool shown = row->fallback && row->fallback[0] != '-';
        fprintf(file, "  %-38s", left);
        if (strlen(left) > 38)
            fprintf(file, "\n%40s", "");
        fprintf(file, " %s%s%s%s\n", row->text, shown ? " [" : "", shown ? row->fallback : "", shown ? "]" : "");
    }
    fprintf(file, "\nWhole numbers take the suffixes k, M and G (powers of 1024).\n");
}
