// What the two halves of the parser share: a place in the list of tokens, types, and the symbols of a file.
#ifndef OCT_TESTS_PTX_CURSOR_H
#define OCT_TESTS_PTX_CURSOR_H

#include <map>
#include <string>
#include <vector>

#include "ptx_program.h"
#include "ptx_tokens.h"

namespace ptx
{

class cursor
{
  public:
    cursor(const std::vector<token> &tokens, const std::string &path) : tokens_(tokens), path_(path) {}

    const token &peek(size_t ahead = 0) const
    {
        size_t at = at_ + ahead;
        return tokens_[at < tokens_.size() ? at : tokens_.size() - 1];
    }
    const token &next()
    {
        const token &now = peek();
        at_ += at_ + 1 < tokens_.size();
        return now;
    }
    bool accept(const char *text)
    {
        bool found = peek().is(text);
        if (found)
            next();
        return found;
    }
    void expect(const char *text)
    {
        if (!accept(text))
            fail_here(std::string("'") + text + "' was expected, '" + peek().text + "' found");
    }
    std::string expect_name()
    {
        if (peek().kind != token_kind::name)
            fail_here("a name was expected, '" + peek().text + "' found");
        return next().text;
    }
    uint64_t expect_number()
    {
        if (peek().kind != token_kind::number)
            fail_here("a number was expected, '" + peek().text + "' found");
        return number_bits(next(), path_);
    }
    // Leaves out the rest of the line, for directives without a semicolon (.loc, .file).
    void skip_line()
    {
        for (int line = peek().line; peek().kind != token_kind::end && peek().line == line;)
            next();
    }
    [[noreturn]] void fail_here(const std::string &reason) const
    {
        reject(path_, peek().line, reason);
    }
    const std::string &path() const
    {
        return path_;
    }

  private:
    const std::vector<token> &tokens_;
    const std::string &path_;
    size_t at_ = 0;
};

// The bytes of a type such as ".u32" or "u32"; 0 if it is none. Predicates have none.
size_t type_bytes(const std::string &type);

constexpr size_t align_up(size_t bytes, size_t alignment)
{
    return (bytes + alignment - 1) / alignment * alignment;
}

// What is common to all declarations: .align n .type name[n]…
struct declaration {
    std::string name;
    size_t alignment = 0, element_bytes = 0, bytes = 0;
    bool open = false; // name[]: as long as the launch says
};

// Reads a declaration from `.align` or the type on up to its brackets.
declaration read_declaration(cursor &at);

// A name that stands for an address.
struct symbol {
    enum { GLOBAL, STATIC_SHARED, DYNAMIC_SHARED, PARAMETER, LOCAL } space;
    uint64_t value; // GLOBAL: the address; otherwise the offset in its space
};
using symbol_table = std::map<std::string, symbol>;

// Shared variables at the head of a file belong to the kernels that use them.
using shared_table = std::map<std::string, declaration>;

// The functions of a file by name: those that stand before what calls them.
using function_table = std::map<std::string, const kernel *>;

// Reads a kernel's body from behind its { to its }. `symbols`: the file's and the parameters.
void parse_body(cursor &at, kernel &into, symbol_table symbols, const shared_table &shared,
                const function_table &functions);

} // namespace ptx

#endif
