// The option table and its parser.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

// The program itself is no library: its option files are part of this test.
#include "launch/option_table.c"
#include "launch/options.c"

enum { ARGUMENTS_MAX = 48 };

// Parses "command word word …", split at spaces.
static oct_status parse(oct_options *options, const char *line)
{
    static char copy[1024];
    char *words[ARGUMENTS_MAX];
    int count = 0;
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        words[count++] = word;
    oct_failure_clear();
    return oct_options_parse(options, (oct_command)oct_command_find(words[0]), count, words);
}

static void expect_failure(const char *line, const char *word)
{
    oct_options options;
    assert_int_equal(parse(&options, line), OCT_ERR_USAGE);
    if (!strstr(oct_failure_text(), word))
        fail_msg("\"%s\" has no \"%s\"", oct_failure_text(), word);
}

static void test_defaults(void **context)
{
    (void)context;
    oct_options o;
    assert_int_equal(parse(&o, "generate m.h5 -p x"), OCT_OK);
    assert_string_equal(o.operand, "m.h5");
    assert_int_equal(o.max_tokens, 256);
    assert_true(o.temperature == 0 && o.top_p == 1 && o.repetition_penalty == 1 && o.deadline < 0);
    assert_string_equal(o.instructions, "auto");
    assert_false(o.chat || o.verbose || o.help);
    assert_true(oct_options_given(&o, "prompt"));
    assert_false(oct_options_given(&o, "max-tokens"));
    assert_int_equal(parse(&o, "import x.gguf -o y.h5"), OCT_OK);
    assert_string_equal(o.encoding, "keep");
}

static void test_any_place(void **context)
{
    (void)context;
    oct_options o;
    assert_int_equal(
        parse(&o, "generate --temperature=0.8 -n 1k m.h5 --top-k 40 -pHello --stop a --stop b --chat"),
        OCT_OK);
    assert_true(o.temperature == 0.8 && o.max_tokens == 1024 && o.top_k == 40 && o.chat);
    assert_string_equal(o.operand, "m.h5");
    assert_string_equal(o.prompt, "Hello");
    assert_int_equal(o.stop_count, 2);
    assert_string_equal(o.stops[1], "b");
    assert_true(oct_options_given(&o, "top-k"));
    assert_false(oct_options_given(&o, "top-p"));
    assert_int_equal(parse(&o, "generate -p - -- -strange-name"), OCT_OK);
    assert_string_equal(o.operand, "-strange-name");
    assert_string_equal(o.prompt, "-");
    assert_int_equal(parse(&o, "import --synthetic tiny -o t.h5"), OCT_OK);
    assert_null(o.operand);
}

static void test_errors(void **context)
{
    (void)context;
    expect_failure("generate m.h5 --temprature 1", "did you mean --temperature?");
    expect_failure("generate m.h5 --stopp x", "did you mean --stop?");
    expect_failure("generate m.h5 --speculate", "--speculate needs an argument");
    expect_failure("generate m.h5 -p x --draft-tokens 3", "--draft-tokens only has a meaning with --speculate");
    expect_failure("generate m.h5 -p x --speculate off --draft-tokens 33", "from 0 to 32");
    expect_failure("generate m.h5 -p x --batch 3", "--batch only has a meaning with --prompts");
    expect_failure("generate m.h5 --prompts x --batch 0", "from 1 to 1024");
    expect_failure("generate m.h5 --temp 1", "unknown option --temp");
    expect_failure("generate m.h5 -q", "unknown option -q");
    expect_failure("generate m.h5 --n 3", "unknown option --n");
    expect_failure("inspect m.h5 --seed 1", "unknown option --seed");
    expect_failure("generate m.h5 --top-p", "needs an argument");
    expect_failure("generate m.h5 --chat=1", "no argument");
    expect_failure("generate m.h5 --top-p 1.5", "from 0 to 1");
    expect_failure("generate m.h5 --top-p nan", "from 0 to 1");
    expect_failure("generate m.h5 --top-k many", "whole number");
    expect_failure("generate m.h5 --top-k 3x", "whole number");
    expect_failure("generate m.h5 --seed -1", "expected a number from 0");
    expect_failure("generate m.h5 --system=", "empty");
    expect_failure("generate m.h5 --instructions mmx", "auto|scalar|avx2|avx512");
    expect_failure("generate m.h5 --instructions auto|scalar", "auto|scalar|avx2|avx512");
    expect_failure("generate m.h5 --deadline -1", "from 0");
    expect_failure("generate a b", "one file too many");
    expect_failure("generate", "which MODEL.h5");
    expect_failure("generate m.h5", "what is the prompt");
    expect_failure("generate m.h5 -p x --prompts y", "both --prompt and --prompts");
    expect_failure("generate m.h5 -p x -o y", "--output only has a meaning with --prompts");
    expect_failure("generate m.h5 -p x --logprobs 2", "--logprobs only has a meaning with --prompts");
    expect_failure("generate m.h5 --prompts x --token-ids", "--token-ids only has a meaning with --prompt");
    expect_failure("generate m.h5 -p x --system y", "--system only has a meaning with --chat");
    expect_failure("score m.h5", "--text FILE or --tokens FILE");
    expect_failure("score m.h5 --text a --tokens b", "both --text and --tokens");
    expect_failure("import a.gguf", "-o MODEL.h5");
    expect_failure("import -o x", "SOURCE");
    expect_failure("import a.gguf --synthetic tiny -o x", "one of them");
}

static void test_numbers(void **context)
{
    (void)context;
    int64_t value = 7;
    assert_true(oct_parse_whole("3M", &value) && value == 3 << 20);
    assert_true(oct_parse_whole("-2G", &value) && value == -((int64_t)2 << 30));
    assert_false(oct_parse_whole("99999999999G", &value));
    assert_false(oct_parse_whole("99999999999999999999", &value));
    assert_false(oct_parse_whole("", &value));
    assert_false(oct_parse_whole("k", &value));
    assert_false(oct_parse_whole("1kk", &value));
}

// Every row of the table must be usable: unique per command, a sound default, shown by --help.
static void test_table(void **context)
{
    (void)context;
    assert_true(oct_option_row_count <= 64);
    for (int c = 0; c < OCT_COMMAND_COUNT; c++) {
        char *text = NULL;
        size_t size = 0;
        FILE *file = open_memstream(&text, &size);
        oct_options_help((oct_command)c, file);
        fclose(file);
        for (size_t i = 0; i < oct_option_row_count; i++) {
            const oct_option_row *row = &oct_option_rows[i];
            if (!(row->commands >> c & 1))
                continue;
            char name[64] = "--";
            assert_non_null(strstr(text, strcat(name, row->name)));
            assert_true(row->text && strlen(row->name) > 1);
            for (size_t j = 0; j < i; j++)
                if (oct_option_rows[j].commands >> c & 1)
                    assert_true(strcmp(oct_option_rows[j].name, row->name) &&
                                (!row->letter || oct_option_rows[j].letter != row->letter));
        }
        free(text);
        char *arguments[] = {(char *)oct_command_name((oct_command)c), (char *)"--help"};
        oct_options options;
        assert_int_equal(oct_options_parse(&options, (oct_command)c, 2, arguments), OCT_OK);
        assert_true(options.help);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_defaults), cmocka_unit_test(test_any_place),
                                       cmocka_unit_test(test_errors), cmocka_unit_test(test_numbers),
                                       cmocka_unit_test(test_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
