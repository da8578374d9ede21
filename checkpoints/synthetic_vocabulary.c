// A byte-level vocabulary for synthetic models: it encodes and decodes every text.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/synthetic.h"

// Merges in order of rank; Ġ is the space of the byte alphabet. Each joins tokens that exist by then.
static const char *const merges[] = {"t h",  "Ġ th",  "i n",  "e r", "a n",   "Ġ a", "o n", "r e",
                                     "e n",  "Ġth e", "o u",  "i t", "Ġ o",   "a t", "i s", "o r",
                                     "an d", "Ġ w",   "in g", "Ġ s", "Ġa nd", "e s", "h a", "l l"};
enum { MERGES = sizeof merges / sizeof merges[0] };
static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
enum { SPECIALS = 3, FIRST_SPECIAL = 256 + MERGES };

static const char template_text[] = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ "
                                    "message.content }}<|im_end|>\n{% endfor %}"
                                    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static bool append(oct_strings *strings, const char *text, size_t length, uint64_t room)
{
    uint64_t used = strings->offsets[strings->count];
    if (used + length > room)
        return false;
    memcpy(strings->bytes + used, text, length);
    strings->offsets[++strings->count] = used + length;
    return true;
}

static bool make(oct_strings *strings, size_t count, uint64_t room)
{
    strings->offsets = calloc(count + 1, sizeof *strings->offsets);
    strings->bytes = malloc(room);
    return strings->offsets && strings->bytes;
}

// The printable character that GPT-2's byte-level BPE gives a byte: printable Latin-1 bytes stand for
// themselves, the others for U+0100 onwards in their order.
static size_t byte_character(int byte, char out[2])
{
    int point = 256;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte && printable)
            point = byte;
        else if (b < byte && !printable)
            point++;
    }
    if (point < 128) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xc0 | point >> 6);
    out[1] = (char)(0x80 | (point & 63));
    return 2;
}

static bool fill_tokens(oct_vocabulary *v, int32_t count, uint64_t room)
{
    bool good = true;
    char text[64];
    for (int byte = 0; byte < 256 && good; byte++)
        good = append(&v->tokens, text, byte_character(byte, text), room);
    for (int i = 0; i < MERGES && good; i++) {
        size_t left = strcspn(merges[i], " "), right = strlen(merges[i]) - left - 1;
        memcpy(text, merges[i], left);
        memcpy(text + left, merges[i] + left + 1, right);
        good = append(&v->tokens, text, left + right, room) &&
               append(&v->merges, merges[i], strlen(merges[i]), MERGES * 16);
    }
    for (int i = 0; i < SPECIALS && good; i++)
        good = append(&v->tokens, specials[i], strlen(specials[i]), room);
    while (v->tokens.count < count && good)
        good = append(&v->tokens, text, (size_t)snprintf(text, sizeof text, "Ġw%d", v->tokens.count), room);
    return good;
}

oct_status oct_synthetic_vocabulary(int32_t count, oct_vocabulary *v)
{
    uint64_t room = (uint64_t)count * 16 + 4096;
    *v = (oct_vocabulary){.bos = FIRST_SPECIAL,
                          .eos = FIRST_SPECIAL + 2,
                          .eot = FIRST_SPECIAL + 2,
                          .unknown = -1,
                          .padding = -1};
    v->kind = strdup("gpt2");
    v->pretokenizer = strdup("smollm");
    v->chat_template = strdup(template_text);
    v->types = calloc((size_t)count, sizeof *v->types);
    bool good = v->kind && v->pretokenizer && v->chat_template && v->types &&
                make(&v->tokens, (size_t)count, room) && make(&v->merges, MERGES, MERGES * 16) &&
                fill_tokens(v, count, room);
    for (int32_t i = 0; i < count && good; i++)
        v->types[i] =
            i >= FIRST_SPECIAL && i < FIRST_SPECIAL + SPECIALS ? OCT_TOKEN_CONTROL : OCT_TOKEN_NORMAL;
    if (good)
        return oct_vocabulary_check(v);
    oct_vocabulary_free(v);
    return oct_fail(OCT_ERR_MACHINE, "no memory for a vocabulary of %d tokens", count);
}
