// The names in a kernel's body: registers, which become slots, and labels, which become places in the code.
// Braces open scopes (inline assembly opens its own); a name is looked for from the innermost outwards.
#ifndef OCT_TESTS_PTX_SCOPES_H
#define OCT_TESTS_PTX_SCOPES_H

#include <map>
#include <string>
#include <vector>

#include "ptx_program.h"

namespace ptx
{

class scopes
{
  public:
    // Slots and branches are written into the kernel.
    explicit scopes(kernel &into);

    void open();
    // Closes the innermost scope; false: it was the body's.
    bool close();

    uint32_t new_slot(uint64_t initial);
    // One slot for all uses of a constant or of a special register with an offset.
    uint32_t constant(uint64_t value);
    uint32_t special_slot_of(special what, int64_t offset);

    void declare_register(const std::string &name);
    // .reg .b32 %r<10>: %r0 to %r9, which get slots when they are first named.
    void declare_registers(const std::string &prefix, uint64_t count);
    bool find_register(const std::string &name, uint32_t *slot);

    // The label of the next instruction.
    void declare_label(const std::string &name);
    void declare_table(const std::string &name, const std::vector<std::string> &targets);

    // The instruction that is added next branches to a label, or by a table of labels.
    void branch_to(const std::string &label, int line, bool by_table);
    // When all is read: finds the labels. Throws `error` where there is none of a name.
    void resolve_branches();

  private:
    struct scope {
        int parent;
        std::map<std::string, uint32_t> registers;
        std::map<std::string, uint64_t> ranges;
        std::map<std::string, uint32_t> labels;
        std::map<std::string, std::vector<std::string>> tables;
    };
    struct branch {
        size_t at;
        int scope;
        std::string label;
        int line;
        bool by_table;
    };
    kernel &kernel_;
    std::vector<scope> scopes_;
    std::vector<branch> branches_;
    std::map<uint64_t, uint32_t> constants_;
    std::map<std::pair<special, int64_t>, uint32_t> special_slots_;
    int innermost_ = 0;

    scope &at(int index)
    {
        return scopes_[static_cast<size_t>(index)];
    }
    uint32_t find_label(const branch &from, const std::string &label);
    const std::vector<std::string> &find_table(const branch &from);
};

} // namespace ptx

#endif
