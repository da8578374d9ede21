// Requests from JSON lines, and responses to them.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "runtime/request.h"
#include "runtime/response.h"

static oct_status parse(oct_request *request, const char *line, const oct_request *defaults)
{
    oct_request usual = oct_request_default();
    oct_failure_clear();
    return oct_request_parse(request, line, strlen(line), "p.jsonl", 7, defaults ? defaults : &usual, 1000);
}

static void reads_every_key(void **state)
{
    (void)state;
    oct_request r;
    assert_int_equal(
        parse(&r,
              "{\"id\": \"a\\\"\", \"prompt\": \"h\\u00e9\\u0000!\", \"max_tokens\": 5, "
              "\"temperature\": 0.5, \"top_p\": 0.9, \"top_k\": 40, \"min_p\": 0.1, "
              "\"repetition_penalty\": 1.1, \"presence_penalty\": 1, \"frequency_penalty\": -0.5, "
              "\"logit_bias\": {\"5\": -100, \"999\": 2.5}, \"logprobs\": 3, "
              "\"seed\": 9223372036854775807, \"stop\": [\"\\n\", \"END\"], \"ignore_eos\": true}\n",
              NULL),
        OCT_OK);
    assert_string_equal(r.id, "\"a\\\"\"");
    assert_int_equal(r.prompt_bytes, 5);
    assert_memory_equal(r.prompt, "h\xc3\xa9\0!", 6);
    assert_null(r.messages);
    assert_int_equal(r.max_tokens, 5);
    assert_true(r.sampling.temperature == 0.5f && r.sampling.top_p == 0.9f && r.sampling.min_p == 0.1f);
    assert_int_equal(r.sampling.top_k, 40);
    assert_true(r.sampling.repetition_penalty == 1.1f && r.sampling.presence_penalty == 1 &&
                r.sampling.frequency_penalty == -0.5f);
    assert_int_equal(r.sampling.bias_count, 2);
    assert_int_equal(r.sampling.biases[1].token, 999);
    assert_true(r.sampling.biases[0].bias == -100 && r.sampling.biases[1].bias == 2.5f);
    assert_int_equal(r.sampling.logprobs, 3);
    assert_true(r.sampling.seed == INT64_MAX);
    assert_int_equal(r.stop_count, 2);
    assert_string_equal(r.stops[0], "\n");
    assert_string_equal(r.stops[1], "END");
    assert_true(r.ignore_eos);
    oct_request_free(&r);
}

static void reads_messages(void **state)
{
    (void)state;
    oct_request r;
    assert_int_equal(parse(&r,
                           "{\"messages\": [{\"role\": \"system\", \"content\": \"be brief\"}, "
                           "{\"content\": \"\", \"role\": \"user\"}]}",
                           NULL),
                     OCT_OK);
    assert_string_equal(r.id, "7");
    assert_null(r.prompt);
    assert_int_equal(r.message_count, 2);
    assert_string_equal(r.messages[0].role, "system");
    assert_string_equal(r.messages[0].content, "be brief");
    assert_string_equal(r.messages[1].role, "user");
    assert_string_equal(r.messages[1].content, "");
    oct_request_free(&r);
}

static void takes_defaults_for_what_is_left_out(void **state)
{
    (void)state;
    oct_request defaults = oct_request_default(), r;
    defaults.max_tokens = 33;
    defaults.ignore_eos = true;
    defaults.sampling.temperature = 0.8f;
    defaults.sampling.top_k = 9;
    assert_int_equal(oct_request_add_stop(&defaults, "###"), OCT_OK);
    assert_int_equal(oct_request_add_stop(&defaults, ""), OCT_ERR_USAGE);
    assert_int_equal(parse(&r, "{\"prompt\": \"\", \"top_k\": 0, \"id\": 1.5}", &defaults), OCT_OK);
    assert_string_equal(r.id, "1.5");
    assert_int_equal(r.max_tokens, 33);
    assert_true(r.ignore_eos);
    assert_true(r.sampling.temperature == 0.8f);
    assert_int_equal(r.sampling.top_k, 0);
    assert_int_equal(r.stop_count, 1);
    assert_string_equal(r.stops[0], "###");
    oct_request_free(&r);
    assert_int_equal(parse(&r, "{\"prompt\": \"\", \"stop\": []}", &defaults), OCT_OK);
    assert_int_equal(r.stop_count, 0);
    oct_request_free(&r);
    oct_request_free(&defaults);
}

static void keeps_ids_and_skips_a_byte_order_mark(void **state)
{
    (void)state;
    static const char *const ids[] = {"0.1", "0.30000000000000004", "-1e300", "9007199254740993", "\"a\""};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        char line[96];
        oct_request r;
        snprintf(line, sizeof line, "\xef\xbb\xbf{\"prompt\": \"\", \"id\": %s}", ids[i]);
        assert_int_equal(parse(&r, line, NULL), OCT_OK);
        assert_string_equal(r.id, ids[i]);
        oct_request_free(&r);
    }
}

static void refuses_wrong_lines_with_place_and_expectation(void **state)
{
    (void)state;
    static const struct {
        const char *line, *found;
        oct_status status;
    } wrong[] = {
        {"", "no JSON", OCT_ERR_FILE},
        {"{\"prompt\": \"a\"", "no JSON", OCT_ERR_FILE},
        {"{\"prompt\": \"a\"} {}", "no JSON", OCT_ERR_FILE},
        {"{\"prompt\": \"\xff\"}", "no JSON", OCT_ERR_FILE},
        {"{\"prompt\": \"\\ud800\"}", "no JSON", OCT_ERR_FILE},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "no JSON", OCT_ERR_FILE},
        {"{\"prompt\": \"a\", \"temperature\": 1e999}", "no JSON", OCT_ERR_FILE},
        {"[1]", "a list", OCT_ERR_FILE},
        {"null", "null", OCT_ERR_FILE},
        {"{}", "neither prompt nor messages", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}", "both",
         OCT_ERR_USAGE},
        {"{\"prompt\": 1}", "prompt is a whole number, expected a string", OCT_ERR_USAGE},
        {"{\"messages\": []}", "messages is empty", OCT_ERR_USAGE},
        {"{\"messages\": {}}", "expected a list", OCT_ERR_USAGE},
        {"{\"messages\": [\"a\"]}", "expected an object", OCT_ERR_USAGE},
        {"{\"messages\": [{\"role\": \"user\"}]}", "role and content", OCT_ERR_USAGE},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\", \"name\": \"x\"}]}", "role and content",
         OCT_ERR_USAGE},
        {"{\"messages\": [{\"role\": \"user\", \"content\": null}]}", "content is null", OCT_ERR_USAGE},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"\\u0000\"}]}", "u0000", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"n\": 2}", "unknown key \"n\", expected one of: id, prompt", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"id\": [1]}", "id is a list", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens is 0, expected 1", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"max_tokens\": 1.0}", "max_tokens is a number with", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"max_tokens\": 2147483648}", "max_tokens", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"temperature\": \"1\"}", "temperature is a string", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"temperature\": -1}", "temperature is -1", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"temperature\": 1e-60}", "temperature", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"temperature\": 1e60}", "temperature", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"top_p\": 0}", "top_p is 0", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"top_k\": -1}", "top_k is -1", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"seed\": -1}", "seed is -1", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"logprobs\": true}", "logprobs is true or false", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"x\": 1}}", "expected a token id", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"-1\": 1}}", "expected a token id", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1000\": 1}}", "token 1000", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": 1, \"01\": 1}}", "twice", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"logit_bias\": {\"1\": \"x\"}}", "expected a number", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"stop\": \"\"}", "stop string is empty", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"stop\": [1]}", "an entry of stop", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"stop\": {}}", "stop is an object", OCT_ERR_USAGE},
        {"{\"prompt\": \"a\", \"ignore_eos\": 1}", "expected true or false", OCT_ERR_USAGE},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        oct_request r;
        oct_status status = parse(&r, wrong[i].line, NULL);
        if (status != wrong[i].status || !strstr(oct_failure_text(), wrong[i].found))
            fail_msg("%s: status %d, %s", wrong[i].line, (int)status, oct_failure_text());
        assert_ptr_equal(strstr(oct_failure_text(), "p.jsonl, line 7: "), oct_failure_text());
        assert_non_null(r.id);
        oct_request_free(&r);
    }
    oct_request r;
    assert_int_equal(parse(&r, "{\"top_k\": -1, \"prompt\": \"\", \"id\": \"late\"}", NULL), OCT_ERR_USAGE);
    assert_string_equal(r.id, "\"late\"");
    oct_request_free(&r);
    oct_failure_clear();
}

static void blank_lines_are_seen(void **state)
{
    (void)state;
    assert_true(oct_request_line_is_blank("", 0));
    assert_true(oct_request_line_is_blank(" \t\r\n", 4));
    assert_false(oct_request_line_is_blank(" x", 2));
}

// Every cut and many changed bytes of a good line: a status, never a crash or a leak.
static void survives_damaged_lines(void **state)
{
    (void)state;
    const char *good =
        "{\"id\":[3],\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stop\":[\"a\",\"b\"],"
        "\"logit_bias\":{\"3\":1},\"top_p\":0.5}";
    oct_request usual = oct_request_default();
    size_t length = strlen(good);
    uint32_t random = 1;
    for (int round = 0; round < 4000; round++) {
        char line[256];
        memcpy(line, good, length);
        size_t bytes = (size_t)round <= length ? (size_t)round : length;
        for (int change = 0; change < round % 3 && (size_t)round > length; change++) {
            random = random * 1664525 + 1013904223;
            line[(random >> 8) % length] = (char)(random >> 24);
        }
        oct_request r;
        oct_failure_clear();
        oct_status status = oct_request_parse(&r, line, bytes, "f", 1, &usual, 0);
        assert_true(status == OCT_OK || status == OCT_ERR_FILE || status == OCT_ERR_USAGE);
        assert_non_null(r.id);
        oct_request_free(&r);
    }
    oct_failure_clear();
}

static void writes_a_response(void **state)
{
    (void)state;
    const int32_t ids[] = {3, 70000};
    const oct_figure figures[] = {
        {"prompt_tokens", 12, true}, {"decode_tokens_per_s", 12.5, false}, {"x_s", NAN, false}};
    const oct_token_logprob chosen[] = {{3, -0.5f}, {70000, -INFINITY}};
    const oct_token_logprob top[] = {{3, -0.5f}, {4, -1.5f}, {1, -0.25f}, {2, -2}};
    oct_response response = {.id = "1.23456789012345",
                             .text = "a\xff\"\n\0z",
                             .text_bytes = 6,
                             .token_ids = ids,
                             .token_count = 2,
                             .finish_reason = OCT_FINISH_LENGTH,
                             .figures = figures,
                             .figure_count = 3};
    char *line = oct_response_format(&response);
    assert_string_equal(
        line, "{\"id\":1.23456789012345,\"text\":\"a\xef\xbf\xbd\\\"\\n\\u0000z\",\"token_ids\":[3,70000],"
              "\"finish_reason\":\"length\",\"prompt_tokens\":12,\"decode_tokens_per_s\":12.5,"
              "\"x_s\":null}");
    free(line);
    response = (oct_response){.id = "\"q\"",
                              .text = "",
                              .token_ids = ids,
                              .token_count = 2,
                              .finish_reason = OCT_FINISH_ERROR,
                              .error = "no \"room\"",
                              .logprobs = chosen,
                              .top = top,
                              .top_count = 2};
    line = oct_response_format(&response);
    assert_string_equal(line,
                        "{\"id\":\"q\",\"text\":\"\",\"token_ids\":[3,70000],\"finish_reason\":\"error\","
                        "\"error\":\"no \\\"room\\\"\",\"logprobs\":[{\"token\":3,\"logprob\":-0.5,\"top\":"
                        "[{\"token\":3,\"logprob\":-0.5},{\"token\":4,\"logprob\":-1.5}]},{\"token\":70000,"
                        "\"logprob\":null,\"top\":[{\"token\":1,\"logprob\":-0.25},{\"token\":2,"
                        "\"logprob\":-2.0}]}]}");
    free(line);
}

static void repairs_what_is_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text, *repaired;
    } cases[] = {
        {"h\xc3\xa9 \xf0\x9f\x98\x80", "h\xc3\xa9 \xf0\x9f\x98\x80"},
        // Unicode standard, tables 3-8 to 3-11
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", "????????\x41"},
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", "????????\x41"},
        {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", "?????\x41??\x42"},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "????\x41"},
        {"\xe2\x82", "?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[64];
        size_t used = 0, bytes;
        for (const char *c = cases[i].repaired; *c; c++)
            if (*c == '?' && i > 0)
                used += (size_t)sprintf(expected + used, "\xef\xbf\xbd");
            else
                expected[used++] = *c;
        expected[used] = '\0';
        char *repaired = oct_utf8_repair(cases[i].text, strlen(cases[i].text), &bytes);
        assert_string_equal(repaired, expected);
        assert_int_equal(bytes, used);
        free(repaired);
    }
}

// Whatever the bytes, the line is JSON that reads back.
static void any_bytes_give_json(void **state)
{
    (void)state;
    uint32_t random = 5;
    for (int round = 0; round < 3000; round++) {
        char text[40];
        for (size_t i = 0; i < sizeof text; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = (char)(random >> 24);
            if (random >> 8 & 1)
                text[i] = (char)("\xed\xf4\xe0\xf0\x80\x9f\xa0\x90"[random >> 9 & 7]);
        }
        oct_response response = {.id = "0", .text = text, .text_bytes = 1 + random % sizeof text};
        char *line = oct_response_format(&response);
        assert_non_null(line);
        json_t *json = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        json_decref(json);
        free(line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(reads_messages),
        cmocka_unit_test(takes_defaults_for_what_is_left_out),
        cmocka_unit_test(keeps_ids_and_skips_a_byte_order_mark),
        cmocka_unit_test(refuses_wrong_lines_with_place_and_expectation),
        cmocka_unit_test(blank_lines_are_seen),
        cmocka_unit_test(survives_damaged_lines),
        cmocka_unit_test(writes_a_response),
        cmocka_unit_test(repairs_what_is_not_utf8),
        cmocka_unit_test(any_bytes_give_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
