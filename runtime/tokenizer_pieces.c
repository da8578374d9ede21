// The pieces of a vocabulary: from the texts that the checkpoint stores to the bytes that tokens stand for.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_parts.h"
#include "runtime/utf8.h"

// The byte of a character of GPT-2's alphabet (openai/gpt-2, encoder.py, bytes_to_unicode), -1 for other
// characters: the printable bytes of Latin-1 stand for themselves, the other 68 (00 to 20, 7F to A0, AD) are
// the code points from 256 on, in order.
static int alphabet_byte(uint32_t code)
{
    if ((code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xFF && code != 0xAD))
        return (int)code;
    if (code >= 0x100 && code <= 0x120)
        return (int)(code - 0x100);
    if (code >= 0x121 && code <= 0x142)
        return (int)(code - 0x121 + 0x7F);
    return code == 0x143 ? 0xAD : -1;
}

size_t oct_byte_alphabet_decode(const char *text, size_t bytes, char *out)
{
    size_t n = 0, length;
    for (size_t at = 0; at < bytes; at += length) {
        if (oct_utf8_step(text + at, bytes - at, &length) != OCT_UTF8_VALID)
            return SIZE_MAX;
        int byte = alphabet_byte(oct_utf8_decode(text + at, length));
        if (byte < 0)
            return SIZE_MAX;
        out[n++] = (char)byte;
    }
    return n;
}

// SentencePiece writes U+2581 for a space.
static size_t decode_spaces(const char *text, size_t bytes, char *out)
{
    size_t n = 0;
    for (size_t at = 0; at < bytes;) {
        if (bytes - at >= 3 && memcmp(text + at, "\xE2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            at += 3;
        } else {
            out[n++] = text[at++];
        }
    }
    return n;
}

// The byte that "<0x0A>" names, or -1.
static int named_byte(const char *text, size_t bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>' || !text[3] || !text[4])
        return -1;
    const char *high = strchr(digits, text[3]), *low = strchr(digits, text[4]);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static size_t decode_piece(oct_tokenizer *tokenizer, int32_t id, const char *text, size_t bytes, char *out)
{
    int type = tokenizer->types[id];
    if (tokenizer->byte_level && type == OCT_TOKEN_NORMAL) {
        size_t n = oct_byte_alphabet_decode(text, bytes, out);
        if (n != SIZE_MAX)
            return n;
    } else if (!tokenizer->byte_level && (type == OCT_TOKEN_NORMAL || type == OCT_TOKEN_BYTE)) {
        int byte = named_byte(text, bytes);
        if (byte >= 0) {
            tokenizer->types[id] = OCT_TOKEN_BYTE; // some vocabularies have no types
            out[0] = (char)byte;
            return 1;
        }
        return decode_spaces(text, bytes, out);
    }
    memcpy(out, text, bytes);
    return bytes;
}

oct_status oct_tokenizer_build_pieces(oct_tokenizer *tokenizer, const oct_vocabulary *vocabulary)
{
    const oct_strings *tokens = &vocabulary->tokens;
    tokenizer->offsets = malloc(((size_t)tokens->count + 1) * sizeof *tokenizer->offsets);
    tokenizer->pieces = malloc(tokens->offsets[tokens->count] + 1); // pieces are never longer than texts
    if (!tokenizer->offsets || !tokenizer->pieces)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the pieces of %d tokens", tokens->count);
    uint64_t at = 0;
    for (int32_t id = 0; id < tokens->count; id++) {
        uint64_t begin = tokens->offsets[id];
        size_t bytes = decode_piece(tokenizer, id, tokens->bytes + begin, tokens->offsets[id + 1] - begin,
                                    tokenizer->pieces + at);
        tokenizer->offsets[id] = at;
        at += bytes;
        if (bytes > tokenizer->longest_piece)
            tokenizer->longest_piece = bytes;
    }
    tokenizer->offsets[tokens->count] = at;
    return OCT_OK;
}
