// Unicode normalisation form C (UAX #15), which some models' tokenizers apply to text. LOCAL.
#ifndef OCT_RUNTIME_UTF8_NFC_H
#define OCT_RUNTIME_UTF8_NFC_H

#include <stddef.h>

#include "runtime/status.h"

// Normalises `text` (valid UTF-8). *normal is the normalised text, to be freed with free(), and
// *normal_bytes its length; *normal is NULL where the text is certain to be normal already.
// Errors: OCT_ERR_MACHINE when memory is out.
oct_status oct_utf8_nfc(const char *text, size_t bytes, char **normal, size_t *normal_bytes);

#endif
