// Logic, shifts, fields and bytes (PTX ISA, 9.7.8 and the bit instructions of 9.7.1), and moves without
// conversion.
#include "ptx_types.h"

namespace ptx
{

namespace
{

template <class T> T bit_and(T a, T b)
{
    return static_cast<T>(a & b);
}
template <class T> T bit_or(T a, T b)
{
    return static_cast<T>(a | b);
}
template <class T> T bit_xor(T a, T b)
{
    return static_cast<T>(a ^ b);
}
template <class T> T bit_not(T a)
{
    return static_cast<T>(~a);
}
template <> bool bit_not<bool>(bool a)
{
    return !a;
}

// Shifts by the width or more give 0, or the sign.
template <class T> void shift_left(thread &t, const instruction &i)
{
    uint32_t by = value_of<uint32_t>(t, i, 2);
    set_value(t, i, 0,
              by >= 8 * sizeof(T) ? T(0) : static_cast<T>(static_cast<uint64_t>(value_of<T>(t, i, 1)) << by));
}
template <class T> void shift_right(thread &t, const instruction &i)
{
    uint32_t by = value_of<uint32_t>(t, i, 2), most = 8 * sizeof(T) - 1;
    T value = value_of<T>(t, i, 1);
    if (by > most)
        value = std::is_signed<T>::value ? static_cast<T>(value >> most) : T(0);
    else
        value = static_cast<T>(value >> by);
    set_value(t, i, 0, value);
}

// Two registers shifted as one; choice 0: left or right, 1: wrap (by mod 32) or clamp (at most 32).
void funnel_shift(thread &t, const instruction &i)
{
    enum { LEFT = 0, WRAP = 0 };
    uint64_t both = static_cast<uint64_t>(value_of<uint32_t>(t, i, 2)) << 32 | value_of<uint32_t>(t, i, 1);
    uint32_t by = value_of<uint32_t>(t, i, 3);
    by = i.choice[1] == WRAP ? by & 31 : by > 32 ? 32 : by;
    uint64_t shifted = i.choice[0] == LEFT ? (both << by) >> 32 : both >> by;
    set_value(t, i, 0, static_cast<uint32_t>(shifted));
}

// Bit 4 a + 2 b + c of the truth table says what three bits give.
void lop3(thread &t, const instruction &i)
{
    uint32_t a = value_of<uint32_t>(t, i, 1), b = value_of<uint32_t>(t, i, 2),
             c = value_of<uint32_t>(t, i, 3);
    uint32_t table = value_of<uint32_t>(t, i, 4), result = 0;
    for (int k = 0; k < 8; k++)
        if (table >> k & 1)
            result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    set_value(t, i, 0, result);
}

// Bits behind the most significant are the sign (0 in an unsigned field, and where the length is 0).
template <class T> void extract_field(thread &t, const instruction &i)
{
    T a = value_of<T>(t, i, 1);
    uint32_t position = value_of<uint32_t>(t, i, 2) & 255, length = value_of<uint32_t>(t, i, 3) & 255;
    uint32_t bits = 8 * sizeof(T), last = position + length > bits ? bits - 1 : position + length - 1;
    uint64_t source = static_cast<uint64_t>(a), result = 0;
    bool sign = std::is_signed<T>::value && length && (source >> last & 1);
    for (uint32_t k = 0; k < bits; k++) {
        bool bit = k < length && position + k < bits ? source >> (position + k) & 1 : sign;
        result |= static_cast<uint64_t>(bit) << k;
    }
    set_value(t, i, 0, static_cast<T>(result));
}

template <class T> void insert_field(thread &t, const instruction &i)
{
    T from = value_of<T>(t, i, 1), into = value_of<T>(t, i, 2);
    uint32_t position = value_of<uint32_t>(t, i, 3) & 255, length = value_of<uint32_t>(t, i, 4) & 255;
    for (uint32_t k = 0; k < length && position + k < 8 * sizeof(T); k++) {
        T bit = T(1) << (position + k);
        into = static_cast<T>((into & ~bit) | (from >> k & 1 ? bit : T(0)));
    }
    set_value(t, i, 0, into);
}

uint32_t byte_of(uint64_t bytes, uint32_t which)
{
    return static_cast<uint32_t>(bytes >> (8 * which)) & 255;
}

// prmt without a mode: four nibbles choose bytes, their top bit replicates the byte's sign.
void permute_bytes(thread &t, const instruction &i)
{
    uint64_t bytes = static_cast<uint64_t>(value_of<uint32_t>(t, i, 2)) << 32 | value_of<uint32_t>(t, i, 1);
    uint32_t selector = value_of<uint32_t>(t, i, 3), result = 0;
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t nibble = selector >> (4 * k) & 15, byte = byte_of(bytes, nibble & 7);
        result |= (nibble & 8 ? (byte & 128 ? 255u : 0u) : byte) << (8 * k);
    }
    set_value(t, i, 0, result);
}

// prmt with a mode: which byte comes to place k, by the two low bits of the selector (PTX ISA, table of
// prmt's modes).
uint32_t permuted_place(int mode, uint32_t k, uint32_t selector)
{
    enum { FORWARD_4, BACKWARD_4, REPLICATE_8, EDGE_LEFT, EDGE_RIGHT, REPLICATE_16 };
    switch (mode) {
    case FORWARD_4:
        return selector + k;
    case BACKWARD_4:
        return (selector - k) & 7;
    case REPLICATE_8:
        return selector;
    case EDGE_LEFT:
        return k < selector ? selector : k;
    case EDGE_RIGHT:
        return k > selector ? selector : k;
    default:
        return 2 * (selector & 1) + (k & 1);
    }
}
void permute_by_mode(thread &t, const instruction &i)
{
    uint64_t bytes = static_cast<uint64_t>(value_of<uint32_t>(t, i, 2)) << 32 | value_of<uint32_t>(t, i, 1);
    uint32_t selector = value_of<uint32_t>(t, i, 3) & 3, result = 0;
    for (uint32_t k = 0; k < 4; k++)
        result |= byte_of(bytes, permuted_place(i.choice[0], k, selector)) << (8 * k);
    set_value(t, i, 0, result);
}

// These give 32 bits whatever they read.
template <class T> void count_ones(thread &t, const instruction &i)
{
    set_value(t, i, 0, static_cast<uint32_t>(__builtin_popcountll(value_of<T>(t, i, 1))));
}
template <class T> uint32_t leading_zeros(T value)
{
    return value ? static_cast<uint32_t>(__builtin_clzll(value)) - (64 - 8 * sizeof(T)) : 8 * sizeof(T);
}
template <class T> void count_leading_zeros(thread &t, const instruction &i)
{
    set_value(t, i, 0, leading_zeros(value_of<T>(t, i, 1)));
}

// The most significant bit that is not a sign bit; −1 if there is none. `shiftamt`: how far it is from the
// top.
template <class T> void find_leading_one(thread &t, const instruction &i)
{
    using bits = std::make_unsigned_t<T>;
    T value = value_of<T>(t, i, 1);
    bits searched = value < 0 ? static_cast<bits>(~value) : static_cast<bits>(value);
    uint32_t zeros = leading_zeros(searched), width = 8 * sizeof(T);
    bool shift_amount = i.choice[0] != NO_CHOICE;
    set_value(t, i, 0, !searched ? ~0u : shift_amount ? zeros : width - 1 - zeros);
}

template <class T> T reverse_bits(T value)
{
    T result = 0;
    for (unsigned k = 0; k < 8 * sizeof(T); k++)
        result |= static_cast<T>(value >> k & 1) << (8 * sizeof(T) - 1 - k);
    return result;
}

template <class T> void move(thread &t, const instruction &i)
{
    set_value(t, i, 0, value_of<T>(t, i, 1));
}

// {a, b, …} as one value, the first lowest; and back.
template <class T> void pack(thread &t, const instruction &i)
{
    uint32_t parts = i.operands[1].count, width = static_cast<uint32_t>(8 * sizeof(T)) / parts;
    uint64_t mask = ~0ull >> (64 - width), result = 0;
    for (uint32_t k = 0; k < parts; k++)
        result |= (element_of<uint64_t>(t, i, 1, k) & mask) << (width * k);
    set_value(t, i, 0, static_cast<T>(result));
}
template <class T> void unpack(thread &t, const instruction &i)
{
    uint32_t parts = i.operands[0].count, width = static_cast<uint32_t>(8 * sizeof(T)) / parts;
    uint64_t mask = ~0ull >> (64 - width), value = value_of<T>(t, i, 1);
    for (uint32_t k = 0; k < parts; k++)
        set_element(t, i, 0, k, (value >> (width * k)) & mask);
}

template <class T> void select(thread &t, const instruction &i)
{
    set_value(t, i, 0, value_of<T>(t, i, value_of<bool>(t, i, 3) != i.operands[3].negated ? 1 : 2));
}

void read_clock(thread &t, const instruction &i)
{
    set_value(t, i, 0, static_cast<uint64_t>(clock64()));
}

template <class T> void add_logic_rows(form_table &table, const std::string &type)
{
    table.add("and " + type, "d,s,s", execute_binary<T, bit_and<T>>);
    table.add("or " + type, "d,s,s", execute_binary<T, bit_or<T>>);
    table.add("xor " + type, "d,s,s", execute_binary<T, bit_xor<T>>);
    table.add("not " + type, "d,s", execute_unary<T, bit_not<T>>);
}

template <class T> void add_wide_bit_rows(form_table &table, const std::string &bits)
{
    using signed_type = std::make_signed_t<T>;
    std::string width = bits.substr(1);
    table.add("popc " + bits, "d,s", count_ones<T>);
    table.add("clz " + bits, "d,s", count_leading_zeros<T>);
    table.add("brev " + bits, "d,s", execute_unary<T, reverse_bits<T>>);
    table.add("bfind <shiftamt>? u" + width, "d,s", find_leading_one<T>);
    table.add("bfind <shiftamt>? s" + width, "d,s", find_leading_one<signed_type>);
    table.add("bfe u" + width, "d,s,s,s", extract_field<T>);
    table.add("bfe s" + width, "d,s,s,s", extract_field<signed_type>);
    table.add("bfi " + bits, "d,s,s,s,s", insert_field<T>);
}

} // namespace

void add_bit_forms(form_table &table)
{
    add_logic_rows<bool>(table, "pred");
    each_bits([&](auto tag, const std::string &bits) {
        using T = typename decltype(tag)::type;
        std::string width = bits.substr(1);
        add_logic_rows<T>(table, bits);
        table.add("shl " + bits, "d,s,s", shift_left<T>);
        table.add("shr " + bits + "|u" + width, "d,s,s", shift_right<T>);
        table.add("shr s" + width, "d,s,s", shift_right<std::make_signed_t<T>>);
        std::string types = bits + "|u" + width + "|s" + width + (width == "16" ? "|f16|bf16" : "|f" + width);
        table.add("mov " + types, "d,s", move<T>);
        table.add("selp " + types, "d,s,s,n", select<T>);
        table.add("mov " + bits, "d,S2", pack<T>);
        table.add("mov " + bits, "D2,s", unpack<T>);
        if (width != "16") {
            table.add("mov " + bits, "d,S4", pack<T>);
            table.add("mov " + bits, "D4,s", unpack<T>);
        }
    });
    table.add("mov pred", "d,s", move<bool>);
    table.add("mov u64|b64|u32|b32", "d,c", read_clock);
    add_wide_bit_rows<uint32_t>(table, "b32");
    add_wide_bit_rows<uint64_t>(table, "b64");
    table.add("lop3 b32", "d,s,s,s,s", lop3);
    table.add("shf <l|r> <wrap|clamp> b32", "d,s,s,s", funnel_shift);
    table.add("prmt b32", "d,s,s,s", permute_bytes);
    table.add("prmt b32 <f4e|b4e|rc8|ecl|ecr|rc16>", "d,s,s,s", permute_by_mode);
}

} // namespace ptx
