// Chat templates: a list of messages to the prompt text that the model was trained on.
//
// Checkpoints carry their template as Jinja text. Octet has no Jinja interpreter: it recognises the family
// of the template by its text and writes the prompt of that family itself.
#ifndef OCT_RUNTIME_CHAT_TEMPLATE_H
#define OCT_RUNTIME_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/status.h"

typedef struct oct_chat_message {
    const char *role;    // "system", "user" or "assistant"
    const char *content; // UTF-8, terminated
} oct_chat_message;

typedef enum oct_chat_family {
    OCT_CHAT_CHATML,     // SmolLM2, Qwen, Hermes, …: <|im_start|>role … <|im_end|>
    OCT_CHAT_LLAMA2,     // [INST] <<SYS>> … <</SYS>> … [/INST]
    OCT_CHAT_LLAMA3,     // <|start_header_id|>role<|end_header_id|> … <|eot_id|>
    OCT_CHAT_MISTRAL_V1, // [INST] … [/INST], a system text in front of the first user message
    OCT_CHAT_MISTRAL_V3, // [INST] … [/INST], a system text in front of the last user message
    OCT_CHAT_MISTRAL_V7, // [SYSTEM_PROMPT] … [/SYSTEM_PROMPT][INST] … [/INST]
    OCT_CHAT_GEMMA       // <start_of_turn>user … <end_of_turn>, a system text in front of the first message
} oct_chat_family;

// What was read from a template's text. Callers need begins_with_bos; the rest is for rendering.
typedef struct oct_chat_template {
    oct_chat_family family;
    bool begins_with_bos; // the prompt begins with BOS: encode it with OCT_ENCODE_ADD_BOS
    bool repeats_bos;     // Llama 2: "<s>" in front of every user message
    bool refuses_system;  // the template allows no system message
    bool trims_system, trims_users, trims_answers; // white space at both ends of contents is dropped
    bool drops_thoughts; // Qwen3, QwQ: of earlier answers only what stands behind "</think>" is kept
    bool strips_answers; // QwQ: line breaks at the front of earlier answers are dropped
    bool opens_thought;  // QwQ: the answer begins with "<think>"
    // The bracket families: where their text has a space.
    bool space_before_open, space_after_open, space_before_close, space_before_answer, space_after_answer;
    bool space_in_system;
    char *default_system; // system text used where the messages have none, NULL where there is none; owned
    char *preamble;       // Llama 3.1 and later: text in front of every system text, or NULL; owned
} oct_chat_template;

// Recognises a template. `text` is the template as the checkpoint has it ("" or NULL: none). Default system
// texts that the template computes (with today's date, say) are left out, and Llama 3's "Today Date" is the
// one written in the template, so that a prompt is the same every day.
// Errors: OCT_ERR_USAGE for no template and for an unknown one; the message offers `-p` without `--chat`.
oct_status oct_chat_template_recognise(oct_chat_template *chat, const char *text);

// Frees what the description owns and zeroes it; a zeroed one is allowed.
void oct_chat_template_free(oct_chat_template *chat);

// Writes the prompt of n messages to *prompt (terminated, to be freed with free()); with
// add_generation_prompt it ends where the assistant's answer begins. BOS is not part of it. Encode it with
// OCT_ENCODE_PARSE_SPECIAL, and OCT_ENCODE_ADD_BOS where begins_with_bos is set: special tokens' names
// inside contents become those tokens too, as with the reference's templates.
// Messages are: at most one system message, at the front; then user and assistant in turn, user first.
// Errors: OCT_ERR_USAGE for any other role or order, with the message's number; OCT_ERR_MACHINE when
// memory is out.
oct_status oct_chat_template_render(const oct_chat_template *chat, const oct_chat_message *messages, size_t n,
                                    bool add_generation_prompt, char **prompt);

#endif
