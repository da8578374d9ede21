// setp (PTX ISA, 9.7.6). The unordered comparisons (ltu, equ, …) are true where an operand is NaN.
#include "ptx_rounding.h"
#include "ptx_types.h"

namespace ptx
{

namespace
{

// In the order of the patterns below.
enum comparison { EQ, NE, LT, LE, GT, GE, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NAN_ };
const char *const ordered = "<eq|ne|lt|le|gt|ge>", *const unsigned_names = "<eq|ne|lo|ls|hi|hs>",
                  *const with_nan = "<eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan>";

template <class T> bool compare(int how, T a, T b)
{
    bool unordered = a != a || b != b;
    switch (how) {
    case EQ:
        return a == b;
    case NE:
        return !unordered && a != b;
    case LT:
        return a < b;
    case LE:
        return a <= b;
    case GT:
        return a > b;
    case GE:
        return a >= b;
    case NUM:
        return !unordered;
    case NAN_:
        return unordered;
    default:
        return unordered || compare(how - EQU, a, b);
    }
}

// Choice 0: the comparison; then, where COMBINED, with what it is combined; then ftz. The second destination
// gets what the opposite of the comparison gives.
template <class T, bool COMBINED> void set_predicate(thread &t, const instruction &i)
{
    enum { AND, OR };
    T a = value_of<T>(t, i, 1), b = value_of<T>(t, i, 2);
    if (std::is_same<T, float>::value && i.choice[COMBINED ? 2 : 1] != NO_CHOICE) {
        a = static_cast<T>(flush(static_cast<float>(a)));
        b = static_cast<T>(flush(static_cast<float>(b)));
    }
    bool first = compare(i.choice[0], a, b), second = !first;
    if (COMBINED) {
        bool c = value_of<bool>(t, i, 3) != i.operands[3].negated;
        first = i.choice[1] == AND ? first && c : i.choice[1] == OR ? first || c : first != c;
        second = i.choice[1] == AND ? second && c : i.choice[1] == OR ? second || c : second != c;
    }
    set_element(t, i, 0, 0, first);
    if (i.operands[0].count == 2)
        set_element(t, i, 0, 1, second);
}

template <class T> void add_rows(form_table &table, const std::string &comparisons, const std::string &type)
{
    table.add("setp " + comparisons + " " + type, "e,s,s", set_predicate<T, false>);
    table.add("setp " + comparisons + " <and|or|xor> " + type, "e,s,s,n", set_predicate<T, true>);
}

} // namespace

void add_compare_forms(form_table &table)
{
    each_integer([&](auto tag, const std::string &type) {
        add_rows<typename decltype(tag)::type>(table, ordered, type);
        if (type[0] == 'u')
            add_rows<typename decltype(tag)::type>(table, unsigned_names, type);
    });
    each_bits([&](auto tag, const std::string &bits) {
        add_rows<typename decltype(tag)::type>(table, "<eq|ne>", bits);
    });
    add_rows<float>(table, with_nan, "<ftz>? f32");
    add_rows<double>(table, with_nan, "f64");
}

} // namespace ptx
