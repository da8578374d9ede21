// Writes prompts in the form of a recognised chat template.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/chat_template.h"

typedef struct part {
    const char *text;
    size_t bytes;
} part;

// As Python's str.strip(), which the templates call, for ASCII.
static bool is_space(char c)
{
    return (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= ' ');
}

static part trim(part content)
{
    while (content.bytes > 0 && is_space(content.text[0])) {
        content.text++;
        content.bytes--;
    }
    while (content.bytes > 0 && is_space(content.text[content.bytes - 1]))
        content.bytes--;
    return content;
}

static part drop_thoughts(part content, bool always_strips)
{
    static const char end[] = "</think>";
    bool strips = always_strips;
    for (const char *at = content.text; (at = strstr(at, end)) != NULL; strips = true) {
        at += strlen(end);
        content = (part){at, strlen(at)};
    }
    while (strips && content.bytes > 0 && content.text[0] == '\n') {
        content.text++;
        content.bytes--;
    }
    return content;
}

static bool is_role(const oct_chat_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

static part content_of(const oct_chat_template *chat, const oct_chat_message *message)
{
    part content = {message->content, strlen(message->content)};
    bool answer = is_role(message, "assistant");
    if (answer && chat->drops_thoughts)
        content = drop_thoughts(content, chat->strips_answers);
    bool trims = answer                     ? chat->trims_answers
                 : is_role(message, "user") ? chat->trims_users
                                            : chat->trims_system;
    return trims ? trim(content) : content;
}

static void put(FILE *out, const char *text)
{
    fputs(text, out);
}

static void put_part(FILE *out, part content)
{
    if (content.bytes > 0)
        fwrite(content.text, 1, content.bytes, out);
}

static void put_space(FILE *out, bool wanted)
{
    if (wanted)
        fputc(' ', out);
}

typedef struct conversation {
    const oct_chat_template *chat;
    part system;                   // text NULL: none
    const oct_chat_message *turns; // user, assistant, user, …
    size_t count;
    bool generates;
} conversation;

static void put_chatml_turn(FILE *out, const char *role, part content)
{
    fprintf(out, "<|im_start|>%s\n", role);
    put_part(out, content);
    put(out, "<|im_end|>\n");
}

static void render_chatml(FILE *out, const conversation *talk)
{
    if (talk->system.text)
        put_chatml_turn(out, "system", talk->system);
    for (size_t i = 0; i < talk->count; i++)
        put_chatml_turn(out, talk->turns[i].role, content_of(talk->chat, &talk->turns[i]));
    if (talk->generates)
        put(out, talk->chat->opens_thought ? "<|im_start|>assistant\n<think>\n" : "<|im_start|>assistant\n");
}

static void put_llama3_turn(FILE *out, const char *role, const char *preamble, part content)
{
    fprintf(out, "<|start_header_id|>%s<|end_header_id|>\n\n%s", role, preamble);
    put_part(out, content);
    put(out, "<|eot_id|>");
}

static void render_llama3(FILE *out, const conversation *talk)
{
    const char *preamble = talk->chat->preamble ? talk->chat->preamble : "";
    if (talk->system.text || talk->chat->preamble)
        put_llama3_turn(out, "system", preamble, talk->system);
    for (size_t i = 0; i < talk->count; i++)
        put_llama3_turn(out, talk->turns[i].role, "", content_of(talk->chat, &talk->turns[i]));
    if (talk->generates)
        put(out, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void render_gemma(FILE *out, const conversation *talk)
{
    for (size_t i = 0; i < talk->count; i++) {
        put(out, i % 2 ? "<start_of_turn>model\n" : "<start_of_turn>user\n");
        if (i == 0 && talk->system.text) {
            put_part(out, talk->system);
            put(out, "\n\n");
        }
        put_part(out, content_of(talk->chat, &talk->turns[i]));
        put(out, "<end_of_turn>\n");
    }
    if (talk->generates)
        put(out, "<start_of_turn>model\n");
}

// A user message of the families that write [INST].
static void put_question(FILE *out, const conversation *talk, size_t i)
{
    const oct_chat_template *chat = talk->chat;
    size_t system_at = chat->family == OCT_CHAT_MISTRAL_V3 ? talk->count - 1 : 0;
    bool with_system = talk->system.text && i == system_at && chat->family != OCT_CHAT_MISTRAL_V7;
    part content = content_of(chat, &talk->turns[i]);
    if (i > 0 && chat->repeats_bos)
        put(out, "<s>");
    put_space(out, chat->space_before_open);
    put(out, "[INST]");
    put_space(out, chat->space_after_open);
    if (with_system && chat->family == OCT_CHAT_LLAMA2) {
        put(out, "<<SYS>>\n");
        put_part(out, talk->system);
        put(out, "\n<</SYS>>\n\n");
        // The template trims system and user text together: in front there is the bracket.
        content = (part){talk->turns[i].content, strlen(talk->turns[i].content)};
        while (chat->trims_users && content.bytes > 0 && is_space(content.text[content.bytes - 1]))
            content.bytes--;
    } else if (with_system) {
        put_part(out, talk->system);
        put(out, "\n\n");
    }
    put_part(out, content);
    put_space(out, chat->space_before_close);
    put(out, "[/INST]");
}

static void render_brackets(FILE *out, const conversation *talk)
{
    const oct_chat_template *chat = talk->chat;
    if (chat->family == OCT_CHAT_MISTRAL_V7 && talk->system.text) {
        put(out, chat->space_in_system ? "[SYSTEM_PROMPT] " : "[SYSTEM_PROMPT]");
        put_part(out, talk->system);
        put(out, "[/SYSTEM_PROMPT]");
    }
    for (size_t i = 0; i < talk->count; i++) {
        if (i % 2 == 0) {
            put_question(out, talk, i);
            continue;
        }
        put_space(out, chat->space_before_answer);
        put_part(out, content_of(chat, &talk->turns[i]));
        put_space(out, chat->space_after_answer);
        put(out, "</s>");
    }
}

static oct_status check_roles(const oct_chat_template *chat, const oct_chat_message *messages, size_t n,
                              bool add_generation_prompt)
{
    size_t first = n > 0 && is_role(&messages[0], "system");
    if (first > 0 && chat->refuses_system)
        return oct_fail(OCT_ERR_USAGE,
                        "the model's chat template allows no system message; put its text into "
                        "the first user message");
    if (n == first)
        return oct_fail(OCT_ERR_USAGE, "the messages have no user message; at least one is expected");
    for (size_t i = first; i < n; i++) {
        const char *expected = (i - first) % 2 == 0 ? "user" : "assistant";
        if (!is_role(&messages[i], expected))
            return oct_fail(
                OCT_ERR_USAGE,
                "message %zu has the role \"%.40s\"; expected is \"%s\" (an optional system message, "
                "then user and assistant in turn)",
                i + 1, messages[i].role, expected);
    }
    if (add_generation_prompt && !is_role(&messages[n - 1], "user"))
        return oct_fail(OCT_ERR_USAGE, "the last message is the assistant's; expected is one of the user");
    return OCT_OK;
}

oct_status oct_chat_template_render(const oct_chat_template *chat, const oct_chat_message *messages, size_t n,
                                    bool add_generation_prompt, char **prompt)
{
    oct_status status = check_roles(chat, messages, n, add_generation_prompt);
    if (status != OCT_OK)
        return status;
    conversation talk = {.chat = chat, .turns = messages, .count = n, .generates = add_generation_prompt};
    if (is_role(&messages[0], "system")) {
        talk.system = content_of(chat, &messages[0]);
        talk.turns++;
        talk.count--;
    } else if (chat->default_system) {
        talk.system = (part){chat->default_system, strlen(chat->default_system)};
    } else {
        talk.system = (part){NULL, 0};
    }
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a chat prompt");
    if (chat->family == OCT_CHAT_CHATML)
        render_chatml(out, &talk);
    else if (chat->family == OCT_CHAT_LLAMA3)
        render_llama3(out, &talk);
    else if (chat->family == OCT_CHAT_GEMMA)
        render_gemma(out, &talk);
    else
        render_brackets(out, &talk);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return oct_fail(OCT_ERR_MACHINE, "no memory for a chat prompt");
    }
    *prompt = text;
    return OCT_OK;
}
