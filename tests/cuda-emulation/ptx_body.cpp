// The body of a kernel: declarations, labels, instructions and their operands. Names are looked up in the
// scopes that braces open (inline assembly opens its own), and become slots of the register file.
#include <algorithm>

#include "ptx_cursor.h"
#include "ptx_forms.h"
#include "ptx_scopes.h"
#include "ptx_thread.h"

namespace ptx
{

namespace
{

const std::map<std::string, special> specials_by_name = {
    {"%tid.x", special::tid_x},
    {"%tid.y", special::tid_y},
    {"%tid.z", special::tid_z},
    {"%ntid.x", special::ntid_x},
    {"%ntid.y", special::ntid_y},
    {"%ntid.z", special::ntid_z},
    {"%ctaid.x", special::ctaid_x},
    {"%ctaid.y", special::ctaid_y},
    {"%ctaid.z", special::ctaid_z},
    {"%nctaid.x", special::nctaid_x},
    {"%nctaid.y", special::nctaid_y},
    {"%nctaid.z", special::nctaid_z},
    {"%laneid", special::laneid},
    {"%warpid", special::warpid},
    {"%nwarpid", special::nwarpid},
    {"%lanemask_eq", special::lanemask_eq},
    {"%lanemask_lt", special::lanemask_lt},
    {"%lanemask_le", special::lanemask_le},
    {"%lanemask_gt", special::lanemask_gt},
    {"%lanemask_ge", special::lanemask_ge},
    {"%smid", special::smid},
    {"%nsmid", special::nsmid},
    {"%envreg1", special::grid_workspace_high},
    {"%envreg2", special::grid_workspace_low},
    {"%dynamic_smem_size", special::dynamic_shared_bytes},
    {"WARP_SZ", special::warp_size}};

class body_parser
{
  public:
    body_parser(cursor &at, kernel &into, symbol_table symbols, const shared_table &shared,
                const function_table &functions)
        : at_(at), kernel_(into), symbols_(std::move(symbols)), shared_(shared), functions_(functions),
          names_(into), sink_(names_.new_slot(UNWRITTEN))
    {
    }

    void parse()
    {
        for (bool inside = true; inside;) {
            if (at_.accept("{"))
                names_.open();
            else if (at_.accept("}"))
                inside = names_.close();
            else
                parse_statement();
        }
        names_.resolve_branches();
        kernel_.dynamic_shared_begin = align_up(kernel_.static_shared_bytes, DYNAMIC_SHARED_ALIGNMENT);
    }

  private:
    cursor &at_;
    kernel &kernel_;
    symbol_table symbols_;
    const shared_table &shared_;
    const function_table &functions_;
    scopes names_;
    uint32_t sink_; // what is written to _

    // ---- statements ----
    void parse_statement()
    {
        if (at_.peek().kind == token_kind::end)
            at_.fail_here("the kernel " + kernel_.name + " has no end");
        if (at_.accept(";"))
            return;
        if (at_.peek().is(".loc"))
            at_.skip_line();
        else if (at_.accept(".pragma"))
            skip_pragma();
        else if (at_.accept(".reg"))
            parse_registers();
        else if (at_.accept(".shared"))
            declare_shared(read_declaration(at_));
        else if (at_.accept(".local"))
            declare_local(read_declaration(at_));
        else if (at_.peek().kind == token_kind::name && at_.peek(1).is(":"))
            parse_label();
        else
            parse_instruction();
    }

    void skip_pragma()
    {
        while (!at_.accept(";"))
            at_.next();
    }

    void parse_registers()
    {
        std::string type = at_.expect_name();
        if (type != ".pred" && !type_bytes(type))
            at_.fail_here("registers of type " + type + " are not known");
        do {
            std::string name = at_.expect_name();
            if (at_.accept("<")) {
                names_.declare_registers(name, at_.expect_number());
                at_.expect(">");
            } else {
                names_.declare_register(name);
            }
        } while (at_.accept(","));
        at_.expect(";");
    }

    void declare_shared(const declaration &d)
    {
        size_t begin = align_up(kernel_.static_shared_bytes, d.alignment);
        symbols_[d.name] = {symbol::STATIC_SHARED, begin};
        kernel_.static_shared_bytes = begin + d.bytes;
    }

    void declare_local(const declaration &d)
    {
        size_t begin = align_up(kernel_.local_bytes, d.alignment);
        symbols_[d.name] = {symbol::LOCAL, begin};
        kernel_.local_bytes = begin + d.bytes;
    }

    void parse_label()
    {
        std::string name = at_.expect_name();
        at_.expect(":");
        if (!at_.accept(".branchtargets")) {
            names_.declare_label(name);
            return;
        }
        std::vector<std::string> targets;
        do
            targets.push_back(at_.expect_name());
        while (at_.accept(","));
        at_.expect(";");
        names_.declare_table(name, targets);
    }

    void parse_instruction()
    {
        instruction made;
        made.line = at_.peek().line;
        if (at_.accept("@")) {
            made.guard_negated = at_.accept("!");
            uint32_t slot;
            if (!names_.find_register(at_.peek().text, &slot))
                at_.fail_here("the predicate " + at_.peek().text + " is not declared");
            made.guard = static_cast<int>(slot);
            at_.next();
        }
        std::string opcode = at_.expect_name();
        if (opcode == "call" || opcode == "call.uni") {
            parse_call(made);
            return;
        }
        std::vector<written_operand> operands;
        while (!at_.accept(";")) {
            if (!operands.empty())
                at_.expect(",");
            operands.push_back(parse_operand());
        }
        choose_form(made, opcode, operands);
        kernel_.code.push_back(made);
    }

    // call name, (); of a function that stands before.
    void parse_call(instruction &made)
    {
        auto found = functions_.find(at_.peek().text);
        if (found == functions_.end())
            at_.fail_here("no function without parameters is called '" + at_.peek().text + "'");
        at_.next();
        if (at_.accept(",")) {
            at_.expect("(");
            at_.expect(")");
        }
        at_.expect(";");
        made.execute = call_function;
        made.target = static_cast<uint32_t>(kernel_.callees.size());
        kernel_.callees.push_back(found->second);
        kernel_.code.push_back(made);
    }

    // ---- operands ----
    written_operand parse_operand()
    {
        if (at_.accept("{"))
            return parse_vector();
        if (at_.accept("[")) {
            written_operand address = parse_scalar();
            if (address.kind != written_operand::SCALAR && address.kind != written_operand::CONSTANT)
                at_.fail_here("an address is a register or a symbol, with a number added");
            address.kind = written_operand::ADDRESS;
            at_.expect("]");
            return address;
        }
        bool negated = at_.accept("!");
        written_operand first = parse_scalar();
        first.value.negated = negated;
        if (first.value.offset)
            at_.fail_here("a number is added to a register only in an address");
        if (!at_.accept("|"))
            return first;
        std::vector<written_operand> both = {first};
        both.push_back(parse_scalar());
        return group(written_operand::PAIR, both);
    }

    written_operand parse_vector()
    {
        std::vector<written_operand> elements;
        do
            elements.push_back(parse_scalar());
        while (at_.accept(","));
        at_.expect("}");
        return group(written_operand::VECTOR, elements);
    }

    written_operand group(decltype(written_operand::kind) kind, const std::vector<written_operand> &parts)
    {
        written_operand made;
        made.kind = kind;
        for (const written_operand &part : parts) {
            if (part.kind != written_operand::SCALAR && part.kind != written_operand::SINK &&
                part.kind != written_operand::CONSTANT)
                at_.fail_here("only registers and numbers stand in a vector");
            made.slots.push_back(part.value.slot);
            made.writable &= part.writable;
        }
        return made;
    }

    written_operand parse_scalar()
    {
        written_operand made;
        made.kind = written_operand::SCALAR;
        if (at_.peek().kind == token_kind::number || at_.peek().is("-")) {
            bool negative = at_.accept("-");
            uint64_t bits = at_.expect_number();
            made.kind = written_operand::CONSTANT;
            made.value.slot = names_.constant(negative ? 0 - bits : bits);
            made.writable = false;
            return made;
        }
        std::string name = at_.expect_name();
        int64_t offset = parse_offset();
        if (name == "_") {
            made.kind = written_operand::SINK;
            made.value.slot = sink_;
        } else if (name == "%clock64" || name == "%globaltimer" || name == "%clock") {
            made.kind = written_operand::CLOCK;
        } else if (names_.find_register(name, &made.value.slot)) {
            made.value.offset = offset;
        } else if (!find_special(name, made) && !find_symbol(name, offset, made)) {
            if (name[0] == '%')
                at_.fail_here("the register " + name + " is not declared, or not known here");
            made.kind = written_operand::LABEL;
            made.name = name;
        }
        return made;
    }

    int64_t parse_offset()
    {
        if (!at_.peek().is("+") && !at_.peek().is("-"))
            return 0;
        bool negative = at_.next().text == "-";
        if (at_.accept("-"))
            negative = !negative;
        uint64_t bits = at_.expect_number();
        return static_cast<int64_t>(negative ? 0 - bits : bits);
    }

    bool find_special(const std::string &name, written_operand &made)
    {
        auto found = specials_by_name.find(name);
        if (found == specials_by_name.end())
            return false;
        made.kind = written_operand::CONSTANT;
        made.writable = false;
        made.value.slot = names_.special_slot_of(found->second, 0);
        return true;
    }

    bool find_symbol(const std::string &name, int64_t offset, written_operand &made)
    {
        auto shared = shared_.find(name);
        if (shared != shared_.end() && !symbols_.count(name))
            declare_shared(shared->second);
        auto found = symbols_.find(name);
        if (found == symbols_.end())
            return false;
        made.kind = written_operand::CONSTANT;
        made.writable = false;
        int64_t address = static_cast<int64_t>(found->second.value) + offset;
        if (found->second.space == symbol::DYNAMIC_SHARED)
            made.value.slot = names_.special_slot_of(special::dynamic_shared, address);
        else if (found->second.space == symbol::LOCAL)
            made.value.slot = names_.special_slot_of(special::local, address);
        else
            made.value.slot = names_.constant(static_cast<uint64_t>(address));
        return true;
    }

    // ---- what the table makes of it ----
    void choose_form(instruction &made, const std::string &opcode,
                     const std::vector<written_operand> &operands)
    {
        form_match match;
        std::string reason;
        const form *row = choose_row(opcode, operands, &match, &reason);
        if (!row)
            reject(at_.path(), made.line, reason);
        made.execute = row->execute;
        std::copy(match.choice, match.choice + CHOICES_MAX, made.choice);
        place_operands(made, *row, operands);
    }

    void place_operands(instruction &made, const form &row, const std::vector<written_operand> &operands)
    {
        if (operands.size() > OPERANDS_MAX)
            reject(at_.path(), made.line, "more than " + std::to_string(OPERANDS_MAX) + " operands");
        made.operand_count = static_cast<int>(operands.size());
        for (size_t i = 0; i < operands.size(); i++) {
            const written_operand &from = operands[i];
            operand &to = made.operands[i];
            to = from.value;
            if (!from.slots.empty()) {
                to.slot = from.slots[0];
                to.count = static_cast<uint32_t>(from.slots.size());
                to.elements = static_cast<uint32_t>(kernel_.elements.size());
                kernel_.elements.insert(kernel_.elements.end(), from.slots.begin(), from.slots.end());
            }
            if (from.kind == written_operand::LABEL)
                names_.branch_to(from.name, made.line, row.rules[i].letter == 't');
        }
    }
};

} // namespace

void parse_body(cursor &at, kernel &into, symbol_table symbols, const shared_table &shared,
                const function_table &functions)
{
    body_parser(at, into, std::move(symbols), shared, functions).parse();
}

} // namespace ptx
