// Splits the text of a PTX file into words (PTX ISA, "Syntax").
#include "ptx_tokens.h"

#include <cctype>
#include <cerrno>
#include <cstdlib>

namespace ptx
{

void reject(const std::string &path, int line, const std::string &reason)
{
    throw error(path + ":" + std::to_string(line) + ": " + reason);
}

namespace
{

bool is_name_character(char c)
{
    return isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%' || c == '.';
}

class splitter
{
  public:
    splitter(const std::string &source, const std::string &path) : source_(source), path_(path) {}

    std::vector<token> split()
    {
        for (skip_blanks(); at_ < source_.size(); skip_blanks())
            take();
        tokens_.push_back({token_kind::end, "the end of the file", line_});
        return std::move(tokens_);
    }

  private:
    const std::string &source_, &path_;
    std::vector<token> tokens_;
    size_t at_ = 0;
    int line_ = 1;

    bool begins(const char *what) const
    {
        return source_.compare(at_, std::char_traits<char>::length(what), what) == 0;
    }

    void advance()
    {
        if (source_[at_++] == '\n')
            line_++;
    }

    void skip_comment(const char *last)
    {
        while (at_ < source_.size() && !begins(last))
            advance();
    }

    void skip_blanks()
    {
        while (at_ < source_.size()) {
            if (isspace(static_cast<unsigned char>(source_[at_]))) {
                advance();
            } else if (begins("//")) {
                skip_comment("\n");
            } else if (begins("/*")) {
                skip_comment("*/");
                at_ += begins("*/") ? 2 : 0;
            } else {
                return;
            }
        }
    }

    void take()
    {
        char c = source_[at_];
        if (isdigit(static_cast<unsigned char>(c)))
            take_number();
        else if (is_name_character(c))
            take_name();
        else if (c == '"')
            take_string();
        else if (std::string("{}()[]<>,;:+-|@!=").find(c) != std::string::npos)
            take_text(token_kind::mark, 1);
        else
            reject(path_, line_, std::string("PTX has no use for the character '") + c + "'");
    }

    void take_text(token_kind kind, size_t length)
    {
        tokens_.push_back({kind, source_.substr(at_, length), line_});
        at_ += length;
    }

    void take_number()
    {
        size_t length = 1;
        while (at_ + length < source_.size() &&
               (isalnum(static_cast<unsigned char>(source_[at_ + length])) || source_[at_ + length] == '.'))
            length++;
        take_text(token_kind::number, length);
    }

    // A single colon ends a label, a double one is part of a modifier (L2::128B).
    void take_name()
    {
        size_t length = 1;
        for (;;) {
            size_t next = at_ + length;
            if (next < source_.size() && is_name_character(source_[next]))
                length++;
            else if (next + 2 < source_.size() && source_.compare(next, 2, "::") == 0 &&
                     is_name_character(source_[next + 2]))
                length += 2;
            else
                break;
        }
        take_text(token_kind::name, length);
    }

    void take_string()
    {
        size_t close = source_.find('"', at_ + 1);
        if (close == std::string::npos)
            reject(path_, line_, "a string without an end");
        tokens_.push_back({token_kind::string, source_.substr(at_ + 1, close - at_ - 1), line_});
        at_ = close + 1;
    }
};

} // namespace

std::vector<token> split_tokens(const std::string &source, const std::string &path)
{
    return splitter(source, path).split();
}

uint64_t number_bits(const token &number, const std::string &path)
{
    const std::string &text = number.text;
    const char *digits = text.c_str();
    int base = 0;
    if (text.size() == 10 && (text.compare(0, 2, "0f") == 0 || text.compare(0, 2, "0F") == 0)) {
        digits += 2;
        base = 16;
    } else if (text.size() == 18 && (text.compare(0, 2, "0d") == 0 || text.compare(0, 2, "0D") == 0)) {
        digits += 2;
        base = 16;
    } else if (text.compare(0, 2, "0b") == 0 || text.compare(0, 2, "0B") == 0) {
        digits += 2;
        base = 2;
    }
    char *end;
    errno = 0;
    uint64_t bits = strtoull(digits, &end, base);
    if (*end == 'U')
        end++;
    if (end == digits || *end || errno)
        reject(path, number.line,
               "'" + text + "' is not a number known here (an integer, 0f with 8 or 0d with 16 digits)");
    return bits;
}

std::vector<std::string> split_text(const std::string &text, char separator)
{
    std::vector<std::string> parts;
    size_t begin = 0;
    for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1)
        parts.push_back(text.substr(begin, end - begin));
    parts.push_back(text.substr(begin));
    return parts;
}

} // namespace ptx
