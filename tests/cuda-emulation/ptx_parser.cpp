// The head of a PTX file: versions, variables, and each kernel's parameters and limits.
#include "ptx_parser.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "ptx_cursor.h"

namespace ptx
{

size_t type_bytes(const std::string &type)
{
    static const std::map<std::string, size_t> bytes = {
        {"b8", 1},  {"u8", 1},  {"s8", 1},  {"b16", 2},  {"u16", 2},    {"s16", 2},
        {"f16", 2}, {"b32", 4}, {"u32", 4}, {"s32", 4},  {"f32", 4},    {"b64", 8},
        {"u64", 8}, {"s64", 8}, {"f64", 8}, {"bf16", 2}, {"bf16x2", 4}, {"f16x2", 4}};
    auto found = bytes.find(type.empty() || type[0] != '.' ? type : type.substr(1));
    return found == bytes.end() ? 0 : found->second;
}

// The attributes of a pointer follow its type: .param .u64 .ptr .global .align 16 name. They bind nobody
// here.
static void skip_pointer_attributes(cursor &at)
{
    while (at.accept(".ptr") || at.accept(".global") || at.accept(".shared") || at.accept(".const") ||
           at.accept(".local"))
        continue;
    if (at.accept(".align"))
        at.expect_number();
}

declaration read_declaration(cursor &at)
{
    declaration d;
    if (at.accept(".align"))
        d.alignment = at.expect_number();
    d.element_bytes = type_bytes(at.peek().text);
    if (!d.element_bytes)
        at.fail_here("a type was expected, '" + at.peek().text + "' found");
    at.next();
    skip_pointer_attributes(at);
    d.name = at.expect_name();
    d.bytes = d.element_bytes;
    for (; at.accept("["); at.expect("]")) {
        d.open = at.peek().is("]");
        d.bytes *= d.open ? 0 : at.expect_number();
    }
    if (!d.alignment)
        d.alignment = d.element_bytes;
    return d;
}

namespace
{

class module_parser
{
  public:
    module_parser(const std::vector<token> &tokens, module &into) : at_(tokens, into.path), module_(into) {}

    void parse()
    {
        while (at_.peek().kind != token_kind::end)
            parse_directive();
    }

  private:
    cursor at_;
    module &module_;
    symbol_table symbols_;
    shared_table shared_;
    function_table functions_;

    void parse_directive()
    {
        bool external = false;
        while (at_.peek().is(".visible") || at_.peek().is(".weak") || at_.peek().is(".extern") ||
               at_.peek().is(".common"))
            external |= at_.next().text == ".extern";
        if (at_.accept(".version"))
            at_.next();
        else if (at_.accept(".target"))
            parse_target();
        else if (at_.accept(".address_size"))
            expect_64_bits();
        else if (at_.peek().is(".file") || at_.peek().is(".loc"))
            at_.skip_line();
        else if (at_.accept(".section"))
            skip_section();
        else if (at_.accept(".entry"))
            parse_kernel();
        else if (at_.accept(".shared"))
            parse_shared(external);
        else if (at_.peek().is(".global") || at_.peek().is(".const"))
            parse_variable(external);
        else if (at_.accept(".func"))
            parse_function();
        else
            at_.fail_here("'" + at_.peek().text + "' is not known at the head of a file");
    }

    void parse_target()
    {
        module_.target = at_.expect_name();
        while (at_.accept(","))
            at_.expect_name();
    }

    void expect_64_bits()
    {
        if (at_.expect_number() != 64)
            at_.fail_here("addresses of 64 bits are expected");
    }

    void skip_section()
    {
        at_.expect_name();
        at_.expect("{");
        while (!at_.accept("}")) {
            if (at_.peek().kind == token_kind::end)
                at_.fail_here("a section without an end");
            at_.next();
        }
    }

    void parse_shared(bool external)
    {
        declaration d = read_declaration(at_);
        at_.expect(";");
        if (external || d.open)
            symbols_[d.name] = {symbol::DYNAMIC_SHARED, 0};
        else
            shared_[d.name] = d;
    }

    void parse_variable(bool external)
    {
        at_.next();
        declaration d = read_declaration(at_);
        if (external || !at_.accept("="))
            at_.fail_here("the variable " + d.name +
                          " has no value here: the host's copy and this one would be two. "
                          "Pass it as a parameter or in memory");
        variable made;
        made.bytes = d.bytes;
        made.storage.reset(new unsigned char[d.bytes + d.alignment]());
        uintptr_t address = reinterpret_cast<uintptr_t>(made.storage.get());
        made.begin = made.storage.get() + (align_up(address, d.alignment) - address);
        read_values(d, made.begin);
        at_.expect(";");
        symbols_[d.name] = {symbol::GLOBAL, reinterpret_cast<uint64_t>(made.begin)};
        module_.variables.push_back(std::move(made));
    }

    // {1, 2, {3, 4}} in the order of memory; what is not given is 0.
    void read_values(const declaration &d, unsigned char *into)
    {
        size_t filled = 0;
        int depth = 0;
        do {
            while (at_.accept("{"))
                depth++;
            bool negative = at_.accept("-");
            uint64_t bits = at_.expect_number();
            bits = negative ? 0 - bits : bits;
            if (filled + d.element_bytes > d.bytes)
                at_.fail_here(d.name + " has more values than elements");
            memcpy(into + filled, &bits, d.element_bytes);
            filled += d.element_bytes;
            while (depth && at_.accept("}"))
                depth--;
        } while (at_.accept(","));
    }

    void parse_kernel()
    {
        std::unique_ptr<kernel> made(new kernel);
        made->name = at_.expect_name();
        made->path = module_.path;
        symbol_table symbols = symbols_;
        if (at_.accept("("))
            parse_parameters(*made, symbols);
        parse_limits(*made);
        at_.expect("{");
        parse_body(at_, *made, std::move(symbols), shared_, functions_);
        module_.kernels.push_back(std::move(made));
    }

    // A function has no parameters, no result, and no static shared memory of its own.
    void parse_function()
    {
        std::unique_ptr<kernel> made(new kernel);
        if (at_.peek().is("("))
            at_.fail_here("device functions with a result are not interpreted: have it inlined (__forceinline__)");
        made->name = at_.expect_name();
        made->path = module_.path;
        if (at_.accept("(") && !at_.accept(")"))
            at_.fail_here("device functions with parameters are not interpreted: have it inlined (__forceinline__)");
        at_.expect("{");
        parse_body(at_, *made, symbols_, {}, functions_);
        if (made->static_shared_bytes > 0)
            at_.fail_here("the function " + made->name + " has static shared memory, which is not interpreted");
        functions_[made->name] = made.get();
        module_.functions.push_back(std::move(made));
    }

    void parse_parameters(kernel &into, symbol_table &symbols)
    {
        while (!at_.accept(")")) {
            at_.expect(".param");
            declaration d = read_declaration(at_);
            size_t offset = align_up(into.parameter_bytes, d.alignment);
            symbols[d.name] = {symbol::PARAMETER, offset};
            into.parameters.push_back({offset, d.bytes});
            into.parameter_bytes = offset + d.bytes;
            if (!at_.peek().is(")"))
                at_.expect(",");
        }
    }

    void parse_limits(kernel &into)
    {
        while (!at_.peek().is("{")) {
            if (at_.accept(".maxntid") || at_.accept(".reqntid")) {
                into.threads_max = at_.expect_number();
                while (at_.accept(","))
                    into.threads_max *= at_.expect_number();
            } else if (at_.accept(".minnctapersm") || at_.accept(".maxnreg")) {
                at_.expect_number();
            } else {
                at_.fail_here("'" + at_.peek().text + "' is not known for a kernel");
            }
        }
    }
};

} // namespace

std::unique_ptr<module> parse_module(const std::string &source, const std::string &path)
{
    std::unique_ptr<module> made(new module);
    made->path = path;
    std::vector<token> tokens = split_tokens(source, path);
    module_parser(tokens, *made).parse();
    return made;
}

std::unique_ptr<module> parse_file(const std::string &path)
{
    std::ifstream file(path);
    std::ostringstream text;
    if (!file || !(text << file.rdbuf()))
        throw error(path + ": cannot be read; it is made by the build (octet_ptx in CMake)");
    return parse_module(text.str(), path);
}

} // namespace ptx
