// The instructions that the interpreter knows, as a table: an opcode with its modifiers, its operands, and
// the function that carries it out. What is not in the table is an error when a file is read.
//
// A pattern is the opcode's parts in order, with blanks where PTX has dots:
//   add             this part
//   u32|s32         one of these
//   <eq|ne|lt>      one of these, and instruction::choice tells which (0 is the first; NO_CHOICE: absent)
//   sat?            may be absent (also after <…>)
// Operands are letters, with commas between them:
//   d  a register to write, or _           D  the same, or a vector as long as the part v2, v4 or v8 says
//   s  a value                             S  the same, or a vector as long as the part v2, v4 or v8 says
//   D4, S2  a vector of this length        e  a register to write, or a pair a|b
//   m  an address in brackets              n  a predicate to read, perhaps negated
//   l  a label                             t  the label of a branch table
//   ?  after a letter: this operand and those after it may be absent
// An opcode may have several rows; the first that fits modifiers and operands is taken.
#ifndef OCT_TESTS_PTX_FORMS_H
#define OCT_TESTS_PTX_FORMS_H

#include <string>
#include <unordered_map>
#include <vector>

#include "ptx_program.h"

namespace ptx
{

struct form {
    struct part {
        std::vector<std::string> alternatives;
        bool captured = false, optional = false;
    };
    struct operand_rule {
        char letter;
        uint32_t count; // of D4: 4; 0: by v2, v4, v8, or a scalar
        bool optional;
    };
    std::string pattern, operands; // as written in the table
    std::vector<part> parts;
    std::vector<operand_rule> rules;
    executor execute;
};

// An opcode that fits a form: what the captured parts are and how long its vectors.
struct form_match {
    int8_t choice[CHOICES_MAX] = {NO_CHOICE, NO_CHOICE, NO_CHOICE, NO_CHOICE};
    uint32_t vector = 1;
};

class form_table
{
  public:
    // Adds a row. `pattern` and `operands` as above.
    void add(const std::string &pattern, const std::string &operands, executor execute);

    // The rows of an opcode's first part in the order they were added, or nullptr if there is none.
    const std::vector<form> *find(const std::string &root) const;

  private:
    std::unordered_map<std::string, std::vector<form>> rows_;
};

// An operand as it stands in the file, before it is known what the instruction wants.
struct written_operand {
    enum { SCALAR, SINK, CONSTANT, ADDRESS, VECTOR, PAIR, LABEL, CLOCK } kind;
    operand value;
    std::vector<uint32_t> slots; // of a vector or pair
    bool writable = true;        // all of it are registers or _
    std::string name;            // of a label
};

// The row of the table of everything that fits, or nullptr and the reason, which names what would have
// fitted.
const form *choose_row(const std::string &opcode, const std::vector<written_operand> &operands,
                       form_match *match, std::string *reason);

// One function for each file of executors; each adds its rows.
void add_integer_forms(form_table &table);
void add_bit_forms(form_table &table);
void add_float_forms(form_table &table);
void add_half_forms(form_table &table);
void add_conversion_forms(form_table &table);
void add_compare_forms(form_table &table);
void add_memory_forms(form_table &table);
void add_atomic_forms(form_table &table);
void add_control_forms(form_table &table);
void add_warp_forms(form_table &table);
void add_matrix_forms(form_table &table);
void add_asynchronous_forms(form_table &table);

} // namespace ptx

#endif
