// The inside of a tokenizer, shared by the files that build it, encode with it and decode with it.
#ifndef OCT_RUNTIME_TOKENIZER_PARTS_H
#define OCT_RUNTIME_TOKENIZER_PARTS_H

#include "runtime/bpe.h"
#include "runtime/bpe_table.h"
#include "runtime/pretokenizer.h"
#include "runtime/tokenizer.h"

struct oct_tokenizer {
    bool byte_level;  // byte-level BPE, else SentencePiece-style
    bool whole_words; // a word that is a token needs no merges
    bool normalises;  // NFC first
    bool add_bos, add_eos, add_space_prefix;
    int32_t count, bos, eos, eot, unknown;
    int32_t byte_ids[256]; // the token of a single byte (byte-level) or its fallback, -1: none
    unsigned char *types;  // [count] OCT_TOKEN_…
    bool *ends;            // [count] ends a generation
    uint64_t *offsets;     // [count + 1] of the pieces
    char *pieces;          // what the tokens stand for, as bytes
    size_t longest_piece;  // bytes
    uint32_t *priorities;  // [count] SentencePiece-style: smaller merges sooner
    oct_text_table texts;  // pieces of the tokens that text is made of
    oct_pair_table pairs;  // byte-level: the merges
    int32_t *specials;     // [n_specials] control, unknown and user-defined tokens, sorted by piece
    int32_t n_specials;
    bool special_begins[256];       // some special token begins with this byte
    oct_pretokenizer *pretokenizer; // byte-level
};

// Fills offsets and pieces from the texts of the vocabulary.
oct_status oct_tokenizer_build_pieces(oct_tokenizer *tokenizer, const oct_vocabulary *vocabulary);

// Writes the bytes that a text in the printable byte alphabet of GPT-2 stands for and returns how many,
// or returns SIZE_MAX where a character is not of that alphabet. `out` has room for `bytes`.
size_t oct_byte_alphabet_decode(const char *text, size_t bytes, char *out);

#endif
