// Atomic operations (PTX ISA, 9.7.13.6 and 9.7.13.7), on global and shared memory. nvcc writes the order of
// memory before the operation; behind it is accepted too.
#include "ptx_types.h"

namespace ptx
{

namespace
{

template <class T> using change = T (*)(T old, T b, T c);

template <class T> T add(T old, T b, T)
{
    if constexpr (std::is_integral<T>::value)
        return static_cast<T>(static_cast<uint64_t>(old) + static_cast<uint64_t>(b));
    else
        return old + b;
}
template <class T> T minimum(T old, T b, T)
{
    return b < old ? b : old;
}
template <class T> T maximum(T old, T b, T)
{
    return b > old ? b : old;
}
template <class T> T bit_and(T old, T b, T)
{
    return old & b;
}
template <class T> T bit_or(T old, T b, T)
{
    return old | b;
}
template <class T> T bit_xor(T old, T b, T)
{
    return old ^ b;
}
template <class T> T exchange(T, T b, T)
{
    return b;
}
template <class T> T exchange_if_equal(T old, T b, T c)
{
    return old == b ? c : old;
}
uint32_t increment_to(uint32_t old, uint32_t b, uint32_t)
{
    return old >= b ? 0 : old + 1;
}
uint32_t decrement_from(uint32_t old, uint32_t b, uint32_t)
{
    return old == 0 || old > b ? b : old - 1;
}

// Choice 0: the order of memory, 1: the space. ADDRESS: the operand that holds the address; 1 where d comes
// first.
enum order { RELAXED };
enum space { GLOBAL };
template <class T, change<T> CHANGE, int ADDRESS> void execute(thread &t, const instruction &i)
{
    using word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    bool shared = i.choice[1] > GLOBAL, ordered = i.choice[0] > RELAXED;
    unsigned char *at = shared ? shared_address(t, i, ADDRESS, sizeof(T), sizeof(T))
                               : global_address(t, i, ADDRESS, sizeof(T));
    T b = value_of<T>(t, i, ADDRESS + 1),
      c = i.operand_count > ADDRESS + 2 ? value_of<T>(t, i, ADDRESS + 2) : T(0);
    word *memory = reinterpret_cast<word *>(at), old = __atomic_load_n(memory, __ATOMIC_RELAXED), changed;
    do
        changed = static_cast<word>(to_bits(CHANGE(from_bits<T>(old), b, c)));
    while (!__atomic_compare_exchange_n(memory, &old, changed, false,
                                        ordered ? __ATOMIC_ACQ_REL : __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    cuda_emulation::atomic_hook(memory, !ordered, true);
    if (ADDRESS == 1)
        t.registers[i.operands[0].slot] = old;
}

template <class T, change<T> CHANGE>
void add_rows(form_table &table, const std::string &operation, const std::string &type)
{
    const std::string before =
        " <relaxed|acquire|release|acq_rel>? cta|cluster|gpu|sys? <global|shared|shared::cta>? ";
    std::string values = operation == "cas" ? ",s,s" : ",s";
    for (const std::string &pattern : {before + operation + " " + type, " " + operation + before + type}) {
        table.add("atom" + pattern, "d,m" + values, execute<T, CHANGE, 1>);
        if (operation != "cas" && operation != "exch")
            table.add("red" + pattern, "m" + values, execute<T, CHANGE, 0>);
    }
}

template <class T> void add_ordered_rows(form_table &table, const std::string &type)
{
    add_rows<T, minimum<T>>(table, "min", type);
    add_rows<T, maximum<T>>(table, "max", type);
}

template <class T> void add_bit_rows(form_table &table, const std::string &type)
{
    add_rows<T, bit_and<T>>(table, "and", type);
    add_rows<T, bit_or<T>>(table, "or", type);
    add_rows<T, bit_xor<T>>(table, "xor", type);
    add_rows<T, exchange<T>>(table, "exch", type);
    add_rows<T, exchange_if_equal<T>>(table, "cas", type);
}

} // namespace

void add_atomic_forms(form_table &table)
{
    add_rows<uint32_t, add<uint32_t>>(table, "add", "u32|s32");
    add_rows<uint64_t, add<uint64_t>>(table, "add", "u64|s64");
    add_rows<float, add<float>>(table, "add", "f32");
    add_rows<double, add<double>>(table, "add", "f64");
    add_ordered_rows<uint32_t>(table, "u32");
    add_ordered_rows<int32_t>(table, "s32");
    add_ordered_rows<uint64_t>(table, "u64");
    add_ordered_rows<int64_t>(table, "s64");
    add_bit_rows<uint32_t>(table, "b32|u32|s32");
    add_bit_rows<uint64_t>(table, "b64|u64|s64");
    add_rows<uint32_t, increment_to>(table, "inc", "u32");
    add_rows<uint32_t, decrement_from>(table, "dec", "u32");
}

} // namespace ptx
