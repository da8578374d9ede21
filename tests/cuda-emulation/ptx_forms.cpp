// Reads the patterns of the instruction table and compares opcodes with them.
#include "ptx_forms.h"

#include "ptx_tokens.h"

namespace ptx
{

namespace
{

form::part read_part(std::string word)
{
    form::part part;
    if (word.back() == '?') {
        part.optional = true;
        word.pop_back();
    }
    if (word.front() == '<') {
        part.captured = true;
        word = word.substr(1, word.size() - 2);
    }
    part.alternatives = split_text(word, '|');
    return part;
}

std::vector<form::operand_rule> read_rules(const std::string &operands)
{
    std::vector<form::operand_rule> rules;
    if (operands.empty())
        return rules;
    for (std::string word : split_text(operands, ',')) {
        bool optional = word.back() == '?';
        if (optional)
            word.pop_back();
        uint32_t count = word.size() > 1 ? static_cast<uint32_t>(word[1] - '0') : 0;
        rules.push_back({word[0], count, optional});
    }
    return rules;
}

// v2, v4 and v8 alone say how long the vectors of an instruction are.
uint32_t vector_length(const std::string &part)
{
    return part.size() == 2 && part[0] == 'v' ? static_cast<uint32_t>(part[1] - '0') : 0;
}

// Whether the parts of an opcode fit a row.
bool form_fits(const form &row, const std::vector<std::string> &opcode, form_match *match)
{
    *match = form_match();
    size_t word = 0;
    int captured = 0;
    for (const form::part &part : row.parts) {
        int which = NO_CHOICE;
        for (size_t i = 0; word < opcode.size() && i < part.alternatives.size(); i++)
            if (opcode[word] == part.alternatives[i])
                which = static_cast<int>(i);
        if (which == NO_CHOICE && !part.optional)
            return false;
        if (which != NO_CHOICE) {
            uint32_t length = vector_length(opcode[word++]);
            match->vector = length ? length : match->vector;
        }
        if (part.captured)
            match->choice[captured++] = static_cast<int8_t>(which);
    }
    return word == opcode.size();
}

bool operand_fits(const form::operand_rule &rule, const form_match &match, const written_operand &o)
{
    bool scalar = o.kind == written_operand::SCALAR || o.kind == written_operand::CONSTANT ||
                  o.kind == written_operand::SINK;
    bool to_write = rule.letter == 'd' || rule.letter == 'D' || rule.letter == 'e';
    if ((to_write && !o.writable) || (!to_write && o.kind == written_operand::SINK) ||
        (o.value.negated && rule.letter != 'n'))
        return false;
    switch (rule.letter) {
    case 'd':
    case 's':
    case 'n':
        return scalar;
    case 'e':
        return scalar || o.kind == written_operand::PAIR;
    case 'D':
    case 'S':
        if (!rule.count && match.vector == 1)
            return scalar;
        return o.kind == written_operand::VECTOR &&
               o.slots.size() == (rule.count ? rule.count : match.vector);
    case 'm':
        return o.kind == written_operand::ADDRESS;
    case 'l':
    case 't':
        return o.kind == written_operand::LABEL;
    case 'c':
        return o.kind == written_operand::CLOCK;
    default:
        return false;
    }
}

bool operands_fit(const form &row, const form_match &match, const std::vector<written_operand> &operands)
{
    if (operands.size() > row.rules.size())
        return false;
    for (size_t i = 0; i < row.rules.size(); i++) {
        if (i >= operands.size())
            return row.rules[i].optional;
        if (!operand_fits(row.rules[i], match, operands[i]))
            return false;
    }
    return true;
}

struct fitting_row {
    const form *row;
    form_match match;
};

// The rows that fit an opcode's modifiers. Kernels are long and have few opcodes: remembered.
const std::vector<fitting_row> &
rows_that_fit(const std::string &opcode, const std::vector<std::string> &parts, const std::vector<form> &rows)
{
    static std::unordered_map<std::string, std::vector<fitting_row>> remembered;
    auto found = remembered.find(opcode);
    if (found != remembered.end())
        return found->second;
    std::vector<fitting_row> &fitting = remembered[opcode];
    form_match match;
    for (const form &row : rows)
        if (form_fits(row, parts, &match))
            fitting.push_back({&row, match});
    return fitting;
}

// Rows that fit the modifiers alone are named if there are any: then it is the operands that do not fit.
std::string describe_rows(const std::vector<form> &rows, const std::vector<std::string> &opcode)
{
    std::string fitting, others;
    int count = 0;
    for (const form &row : rows) {
        form_match match;
        std::string line = "\n    " + row.pattern + "  (" + row.operands + ")";
        if (form_fits(row, opcode, &match))
            fitting += line;
        else if (count++ < 20)
            others += line;
    }
    return fitting.empty() ? others + (count > 20 ? "\n    and more" : "") : fitting;
}

// The table of everything, built once.
const form_table &all_forms()
{
    static const form_table table = [] {
        form_table forms;
        add_integer_forms(forms);
        add_bit_forms(forms);
        add_float_forms(forms);
        add_half_forms(forms);
        add_conversion_forms(forms);
        add_compare_forms(forms);
        add_memory_forms(forms);
        add_atomic_forms(forms);
        add_control_forms(forms);
        add_warp_forms(forms);
        add_matrix_forms(forms);
        add_asynchronous_forms(forms);
        return forms;
    }();
    return table;
}

} // namespace

void form_table::add(const std::string &pattern, const std::string &operands, executor execute)
{
    form row;
    row.pattern = pattern;
    row.operands = operands;
    row.execute = execute;
    for (const std::string &word : split_text(pattern, ' '))
        if (!word.empty())
            row.parts.push_back(read_part(word));
    row.rules = read_rules(operands);
    rows_[row.parts[0].alternatives[0]].push_back(row);
}

const std::vector<form> *form_table::find(const std::string &root) const
{
    auto found = rows_.find(root);
    return found == rows_.end() ? nullptr : &found->second;
}

const form *choose_row(const std::string &opcode, const std::vector<written_operand> &operands,
                       form_match *match, std::string *reason)
{
    std::vector<std::string> parts = split_text(opcode, '.');
    const std::vector<form> *rows = all_forms().find(parts[0]);
    if (!rows) {
        *reason = "the instruction '" + opcode + "' is not known to the interpreter";
        return nullptr;
    }
    for (const fitting_row &candidate : rows_that_fit(opcode, parts, *rows))
        if (operands_fit(*candidate.row, candidate.match, operands)) {
            *match = candidate.match;
            return candidate.row;
        }
    *reason = "'" + opcode + "' with these modifiers and " + std::to_string(operands.size()) +
              " operands is not known to the interpreter. Known are:" + describe_rows(*rows, parts);
    return nullptr;
}

} // namespace ptx
