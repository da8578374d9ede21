// Recognises chat templates by the literals in their Jinja text.
//
// What a family's templates have in common is known to the renderer (chat_template_render.c); what differs
// between models (spaces around brackets, default system texts, trimming) is read here from the text.
#include "runtime/chat_template.h"

#include <stdlib.h>
#include <string.h>

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *at)
{
    while (is_blank(*at))
        at++;
    return at;
}

// The string literal's text from `at` (behind its opening quote, or inside) up to `stop` or the closing
// quote, with escapes resolved; NULL where the literal closes before `stop` (unless `stop` is NULL) or
// memory is out. *end is set to where reading ended.
static char *read_literal(const char *at, char quote, const char *stop, const char **end)
{
    char *text = malloc(strlen(at) + 1);
    size_t n = 0;
    for (; text && *at && *at != quote; at++) {
        if (stop && strncmp(at, stop, strlen(stop)) == 0)
            break;
        if (*at == '\\' && at[1]) {
            at++;
            text[n++] = (char)(*at == 'n' ? '\n' : *at == 't' ? '\t' : *at);
        } else {
            text[n++] = *at;
        }
    }
    if (text)
        text[n] = '\0';
    *end = at;
    if (text && (*at == '\0' || (stop && *at == quote))) {
        free(text);
        text = NULL;
    }
    return text;
}

// ChatML: a literal "<|im_start|>system\n…<|im_end|>" that holds the text itself is the default.
static char *find_chatml_system(const char *text)
{
    static const char open[] = "<|im_start|>system";
    for (const char *at = strstr(text, open); at; at = strstr(at + 1, open)) {
        const char *quote = at, *end;
        while (quote > text && *quote != '\'' && *quote != '"')
            quote--;
        const char *body = at + strlen(open);
        if (*body == '\n')
            body++;
        else if (strncmp(body, "\\n", 2) == 0)
            body += 2;
        else
            continue;
        char *system = read_literal(body, *quote, "<|im_end|>", &end);
        if (system && *system)
            return system;
        free(system);
    }
    return NULL;
}

// The first assignment of a plain literal, not empty, to a variable of this name.
static char *find_assigned(const char *text, const char *name)
{
    for (const char *at = strstr(text, name); at; at = strstr(at + 1, name)) {
        const char *value = skip_blanks(at + strlen(name)), *end;
        if (*value != '=')
            continue;
        value = skip_blanks(value + 1);
        if (*value != '\'' && *value != '"')
            continue;
        char *found = read_literal(value + 1, *value, NULL, &end);
        const char *rest = found ? skip_blanks(end + 1) : "";
        if (found && *found && (strncmp(rest, "%}", 2) == 0 || strncmp(rest, "-%}", 3) == 0))
            return found;
        free(found);
    }
    return NULL;
}

// Whether the literal of one space is added in front of something (`' ' + content`), or in front of EOS.
static bool adds_space(const char *text, bool before_eos)
{
    for (const char *at = strchr(text, ' '); at; at = strchr(at + 1, ' ')) {
        if (at == text || (at[-1] != '\'' && at[-1] != '"') || at[1] != at[-1])
            continue;
        const char *next = skip_blanks(at + 2);
        if (*next == '+' && before_eos == (strncmp(skip_blanks(next + 1), "eos_token", 9) == 0))
            return true;
    }
    return false;
}

static void read_bracket_spaces(oct_chat_template *chat, const char *text)
{
    const char *open = strstr(text, "[INST]"), *close = strstr(text, "[/INST]");
    chat->space_before_open = open >= text + 2 && open[-1] == ' ' && (open[-2] == '\'' || open[-2] == '"');
    chat->space_after_open = open[strlen("[INST]")] == ' ';
    chat->space_before_close = close && close > text && close[-1] == ' ';
    chat->space_before_answer = adds_space(text, false);
    chat->space_after_answer = adds_space(text, true);
    chat->space_in_system = has(text, "[SYSTEM_PROMPT] ");
}

static void recognise_brackets(oct_chat_template *chat, const char *text)
{
    chat->family = OCT_CHAT_MISTRAL_V1;
    if (has(text, "<<SYS>>"))
        chat->family = OCT_CHAT_LLAMA2;
    else if (has(text, "[SYSTEM_PROMPT]"))
        chat->family = OCT_CHAT_MISTRAL_V7;
    else if (has(text, "loop.last and system_message"))
        chat->family = OCT_CHAT_MISTRAL_V3;
    read_bracket_spaces(chat, text);
    bool has_system = chat->family != OCT_CHAT_MISTRAL_V1 || has(text, "system_message");
    chat->refuses_system = !has_system;
    chat->trims_users = has(text, "content.strip()");
    chat->trims_answers = chat->trims_users || has(text, "|trim") || has(text, "| trim");
    chat->repeats_bos = chat->family == OCT_CHAT_LLAMA2 && has(text, "bos_token + '[INST]");
    chat->default_system = find_assigned(text, "system_message");
}

static void recognise_llama3(oct_chat_template *chat, const char *text)
{
    static const char knowledge[] = "Cutting Knowledge Date: December 2023\nToday Date: ";
    chat->family = OCT_CHAT_LLAMA3;
    chat->trims_system = chat->trims_users = chat->trims_answers = has(text, "| trim") || has(text, "|trim");
    if (!has(text, "Cutting Knowledge Date: December 2023"))
        return;
    char *date = find_assigned(text, "date_string");
    const char *written = date ? date : "26 Jul 2024";
    size_t room = sizeof knowledge + strlen(written) + 2;
    chat->preamble = malloc(room);
    if (chat->preamble) {
        memcpy(chat->preamble, knowledge, sizeof knowledge);
        strcat(chat->preamble, written);
        strcat(chat->preamble, "\n\n");
    }
    free(date);
}

static void recognise_chatml(oct_chat_template *chat, const char *text)
{
    chat->family = OCT_CHAT_CHATML;
    chat->default_system = find_chatml_system(text);
    chat->drops_thoughts = has(text, "split('</think>')[-1]");
    chat->strips_answers = chat->drops_thoughts && !has(text, "if '</think>' in ");
    chat->opens_thought = has(text, "<|im_start|>assistant\\n<think>\\n' }}") ||
                          has(text, "<|im_start|>assistant\n<think>\n' }}");
    bool trims = has(text, "message['content'] | trim") || has(text, "message['content']|trim");
    chat->trims_system = chat->trims_users = chat->trims_answers = trims;
}

static void recognise_gemma(oct_chat_template *chat, const char *text)
{
    chat->family = OCT_CHAT_GEMMA;
    chat->refuses_system = has(text, "System role not supported");
    chat->trims_users = chat->trims_answers = true;
}

// Marks of templates that write the literals of a family with a structure of their own: what the family's
// renderer makes of them would be wrong, however much it looks alike.
static bool is_of_another_structure(const char *text)
{
    static const char *const marks[] = {
        "<|im_sep|>",                // Phi 4
        "<|im_middle|>",             // Kimi
        "## Metadata",               // SmolLM3
        "function calling AI model", // Hermes, the variant for tools
        "calling functions",         // functionary
        "${recipient}",              // functionary
        "calling one or more of the provided functions",
        "<|turn>", // Gemma 4
        "messages[idx]",
        "keep_past_thinking",
        "preserve_thinking",
        "truncate_history_thinking",
        "reasoning_parts",
    };
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (has(text, marks[i]))
            return true;
    return false;
}

oct_status oct_chat_template_recognise(oct_chat_template *chat, const char *text)
{
    if (!text || !*text)
        return oct_fail(OCT_ERR_USAGE, "the checkpoint has no chat template; use -p without --chat");
    oct_chat_template made = {.begins_with_bos = has(text, "bos_token")};
    bool known = !is_of_another_structure(text);
    if (known && has(text, "<|im_start|>"))
        recognise_chatml(&made, text);
    else if (known && has(text, "<|start_header_id|>") && has(text, "<|eot_id|>"))
        recognise_llama3(&made, text);
    else if (known && has(text, "<start_of_turn>"))
        recognise_gemma(&made, text);
    else if (known && has(text, "[INST]"))
        recognise_brackets(&made, text);
    else
        return oct_fail(OCT_ERR_USAGE,
                        "the chat template of the checkpoint (%zu bytes) is of none of the families chatml, "
                        "llama2, llama3, mistral, gemma; use -p without --chat",
                        strlen(text));
    *chat = made;
    return OCT_OK;
}

void oct_chat_template_free(oct_chat_template *chat)
{
    free(chat->default_system);
    free(chat->preamble);
    *chat = (oct_chat_template){0};
}
