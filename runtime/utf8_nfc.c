// Normalisation to NFC as UAX #15 defines it: decompose, put combining marks in order, compose. Hangul by
// the arithmetic of the Unicode standard, section 3.12.
#include "runtime/utf8_nfc.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/utf8.h"

typedef struct combining_class {
    uint32_t first, last;
    unsigned char class;
} combining_class;
typedef struct nfc_split {
    uint32_t code, first, second; // second 0: one code point only
} nfc_split;
typedef struct nfc_join {
    uint32_t first, second, code;
} nfc_join;

#include "runtime/utf8_nfc_tables.h"

enum {
    SYLLABLES = 0xAC00,
    LEADS = 0x1100,
    VOWELS = 0x1161,
    TAILS = 0x11A7,
    N_LEADS = 19,
    N_VOWELS = 21,
    N_TAILS = 28,
    N_SYLLABLES = N_LEADS * N_VOWELS * N_TAILS,
    CODES_PER_BYTE = 2 // at most 4 code points from one of 2 bytes and more
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int compare_class(const void *key, const void *entry)
{
    uint32_t code = *(const uint32_t *)key;
    const combining_class *range = entry;
    return code < range->first ? -1 : code > range->last;
}

static unsigned char class_of(uint32_t code)
{
    if (code < 0x300)
        return 0;
    const combining_class *found = bsearch(&code, combining_classes, COUNT(combining_classes),
                                           sizeof combining_classes[0], compare_class);
    return found ? found->class : 0;
}

static int compare_split(const void *key, const void *entry)
{
    uint32_t code = *(const uint32_t *)key, other = ((const nfc_split *)entry)->code;
    return code < other ? -1 : code > other;
}

// Appends the full canonical decomposition of a code point and returns how many code points it has.
static size_t decompose(uint32_t code, uint32_t *out)
{
    if (code - SYLLABLES < N_SYLLABLES) {
        uint32_t index = code - SYLLABLES, tail = index % N_TAILS;
        out[0] = LEADS + index / (N_VOWELS * N_TAILS);
        out[1] = VOWELS + index % (N_VOWELS * N_TAILS) / N_TAILS;
        out[2] = TAILS + tail;
        return tail ? 3 : 2;
    }
    const nfc_split *split =
        code < 0xC0 ? NULL
                    : bsearch(&code, nfc_splits, COUNT(nfc_splits), sizeof nfc_splits[0], compare_split);
    if (!split) {
        out[0] = code;
        return 1;
    }
    size_t n = decompose(split->first, out);
    if (split->second)
        n += decompose(split->second, out + n);
    return n;
}

static int compare_join(const void *key, const void *entry)
{
    const nfc_join *a = key, *b = entry;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return a->second < b->second ? -1 : a->second > b->second;
}

// The code point that two compose to, or 0.
static uint32_t compose(uint32_t first, uint32_t second)
{
    if (first - LEADS < N_LEADS && second - VOWELS < N_VOWELS)
        return SYLLABLES + ((first - LEADS) * N_VOWELS + (second - VOWELS)) * N_TAILS;
    if (first - SYLLABLES < N_SYLLABLES && (first - SYLLABLES) % N_TAILS == 0 && second > TAILS &&
        second < TAILS + N_TAILS)
        return first + (second - TAILS);
    nfc_join key = {first, second, 0};
    const nfc_join *found = bsearch(&key, nfc_joins, COUNT(nfc_joins), sizeof nfc_joins[0], compare_join);
    return found ? found->code : 0;
}

// Sorts one run of combining marks by class, keeping the order within a class. Runs are short; a long one
// (a text made to be slow) is sorted by counting.
static void sort_marks(uint32_t *codes, size_t n, uint32_t *scratch)
{
    if (n > 32) {
        size_t at[257] = {0};
        for (size_t i = 0; i < n; i++)
            at[class_of(codes[i]) + 1]++;
        for (size_t class = 1; class <= 256; class ++)
            at[class] += at[class - 1];
        for (size_t i = 0; i < n; i++)
            scratch[at[class_of(codes[i])]++] = codes[i];
        memcpy(codes, scratch, n * sizeof *codes);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        uint32_t code = codes[i];
        size_t at = i;
        for (; at > 0 && class_of(codes[at - 1]) > class_of(code); at--)
            codes[at] = codes[at - 1];
        codes[at] = code;
    }
}

static void sort_all_marks(uint32_t *codes, size_t n, uint32_t *scratch)
{
    for (size_t i = 0; i < n; i++) {
        size_t begin = i;
        while (i < n && class_of(codes[i]) != 0)
            i++;
        sort_marks(codes + begin, i - begin, scratch);
    }
}

// Composes in place and returns how many code points are left: a mark joins the last starter unless
// something of its own class, or another starter, stands between.
static size_t compose_all(uint32_t *codes, size_t n)
{
    size_t out = 0, starter = SIZE_MAX;
    int last_class = -1; // of the code point in front; -1: the starter itself is in front
    for (size_t i = 0; i < n; i++) {
        int class = class_of(codes[i]);
        uint32_t joined = 0;
        if (starter != SIZE_MAX && last_class < class)
            joined = compose(codes[starter], codes[i]);
        if (joined) {
            codes[starter] = joined;
            continue;
        }
        if (class == 0) {
            starter = out;
            last_class = -1;
        } else {
            last_class = class;
        }
        codes[out++] = codes[i];
    }
    return out;
}

oct_status oct_utf8_nfc(const char *text, size_t bytes, char **normal, size_t *normal_bytes)
{
    *normal = NULL;
    *normal_bytes = bytes;
    bool plain = true; // below U+0300, which begins with byte CC, nothing changes
    for (size_t i = 0; i < bytes && plain; i++)
        plain = (unsigned char)text[i] < 0xCC;
    if (plain)
        return OCT_OK;
    size_t codes_room = bytes * CODES_PER_BYTE, n = 0, length, out = 0;
    uint32_t *codes = malloc(2 * codes_room * sizeof *codes);
    if (!codes)
        return oct_fail(OCT_ERR_MACHINE, "no memory to normalise a text of %zu bytes", bytes);
    for (size_t at = 0; at < bytes; at += length) {
        (void)oct_utf8_step(text + at, bytes - at, &length);
        n += decompose(oct_utf8_decode(text + at, length), codes + n);
    }
    sort_all_marks(codes, n, codes + codes_room);
    n = compose_all(codes, n);
    *normal = malloc(n * 4 + 1);
    if (*normal)
        for (size_t i = 0; i < n; i++)
            out += oct_utf8_encode(codes[i], *normal + out);
    free(codes);
    if (!*normal)
        return oct_fail(OCT_ERR_MACHINE, "no memory to normalise a text of %zu bytes", bytes);
    *normal_bytes = out;
    return OCT_OK;
}
