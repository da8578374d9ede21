// UTF-8 by the Unicode standard's table of well-formed sequences (table 3-7): no overlong forms, no
// surrogates, nothing above U+10FFFF. All functions are LOCAL and never fail.
#ifndef OCT_RUNTIME_UTF8_H
#define OCT_RUNTIME_UTF8_H

#include <stddef.h>
#include <stdint.h>

typedef enum oct_utf8 {
    OCT_UTF8_VALID,     // a whole sequence
    OCT_UTF8_INVALID,   // bytes that begin no sequence, or break one off
    OCT_UTF8_INCOMPLETE // the bytes end inside of what can still become a sequence
} oct_utf8;

// Looks at the sequence at `text` (n > 0 bytes left) and sets *length: VALID the sequence's bytes, INVALID
// the bytes of the maximal part of a sequence (what one U+FFFD replaces), INCOMPLETE n.
oct_utf8 oct_utf8_step(const char *text, size_t n, size_t *length);

// The bytes at the front of `text` (of n) that are valid sequences. Zero or more.
size_t oct_utf8_valid_prefix(const char *text, size_t n);

// The code point of one valid sequence.
uint32_t oct_utf8_decode(const char *text, size_t length);

// Writes the sequence of a code point (not a surrogate, at most U+10FFFF) and returns its length, 1 to 4.
size_t oct_utf8_encode(uint32_t code, char out[4]);

#endif
