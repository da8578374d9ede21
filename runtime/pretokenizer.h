// Pre-tokenizers of byte-level BPE: they cut a text into the words inside of which merges happen. Named
// as GGUF's tokenizer.ggml.pre names them; the patterns are those of the models' tokenizer.json. LOCAL.
#ifndef OCT_RUNTIME_PRETOKENIZER_H
#define OCT_RUNTIME_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/status.h"

typedef struct oct_pretokenizer oct_pretokenizer;

// Makes the pre-tokenizer of this name. Errors: OCT_ERR_FILE for an unknown name (the message lists the
// known ones); OCT_ERR_MACHINE when memory is out.
oct_status oct_pretokenizer_create(oct_pretokenizer **pretokenizer, const char *name);
void oct_pretokenizer_destroy(oct_pretokenizer *pretokenizer);

// The model's tokenizer normalises text to NFC before it is cut.
bool oct_pretokenizer_normalises(const oct_pretokenizer *pretokenizer);

// A word that is a token as a whole is that token, whatever the merges would make of it.
bool oct_pretokenizer_prefers_whole_words(const oct_pretokenizer *pretokenizer);

// Receives the words in order; together they are the text. A status other than OCT_OK ends the cutting.
typedef oct_status (*oct_pretokenizer_word)(void *context, const char *word, size_t bytes);

// Cuts `text`, which must be valid UTF-8, and hands its words to `word`. Several threads may use one
// pre-tokenizer. Errors: what `word` returned; OCT_ERR_MACHINE when memory is out.
oct_status oct_pretokenizer_cut(const oct_pretokenizer *pretokenizer, const char *text, size_t bytes,
                                oct_pretokenizer_word word, void *context);

#endif
