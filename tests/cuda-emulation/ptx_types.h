// Helpers with which the files of executors fill the table: one row for each type.
#ifndef OCT_TESTS_PTX_TYPES_H
#define OCT_TESTS_PTX_TYPES_H

#include <cstdint>
#include <string>
#include <type_traits>

#include "ptx_forms.h"
#include "ptx_thread.h"

namespace ptx
{

template <class T> struct type_tag {
    using type = T;
};

// Call add(tag, name) for each type, for instance (type_tag<int32_t>, "s32").
template <class Add> void each_integer(Add add)
{
    add(type_tag<uint16_t>(), "u16");
    add(type_tag<int16_t>(), "s16");
    add(type_tag<uint32_t>(), "u32");
    add(type_tag<int32_t>(), "s32");
    add(type_tag<uint64_t>(), "u64");
    add(type_tag<int64_t>(), "s64");
}

template <class Add> void each_small_integer(Add add)
{
    add(type_tag<uint8_t>(), "u8");
    add(type_tag<int8_t>(), "s8");
}

template <class Add> void each_bits(Add add)
{
    add(type_tag<uint16_t>(), "b16");
    add(type_tag<uint32_t>(), "b32");
    add(type_tag<uint64_t>(), "b64");
}

template <class Add> void each_float(Add add)
{
    add(type_tag<float>(), "f32");
    add(type_tag<double>(), "f64");
}

// Rows of one shape: d = operation(a, b).
template <class T, T (*OPERATION)(T)> void execute_unary(thread &t, const instruction &i)
{
    set_value(t, i, 0, OPERATION(value_of<T>(t, i, 1)));
}

template <class T, T (*OPERATION)(T, T)> void execute_binary(thread &t, const instruction &i)
{
    set_value(t, i, 0, OPERATION(value_of<T>(t, i, 1), value_of<T>(t, i, 2)));
}

template <class T, T (*OPERATION)(T, T, T)> void execute_ternary(thread &t, const instruction &i)
{
    set_value(t, i, 0, OPERATION(value_of<T>(t, i, 1), value_of<T>(t, i, 2), value_of<T>(t, i, 3)));
}

} // namespace ptx

#endif
