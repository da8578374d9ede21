// One thread of a kernel in PTX: its registers, its place in the code, and how executors read and write them.
//
// A register is 64 bits wide. Executors read as much of it as their type has and write zeros above; what else
// a register holds is never looked at.
#ifndef OCT_TESTS_PTX_THREAD_H
#define OCT_TESTS_PTX_THREAD_H

#include <cstring>

#include "cuda_emulation.h"
#include "ptx_program.h"

namespace ptx
{

struct thread {
    const kernel *program;
    uint64_t *registers;
    unsigned char *parameters;
    unsigned char *shared; // static and dynamic shared memory of the block
    size_t shared_end;     // the first address in shared space behind it
    unsigned char *local;
    size_t next; // index of the next instruction; the code's length: the thread leaves the kernel, or the function
    bool has_left; // the kernel, perhaps from inside a function
};

// Runs a kernel in the calling thread of the emulation. `parameters`: as PTX lays them out.
void run_kernel(const kernel &program, unsigned char *parameters);

// The executor of calls: the function has registers and local memory of its own, and shares the rest.
void call_function(thread &t, const instruction &i);

template <class T> inline T from_bits(uint64_t bits)
{
    T value;
    memcpy(&value, &bits, sizeof value); // the low bytes: little endian, as the device
    return value;
}

template <class T> inline uint64_t to_bits(T value)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

// Predicates are 0 or 1.
template <> inline bool from_bits<bool>(uint64_t bits)
{
    return bits & 1;
}
template <> inline uint64_t to_bits<bool>(bool value)
{
    return value;
}

// The j-th slot of an operand, scalar or vector.
inline uint32_t slot_of(const thread &t, const operand &o, uint32_t j)
{
    return o.count == 1 ? o.slot : t.program->elements[o.elements + j];
}

// The value of the i-th operand of an instruction; of a vector, its j-th element.
template <class T> inline T value_of(const thread &t, const instruction &i, int which)
{
    return from_bits<T>(t.registers[i.operands[which].slot]);
}
template <class T> inline T element_of(const thread &t, const instruction &i, int which, uint32_t j)
{
    return from_bits<T>(t.registers[slot_of(t, i.operands[which], j)]);
}

template <class T> inline void set_value(thread &t, const instruction &i, int which, T value)
{
    t.registers[i.operands[which].slot] = to_bits(value);
}
template <class T> inline void set_element(thread &t, const instruction &i, int which, uint32_t j, T value)
{
    t.registers[slot_of(t, i.operands[which], j)] = to_bits(value);
}

// Ends the process: "path:line: reason" after the emulation's words.
[[noreturn]] void die_at(const thread &t, const instruction &i, const char *reason);

// The address of a memory operand. In shared space `bytes` from there must be inside the block's memory;
// addresses of all other spaces are the host's own, and its sanitizers watch them.
inline uint64_t address_of(const thread &t, const instruction &i, int which)
{
    const operand &o = i.operands[which];
    return t.registers[o.slot] + static_cast<uint64_t>(o.offset);
}
unsigned char *shared_address(const thread &t, const instruction &i, int which, size_t bytes,
                              size_t alignment);
unsigned char *global_address(const thread &t, const instruction &i, int which, size_t alignment);

} // namespace ptx

#endif
