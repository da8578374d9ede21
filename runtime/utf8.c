// Steps through UTF-8, byte ranges as the Unicode standard's table 3-7 gives them.
#include "runtime/utf8.h"

// The bytes of a sequence by its first byte (0: begins none) and the range of its second byte.
static size_t sequence_shape(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    if (lead < 0xE0)
        return 2;
    if (lead == 0xE0)
        *low = 0xA0;
    if (lead == 0xED)
        *high = 0x9F;
    if (lead < 0xF0)
        return 3;
    if (lead == 0xF0)
        *low = 0x90;
    if (lead == 0xF4)
        *high = 0x8F;
    return 4;
}

oct_utf8 oct_utf8_step(const char *text, size_t n, size_t *length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char low, high;
    size_t want = sequence_shape(bytes[0], &low, &high);
    if (want == 0) {
        *length = 1;
        return OCT_UTF8_INVALID;
    }
    for (size_t i = 1; i < want; i++) {
        *length = i;
        if (i == n)
            return OCT_UTF8_INCOMPLETE;
        if (bytes[i] < low || bytes[i] > high)
            return OCT_UTF8_INVALID;
        low = 0x80;
        high = 0xBF;
    }
    *length = want;
    return OCT_UTF8_VALID;
}

size_t oct_utf8_valid_prefix(const char *text, size_t n)
{
    size_t at = 0, length;
    while (at < n && oct_utf8_step(text + at, n - at, &length) == OCT_UTF8_VALID)
        at += length;
    return at;
}

uint32_t oct_utf8_decode(const char *text, size_t length)
{
    static const unsigned char lead_bits[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const unsigned char *bytes = (const unsigned char *)text;
    uint32_t code = bytes[0] & lead_bits[length];
    for (size_t i = 1; i < length; i++)
        code = code << 6 | (bytes[i] & 0x3F);
    return code;
}

size_t oct_utf8_encode(uint32_t code, char out[4])
{
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(lead[length] | code);
    return length;
}
