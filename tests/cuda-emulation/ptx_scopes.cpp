// Slots for registers, constants and special registers; labels.
#include "ptx_scopes.h"

#include <cctype>

#include "ptx_tokens.h"

namespace ptx
{

scopes::scopes(kernel &into) : kernel_(into)
{
    scopes_.push_back({-1, {}, {}, {}, {}});
}

void scopes::open()
{
    scopes_.push_back({innermost_, {}, {}, {}, {}});
    innermost_ = static_cast<int>(scopes_.size()) - 1;
}

bool scopes::close()
{
    innermost_ = at(innermost_).parent;
    return innermost_ >= 0;
}

uint32_t scopes::new_slot(uint64_t initial)
{
    kernel_.initial_registers.push_back(initial);
    return static_cast<uint32_t>(kernel_.initial_registers.size() - 1);
}

uint32_t scopes::constant(uint64_t value)
{
    auto found = constants_.find(value);
    return found != constants_.end() ? found->second : constants_[value] = new_slot(value);
}

uint32_t scopes::special_slot_of(special what, int64_t offset)
{
    auto found = special_slots_.find({what, offset});
    if (found != special_slots_.end())
        return found->second;
    uint32_t slot = new_slot(UNWRITTEN);
    kernel_.specials.push_back({what, offset, slot});
    return special_slots_[{what, offset}] = slot;
}

void scopes::declare_register(const std::string &name)
{
    at(innermost_).registers[name] = new_slot(UNWRITTEN);
}

void scopes::declare_registers(const std::string &prefix, uint64_t count)
{
    at(innermost_).ranges[prefix] = count;
}

bool scopes::find_register(const std::string &name, uint32_t *slot)
{
    size_t digits = name.size();
    while (digits && isdigit(static_cast<unsigned char>(name[digits - 1])))
        digits--;
    bool numbered = digits < name.size() && name.size() - digits < 10;
    for (int s = innermost_; s >= 0; s = at(s).parent) {
        auto known = at(s).registers.find(name);
        if (known != at(s).registers.end()) {
            *slot = known->second;
            return true;
        }
        auto range = at(s).ranges.find(name.substr(0, digits));
        if (numbered && range != at(s).ranges.end() && std::stoull(name.substr(digits)) < range->second) {
            *slot = at(s).registers[name] = new_slot(UNWRITTEN);
            return true;
        }
    }
    return false;
}

void scopes::declare_label(const std::string &name)
{
    at(innermost_).labels[name] = static_cast<uint32_t>(kernel_.code.size());
}

void scopes::declare_table(const std::string &name, const std::vector<std::string> &targets)
{
    at(innermost_).tables[name] = targets;
}

void scopes::branch_to(const std::string &label, int line, bool by_table)
{
    branches_.push_back({kernel_.code.size(), innermost_, label, line, by_table});
}

void scopes::resolve_branches()
{
    for (const branch &b : branches_) {
        if (!b.by_table) {
            kernel_.code[b.at].target = find_label(b, b.label);
            continue;
        }
        kernel_.code[b.at].target = static_cast<uint32_t>(kernel_.tables.size());
        kernel_.tables.emplace_back();
        for (const std::string &label : find_table(b))
            kernel_.tables.back().push_back(find_label(b, label));
    }
}

uint32_t scopes::find_label(const branch &from, const std::string &label)
{
    for (int s = from.scope; s >= 0; s = at(s).parent) {
        auto found = at(s).labels.find(label);
        if (found != at(s).labels.end())
            return found->second;
    }
    reject(kernel_.path, from.line, "neither a register nor a label is called '" + label + "'");
}

const std::vector<std::string> &scopes::find_table(const branch &from)
{
    for (int s = from.scope; s >= 0; s = at(s).parent) {
        auto found = at(s).tables.find(from.label);
        if (found != at(s).tables.end())
            return found->second;
    }
    reject(kernel_.path, from.line, "no .branchtargets is called '" + from.label + "'");
}

} // namespace ptx
