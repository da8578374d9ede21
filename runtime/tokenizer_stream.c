// The streaming detokenizer: tokens in, whole UTF-8 sequences out.
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"
#include "runtime/utf8.h"

enum { MAX_HELD = 3 }; // bytes of an unfinished sequence

static const char replacement[3] = {'\xEF', '\xBF', '\xBD'}; // U+FFFD

struct oct_detokenizer {
    const oct_tokenizer *tokenizer;
    unsigned flags;
    bool begun;   // text has been seen: no space to drop any more
    size_t held;  // bytes of an unfinished sequence, at the front of `input`
    char *input;  // [MAX_HELD + longest piece]
    char *output; // [3 * (MAX_HELD + longest piece)]: a byte becomes at most one U+FFFD
};

oct_status oct_detokenizer_create(oct_detokenizer **detokenizer, const oct_tokenizer *tokenizer,
                                  unsigned flags)
{
    oct_detokenizer *made = calloc(1, sizeof *made);
    size_t room = MAX_HELD + tokenizer->longest_piece;
    if (made) {
        made->tokenizer = tokenizer;
        made->flags = flags;
        made->input = malloc(room);
        made->output = malloc(room * sizeof replacement);
    }
    if (!made || !made->input || !made->output) {
        oct_detokenizer_destroy(made);
        return oct_fail(OCT_ERR_MACHINE, "no memory for a detokenizer");
    }
    *detokenizer = made;
    return OCT_OK;
}

void oct_detokenizer_destroy(oct_detokenizer *detokenizer)
{
    if (!detokenizer)
        return;
    free(detokenizer->input);
    free(detokenizer->output);
    free(detokenizer);
}

// Moves what is decided from the first n bytes of input to output; what is not stays held.
static size_t decide(oct_detokenizer *detokenizer, size_t n)
{
    const char *input = detokenizer->input;
    size_t out = 0, at = 0, length;
    while (at < n) {
        oct_utf8 state = oct_utf8_step(input + at, n - at, &length);
        if (state == OCT_UTF8_INCOMPLETE)
            break;
        const char *from = state == OCT_UTF8_VALID ? input + at : replacement;
        size_t bytes = state == OCT_UTF8_VALID ? length : sizeof replacement;
        memcpy(detokenizer->output + out, from, bytes);
        out += bytes;
        at += length;
    }
    detokenizer->held = n - at;
    memmove(detokenizer->input, input + at, n - at);
    return out;
}

const char *oct_detokenizer_feed(oct_detokenizer *detokenizer, int32_t id, size_t *bytes)
{
    const oct_tokenizer *tokenizer = detokenizer->tokenizer;
    size_t piece_bytes;
    const char *piece = oct_tokenizer_piece(tokenizer, id, &piece_bytes);
    bool control = oct_tokenizer_is_control(tokenizer, id);
    *bytes = 0;
    if (!piece || (control && !(detokenizer->flags & OCT_DETOKENIZE_SPECIAL)))
        return detokenizer->output;
    if (!control && !detokenizer->begun) {
        detokenizer->begun = true;
        if ((detokenizer->flags & OCT_DETOKENIZE_BEGIN) && tokenizer->add_space_prefix && piece_bytes > 0 &&
            piece[0] == ' ') {
            piece++;
            piece_bytes--;
        }
    }
    if (detokenizer->flags & OCT_DETOKENIZE_RAW) {
        *bytes = piece_bytes;
        return piece;
    }
    memcpy(detokenizer->input + detokenizer->held, piece, piece_bytes);
    *bytes = decide(detokenizer, detokenizer->held + piece_bytes);
    return detokenizer->output;
}

const char *oct_detokenizer_flush(oct_detokenizer *detokenizer, size_t *bytes)
{
    *bytes = detokenizer->held > 0 ? sizeof replacement : 0;
    detokenizer->held = 0;
    return replacement;
}
