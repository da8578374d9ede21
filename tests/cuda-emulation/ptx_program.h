// A kernel as the interpreter runs it: every name has become a number, every instruction a function.
// Owned by the registry (ptx_registry.h); written by the parser (ptx_parser.h), read by the threads
// (ptx_thread.h).
#ifndef OCT_TESTS_PTX_PROGRAM_H
#define OCT_TESTS_PTX_PROGRAM_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ptx
{

struct thread;
struct instruction;

// Carries out one instruction of one thread.
using executor = void (*)(thread &, const instruction &);

// One operand. Constants and special registers lie in slots of the register file too, filled when a thread
// starts, so that an executor never asks what kind of operand it has.
struct operand {
    uint32_t slot = 0;     // scalar: the register; address: the register that holds the base
    uint32_t count = 1;    // vector {a, b, …} or pair a|b: how many slots
    uint32_t elements = 0; // vector or pair: its slots are kernel::elements[elements … + count)
    bool negated = false;  // a predicate written !p
    int64_t offset = 0;    // address: bytes added to the base
};

constexpr int NO_CHOICE = -1;
constexpr int OPERANDS_MAX = 6;
constexpr int CHOICES_MAX = 4;

struct instruction {
    executor execute = nullptr;
    int guard = -1; // the predicate register of @p, or -1
    bool guard_negated = false;
    int8_t choice[CHOICES_MAX] = {NO_CHOICE, NO_CHOICE, NO_CHOICE, NO_CHOICE}; // see ptx_forms.h
    int operand_count = 0;
    operand operands[OPERANDS_MAX];
    uint32_t target = 0; // branch: index of the next instruction; indexed branch: index into kernel::tables; call:
                         // index into kernel::callees
    int line = 0;
};

// Registers whose value is fixed for the life of a thread.
enum class special {
    tid_x,
    tid_y,
    tid_z,
    ntid_x,
    ntid_y,
    ntid_z,
    ctaid_x,
    ctaid_y,
    ctaid_z,
    nctaid_x,
    nctaid_y,
    nctaid_z,
    laneid,
    warpid,
    nwarpid,
    lanemask_eq,
    lanemask_lt,
    lanemask_le,
    lanemask_gt,
    lanemask_ge,
    smid,
    nsmid,
    warp_size,
    grid_workspace_high, // %envreg1 and %envreg2: where cooperative groups keep the barrier of a grid
    grid_workspace_low,
    dynamic_shared_bytes,
    dynamic_shared, // the address of dynamic shared memory, in shared space
    local           // the generic address of the thread's local memory
};

struct special_slot {
    special what;
    int64_t offset; // added to the value
    uint32_t slot;
};

struct parameter {
    size_t offset_bytes, bytes;
};

// A kernel, or a function that kernels call: one without parameters, which finds in shared memory what it works on.
struct kernel {
    std::string name; // mangled, as the host's symbol
    std::string path; // the file it came from, for messages
    std::vector<instruction> code;
    std::vector<uint32_t> elements;
    std::vector<std::vector<uint32_t>> tables; // the targets of indexed branches
    std::vector<const kernel *> callees;       // functions of the same module
    std::vector<uint64_t> initial_registers;   // constants in their slots, everything else poison
    std::vector<special_slot> specials;
    std::vector<parameter> parameters;
    size_t parameter_bytes = 0;
    size_t static_shared_bytes = 0;
    size_t dynamic_shared_begin = 0; // dynamic shared memory follows the static, aligned
    size_t local_bytes = 0;
    size_t threads_max = 0; // .maxntid or .reqntid; 0: not said
};

// Variables at the head of a file (.global, .const) with their values; kernels hold their addresses.
struct variable {
    std::unique_ptr<unsigned char[]> storage;
    unsigned char *begin = nullptr;
    size_t bytes = 0;
};

struct module {
    std::string path;
    std::string target; // sm_90a
    std::vector<std::unique_ptr<kernel>> kernels, functions;
    std::vector<variable> variables;
};

// What a register holds that nothing was written to: a NaN in both halves, an address that faults.
constexpr uint64_t UNWRITTEN = 0x7fbadbad7fbadbadull;

// The alignment of dynamic shared memory (DYN_SHARED asks for as much).
constexpr size_t DYNAMIC_SHARED_ALIGNMENT = 1024;

} // namespace ptx

#endif
