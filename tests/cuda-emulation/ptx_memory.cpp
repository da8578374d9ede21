// Loads, stores and addresses (PTX ISA, 9.7.9). Addresses of global, local and generic space are the host's
// own, those of shared space are offsets into the block's memory and are checked here. Hints to caches have
// no effect.
#include "ptx_types.h"

namespace ptx
{

namespace
{

enum space { HOST, SHARED, PARAMETER };

template <space SPACE> unsigned char *address(const thread &t, const instruction &i, int which, size_t bytes)
{
    if (SPACE == SHARED)
        return shared_address(t, i, which, bytes, bytes);
    if (SPACE == PARAMETER)
        return t.parameters + address_of(t, i, which);
    return global_address(t, i, which, bytes);
}

// Signed types fill the register that they are loaded into.
template <class T> void set_loaded(thread &t, const instruction &i, uint32_t j, T value)
{
    using extended = std::conditional_t<std::is_floating_point<T>::value, T,
                                        std::conditional_t<std::is_signed<T>::value, int64_t, uint64_t>>;
    set_element(t, i, 0, j, static_cast<extended>(value));
}

template <class T, space SPACE> void load(thread &t, const instruction &i)
{
    uint32_t count = i.operands[0].count;
    const T *from = reinterpret_cast<const T *>(address<SPACE>(t, i, 1, count * sizeof(T)));
    for (uint32_t j = 0; j < count; j++)
        set_loaded(t, i, j, from[j]);
}

template <class T, space SPACE> void store(thread &t, const instruction &i)
{
    uint32_t count = i.operands[1].count;
    T *to = reinterpret_cast<T *>(address<SPACE>(t, i, 0, count * sizeof(T)));
    for (uint32_t j = 0; j < count; j++)
        to[j] = element_of<T>(t, i, 1, j);
}

// What polling loops are made of: lets other threads run first. Choice 0.
enum load_order { LOAD_VOLATILE, LOAD_RELAXED, LOAD_MMIO, LOAD_ACQUIRE };
template <class T, space SPACE> void load_ordered(thread &t, const instruction &i)
{
    uint32_t count = i.operands[0].count;
    T *from = reinterpret_cast<T *>(address<SPACE>(t, i, 1, count * sizeof(T)));
    bool acquire = i.choice[0] == LOAD_ACQUIRE;
    cuda_emulation::spin();
    for (uint32_t j = 0; j < count; j++) {
        T value;
        __atomic_load(from + j, &value, acquire ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED);
        if (!acquire)
            cuda_emulation::atomic_hook(from + j, true, false);
        set_loaded(t, i, j, value);
    }
}

enum store_order { STORE_VOLATILE, STORE_RELAXED, STORE_MMIO, STORE_RELEASE };
template <class T, space SPACE> void store_ordered(thread &t, const instruction &i)
{
    uint32_t count = i.operands[1].count;
    T *to = reinterpret_cast<T *>(address<SPACE>(t, i, 0, count * sizeof(T)));
    for (uint32_t j = 0; j < count; j++) {
        T value = element_of<T>(t, i, 1, j);
        __atomic_store(to + j, &value, i.choice[0] == STORE_RELEASE ? __ATOMIC_RELEASE : __ATOMIC_RELAXED);
        cuda_emulation::atomic_hook(to + j, false, true);
    }
}

const std::string scope = " cta|cluster|gpu|sys? ";
const std::string hints =
    " ca|cg|cs|lu|cv|wb|wt? nc? "
    "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate? "
    "L2::evict_normal|L2::evict_first|L2::evict_last? L2::cache_hint? L2::64B|L2::128B|L2::256B? ";

template <class T, space SPACE>
void add_access_rows(form_table &table, const std::string &where, const std::string &type)
{
    table.add("ld weak? " + where + hints + "v2|v4|v8? " + type, "D,m,s?", load<T, SPACE>);
    table.add("st weak? " + where + hints + "v2|v4|v8? " + type, "m,S,s?", store<T, SPACE>);
    table.add("ld <volatile|relaxed|mmio|acquire>" + scope + where + " L1::no_allocate? v2|v4? " + type,
              "D,m", load_ordered<T, SPACE>);
    table.add("st <volatile|relaxed|mmio|release>" + scope + where + " v2|v4? " + type, "m,S",
              store_ordered<T, SPACE>);
}

template <class T> void add_rows(form_table &table, const std::string &type)
{
    add_access_rows<T, HOST>(table, "global|local|const?", type);
    add_access_rows<T, SHARED>(table, "shared|shared::cta", type);
    table.add("ld param v2|v4? " + type, "D,m", load<T, PARAMETER>);
}

// ---- addresses ----
void to_shared(thread &t, const instruction &i)
{
    set_value(t, i, 0, value_of<uint64_t>(t, i, 1) - reinterpret_cast<uint64_t>(t.shared));
}
void from_shared(thread &t, const instruction &i)
{
    set_value(t, i, 0,
              static_cast<uint64_t>(value_of<uint32_t>(t, i, 1)) + reinterpret_cast<uint64_t>(t.shared));
}
void from_parameter(thread &t, const instruction &i)
{
    set_value(t, i, 0, value_of<uint64_t>(t, i, 1) + reinterpret_cast<uint64_t>(t.parameters));
}
void same_address(thread &t, const instruction &i)
{
    set_value(t, i, 0, value_of<uint64_t>(t, i, 1));
}

void nothing(thread &, const instruction &) {}

} // namespace

void add_memory_forms(form_table &table)
{
    auto add = [&](auto tag, const std::string &type) {
        add_rows<typename decltype(tag)::type>(table, type);
    };
    each_small_integer(add);
    each_integer(add);
    each_float(add);
    each_bits(add);
    add(type_tag<uint8_t>(), "b8");
    table.add("cvta to shared|shared::cta u64", "d,s", to_shared);
    table.add("cvta shared|shared::cta u64", "d,s", from_shared);
    table.add("cvta param u64", "d,s", from_parameter);
    table.add("cvta to? global|local|const u64", "d,s", same_address);
    table.add("prefetch global|local? L1|L2|L2::evict_last|L2::evict_normal", "m", nothing);
}

} // namespace ptx
