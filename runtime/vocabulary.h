// The vocabulary of a model as it stands in a checkpoint: what the tokenizer is built from. Importers
// fill it, the checkpoint stores it, the tokenizer and the chat templates read it.
#ifndef OCT_RUNTIME_VOCABULARY_H
#define OCT_RUNTIME_VOCABULARY_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/status.h"

// A list of byte strings that may hold any byte: string i is bytes[offsets[i] … offsets[i + 1]).
typedef struct oct_strings {
    int32_t count;
    uint64_t *offsets; // [count + 1], owned
    char *bytes;       // [offsets[count]], owned
} oct_strings;

// Kinds of token, with the numbers of GGUF's tokenizer.ggml.token_type.
enum {
    OCT_TOKEN_NORMAL = 1,
    OCT_TOKEN_UNKNOWN = 2,
    OCT_TOKEN_CONTROL = 3,
    OCT_TOKEN_USER_DEFINED = 4,
    OCT_TOKEN_UNUSED = 5,
    OCT_TOKEN_BYTE = 6
};

typedef struct oct_vocabulary {
    char *kind;          // "gpt2" (byte-level BPE) or "llama" (SentencePiece-style BPE), as GGUF names them
    char *pretokenizer;  // "smollm", "llama-bpe", "qwen2", "gpt-2", "default"; "" for spm
    oct_strings tokens;  // [n_tokens] token texts as stored (byte-level kinds: in the printable byte alphabet)
    oct_strings merges;  // [n_merges] "left right", in order of rank; empty for spm
    float *scores;       // [n_tokens] or NULL
    int32_t *types;      // [n_tokens] OCT_TOKEN_… or NULL (all normal)
    int32_t bos, eos, eot, unknown, padding; // token ids, -1 where there is none
    bool add_bos, add_eos, add_space_prefix;
    char *chat_template; // the template text (Jinja), "" where there is none
} oct_vocabulary;

// Checks ids, offsets and lengths for consistency (a vocabulary from a file is not trusted).
// Errors: OCT_ERR_FILE with the first inconsistency. LOCAL.
oct_status oct_vocabulary_check(const oct_vocabulary *vocabulary);

// The first token id whose text is not the same in both, the end of the shorter one included; -1: they have the same
// tokens. LOCAL.
int32_t oct_vocabulary_find_difference(const oct_vocabulary *a, const oct_vocabulary *b);

// Frees everything the vocabulary owns and zeroes it; a zeroed vocabulary is allowed. LOCAL.
void oct_vocabulary_free(oct_vocabulary *vocabulary);

#endif
