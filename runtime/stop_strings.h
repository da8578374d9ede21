// Stop strings: an incremental matcher over the bytes of an answer as they come, for several strings at once.
//
// The first stop string that is complete wins, where two end at the same byte the longer one; so the result
// does not depend on how the bytes are cut into tokens. Bytes that may still turn out to belong to a stop
// string are held back. Everything here is LOCAL; nothing is allocated after creation.
#ifndef OCT_RUNTIME_STOP_STRINGS_H
#define OCT_RUNTIME_STOP_STRINGS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

typedef struct oct_stop_matcher oct_stop_matcher;

// Makes a matcher for `count` terminated strings (0 is allowed: nothing is ever held back); they are copied.
// Errors: OCT_ERR_USAGE where one is empty; OCT_ERR_MACHINE when memory is out. *matcher is set only on
// success.
oct_status oct_stop_matcher_create(oct_stop_matcher **matcher, const char *const *stops, size_t count);

// NULL is allowed.
void oct_stop_matcher_destroy(oct_stop_matcher *matcher);

// Takes the next n bytes of the answer (any bytes) and returns how many bytes, counted from the answer's
// beginning, may be handed out by now; never fewer than before. After a hit that is where the stop string
// begins: the answer's final length; further bytes are ignored.
size_t oct_stop_matcher_feed(oct_stop_matcher *matcher, const char *bytes, size_t n);

// The number of the string that was hit, or −1.
int32_t oct_stop_matcher_hit(const oct_stop_matcher *matcher);

// The answer ends without a further byte: returns its final length, which is all bytes where nothing was hit.
size_t oct_stop_matcher_finish(const oct_stop_matcher *matcher);

#endif
