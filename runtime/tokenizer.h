// The tokenizer: text to token ids and back, built from the vocabulary that a checkpoint carries.
//
// Two kinds: byte-level BPE (vocabulary kind "gpt2": a pre-tokenizer cuts the text into words, merges in
// order of rank build tokens from bytes) and SentencePiece-style BPE (kind "llama": merges in order of
// score build tokens from characters, a character without a token falls back to byte tokens). The ids are
// those of Hugging Face `tokenizers` and of `sentencepiece` on the same vocabulary.
//
// A tokenizer does not change after it was made: any number of threads may use one at the same time.
// Detokenizers and token lists belong to one thread. Everything here is LOCAL.
#ifndef OCT_RUNTIME_TOKENIZER_H
#define OCT_RUNTIME_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"
#include "runtime/vocabulary.h"

typedef struct oct_tokenizer oct_tokenizer;

// A growing list of token ids. A zeroed list is empty; oct_token_list_free() gives the memory back and
// leaves a zeroed list.
typedef struct oct_token_list {
    int32_t *ids; // [count], owned
    size_t count;
    size_t capacity;
} oct_token_list;

// Appends n ids. Errors: OCT_ERR_MACHINE when memory is out (the list is unchanged).
oct_status oct_token_list_append(oct_token_list *list, const int32_t *ids, size_t n);
void oct_token_list_free(oct_token_list *list);

// Makes a tokenizer from a vocabulary and keeps its own copies: the vocabulary may be freed afterwards.
// Errors: OCT_ERR_FILE for an inconsistent vocabulary, an unknown kind or an unknown pre-tokenizer (the
// message names the known ones); OCT_ERR_MACHINE when memory is out. *tokenizer is set only on success.
oct_status oct_tokenizer_create(oct_tokenizer **tokenizer, const oct_vocabulary *vocabulary);

// NULL is allowed.
void oct_tokenizer_destroy(oct_tokenizer *tokenizer);

enum {
    // Texts of control tokens ("<|im_start|>", "<s>") inside the text become those tokens; without it they
    // are ordinary text. User-defined tokens are always recognised, as in the reference tokenizers.
    OCT_ENCODE_PARSE_SPECIAL = 1,
    // BOS in front and EOS behind where the vocabulary says so (add_bos, add_eos).
    OCT_ENCODE_ADD_SPECIAL = 2,
    // BOS in front whatever add_bos says, where the vocabulary has one (a chat template that begins with
    // BOS); never twice.
    OCT_ENCODE_ADD_BOS = 4,
    // Leaves out the Unicode normalisation (NFC) that the qwen2 tokenizer applies, so that every byte
    // string comes back as it was.
    OCT_ENCODE_KEEP_BYTES = 8
};

// Appends the ids of `text` ([text_bytes] bytes, any bytes, NUL included) to `list`; flags are
// OCT_ENCODE_… or 0. Invalid UTF-8 is encoded byte by byte. Bytes for which a byte-level vocabulary has no
// token are left out, as the reference does (SmolLM2 lacks 21 of the 256: 04 06 13 14 16 1d, c0 c1 f1 f2,
// f5 … ff; that is, six control characters, planes that are hardly used, and what is not UTF-8). In
// SentencePiece kinds with add_space_prefix a space is put in front of the text, and of each stretch of text
// behind a special token; U+2581 is encoded like the space that it stands for. The time grows as n log n with
// the longest word's length n at most. Errors: OCT_ERR_MACHINE when memory is out, OCT_ERR_USAGE for 2 GiB of
// text or more; the list then keeps what it held before the call.
oct_status oct_tokenizer_encode(const oct_tokenizer *tokenizer, const char *text, size_t text_bytes,
                                unsigned flags, oct_token_list *list);

// The bytes that a token stands for: *bytes of them at the returned address, owned by the tokenizer, not
// terminated. They need not be whole UTF-8 sequences. For control tokens it is their name. NULL and 0 for
// an id outside the vocabulary.
const char *oct_tokenizer_piece(const oct_tokenizer *tokenizer, int32_t id, size_t *bytes);

int32_t oct_tokenizer_count(const oct_tokenizer *tokenizer);

// Control and unknown tokens: those that are not text (a detokenizer leaves them out).
bool oct_tokenizer_is_control(const oct_tokenizer *tokenizer, int32_t id);

// True for tokens that end a generation: the vocabulary's EOS and EOT, and control tokens with the usual
// names of such tokens ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>",
// "<end_of_turn>", "</s>", "<|end|>", "<|return|>").
bool oct_tokenizer_is_end(const oct_tokenizer *tokenizer, int32_t id);

// --- Streaming detokenizer -------------------------------------------------------------------------
// Turns tokens, one after another, into text; holds back the bytes of an unfinished UTF-8 sequence until
// the token that finishes it. What it hands out, strung together, is always valid UTF-8 (unless RAW):
// bytes that can belong to no sequence become U+FFFD, one for each maximal part of a sequence, as the
// Unicode standard recommends (section 3.9, "U+FFFD Substitution of Maximal Subparts").

typedef struct oct_detokenizer oct_detokenizer;

enum {
    OCT_DETOKENIZE_SPECIAL = 1, // names of control tokens are part of the text; without it they are skipped
    OCT_DETOKENIZE_RAW = 2,     // bytes as they are, nothing held back or replaced (round trips)
    // The first token begins a text rather than continuing one: the space that encoding put in front
    // (SentencePiece kinds with add_space_prefix) is dropped. Without it nothing is dropped.
    OCT_DETOKENIZE_BEGIN = 4
};

// Errors: OCT_ERR_MACHINE when memory is out. The detokenizer borrows the tokenizer. Nothing is allocated
// by any other function of it.
oct_status oct_detokenizer_create(oct_detokenizer **detokenizer, const oct_tokenizer *tokenizer,
                                  unsigned flags);
void oct_detokenizer_destroy(oct_detokenizer *detokenizer);

// Takes one token and returns the bytes that are ready now: *bytes of them (often none), not terminated,
// valid until the next call on this detokenizer. Ids outside the vocabulary give nothing.
const char *oct_detokenizer_feed(oct_detokenizer *detokenizer, int32_t id, size_t *bytes);

// The text ends here: returns one U+FFFD where an unfinished sequence was held back, else nothing.
const char *oct_detokenizer_flush(oct_detokenizer *detokenizer, size_t *bytes);

#endif
