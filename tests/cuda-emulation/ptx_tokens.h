// The words of a PTX file: names, numbers, strings and punctuation, each with its line.
#ifndef OCT_TESTS_PTX_TOKENS_H
#define OCT_TESTS_PTX_TOKENS_H

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace ptx
{

// What is wrong with a file of PTX, as "path:line: reason".
struct error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

[[noreturn]] void reject(const std::string &path, int line, const std::string &reason);

enum class token_kind {
    name,   // also directives (.reg), registers (%r1), whole opcodes (ld.global.L1::no_allocate.u32)
    number, // as written: 12, 0x1F, 0f3F800000, 9.0
    string, // without its quotes
    mark,   // one character of punctuation
    end     // the last token of every file
};

struct token {
    token_kind kind;
    std::string text;
    int line;

    bool is(const char *what) const
    {
        return kind != token_kind::end && kind != token_kind::string && text == what;
    }
};

// Splits a file's text; comments are left out. Throws `error` at a character that PTX does not use.
std::vector<token> split_tokens(const std::string &source, const std::string &path);

// The bits that a number stands for: integers in any base, 0f… (32 bits), 0d… (64 bits). Throws `error`
// otherwise.
uint64_t number_bits(const token &number, const std::string &path);

// The parts of `text` between dots or blanks: "ld.global.u32" is ld, global, u32.
std::vector<std::string> split_text(const std::string &text, char separator);

} // namespace ptx

#endif
