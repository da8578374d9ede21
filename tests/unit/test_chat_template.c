// The chat templates against what Jinja makes of the models' own templates (golden/tokenizer/chat.json.gz).
#include <jansson.h>

#include "runtime/chat_template.h"
#include "test_tokenizer_fixture.h"

static json_t *read_golden(void)
{
    fixture file = fixture_open("chat.json");
    json_error_t error;
    json_t *golden = json_loadb(file.bytes, file.size, 0, &error);
    if (!golden)
        fail_msg("chat.json: %s", error.text);
    free(file.bytes);
    return golden;
}

static const char *text_of(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void check_case(const oct_chat_template *chat, const char *name, json_t *what)
{
    oct_chat_message messages[16];
    json_t *list = json_object_get(what, "messages"), *message;
    size_t i;
    assert_true(json_array_size(list) <= 16);
    json_array_foreach(list, i, message)
    {
        messages[i] = (oct_chat_message){text_of(message, "role"), text_of(message, "content")};
    }
    char *prompt = NULL;
    bool generate = json_is_true(json_object_get(what, "generate"));
    const char *expected = text_of(what, "prompt");
    oct_failure_clear();
    oct_status status = oct_chat_template_render(chat, messages, json_array_size(list), generate, &prompt);
    if (!expected) {
        assert_int_equal(status, OCT_ERR_USAGE);
        assert_true(*oct_failure_text() != '\0');
        return;
    }
    if (status != OCT_OK)
        fail_msg("%s: %s", name, oct_failure_text());
    if (chat->begins_with_bos) {
        assert_memory_equal(expected, "<s>", 3);
        expected += 3;
    }
    if (strcmp(prompt, expected) != 0)
        fail_msg("%s:\n%s\nexpected:\n%s", name, prompt, expected);
    free(prompt);
}

// The golden data's words, by oct_chat_family.
static const char *const families[] = {"chatml", "llama2", "llama3", "mistral-v1", "mistral-v3", "mistral-v7", "gemma"};

static void test_golden(void **state)
{
    (void)state;
    json_t *golden = read_golden(), *entry, *what;
    size_t i, j, known = 0, refused = 0;
    json_array_foreach(golden, i, entry)
    {
        const char *name = text_of(entry, "name"), *family = text_of(entry, "family");
        oct_chat_template chat = {0};
        oct_failure_clear();
        oct_status status = oct_chat_template_recognise(&chat, text_of(entry, "template"));
        if (!family) {
            if (status != OCT_ERR_USAGE)
                fail_msg("%s is taken for %s", name, families[chat.family]);
            assert_non_null(strstr(oct_failure_text(), "-p without --chat"));
            refused++;
            continue;
        }
        if (status != OCT_OK)
            fail_msg("%s: %s", name, oct_failure_text());
        assert_string_equal(families[chat.family], family);
        json_array_foreach(json_object_get(entry, "cases"), j, what)
        {
            check_case(&chat, name, what);
        }
        oct_chat_template_free(&chat);
        known++;
    }
    assert_true(known >= 20 && refused >= 5);
    json_decref(golden);
}

static void test_none(void **state)
{
    (void)state;
    oct_chat_template chat = {0};
    oct_failure_clear();
    assert_int_equal(oct_chat_template_recognise(&chat, ""), OCT_ERR_USAGE);
    assert_non_null(strstr(oct_failure_text(), "-p without --chat"));
    assert_int_equal(oct_chat_template_recognise(&chat, NULL), OCT_ERR_USAGE);
    oct_chat_template_free(&chat);
}

static void check_refused(const oct_chat_message *messages, size_t n, bool generate, const char *says)
{
    oct_chat_template chat = {.family = OCT_CHAT_CHATML};
    char *prompt = NULL;
    oct_failure_clear();
    assert_int_equal(oct_chat_template_render(&chat, messages, n, generate, &prompt), OCT_ERR_USAGE);
    if (!strstr(oct_failure_text(), says))
        fail_msg("\"%s\" does not say \"%s\"", oct_failure_text(), says);
    assert_null(prompt);
}

static void test_roles(void **state)
{
    (void)state;
    const oct_chat_message tool[] = {{"user", "a"}, {"tool", "b"}};
    const oct_chat_message twice[] = {{"system", "s"}, {"user", "a"}, {"user", "b"}};
    const oct_chat_message late[] = {{"user", "a"}, {"assistant", "b"}, {"system", "s"}};
    const oct_chat_message answered[] = {{"user", "a"}, {"assistant", "b"}};
    check_refused(tool, 2, true, "message 2 has the role \"tool\"");
    check_refused(twice, 3, true, "message 3 has the role \"user\"; expected is \"assistant\"");
    check_refused(late, 3, true, "message 3 has the role \"system\"");
    check_refused(answered, 2, true, "last message");
    check_refused(twice, 1, true, "no user message");
    check_refused(twice, 0, true, "no user message");
}

// Templates cut off anywhere are recognised or refused, and render without a fault (run under ASan).
static void test_cut_templates(void **state)
{
    (void)state;
    json_t *golden = read_golden(), *entry;
    const oct_chat_message messages[] = {{"user", "a"}};
    size_t i;
    json_array_foreach(golden, i, entry)
    {
        const char *whole = text_of(entry, "template");
        size_t length = strlen(whole), step = 1 + length / 97;
        for (size_t bytes = 0; bytes < length; bytes += step) {
            char *cut = strndup(whole, bytes), *prompt = NULL;
            oct_chat_template chat = {0};
            oct_failure_clear();
            if (oct_chat_template_recognise(&chat, cut) == OCT_OK) {
                assert_int_equal(oct_chat_template_render(&chat, messages, 1, true, &prompt), OCT_OK);
                free(prompt);
            }
            oct_chat_template_free(&chat);
            free(cut);
        }
    }
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_cut_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
