// What the lanes of a warp do together (PTX ISA, 9.7.9.6 shfl, 9.7.13.9 vote, match, redux, elect). The last
// lane to come calculates for all, as the hardware would; see cuda_emulation::warp_collective().
#include "ptx_types.h"

namespace ptx
{

namespace
{

using cuda_emulation::Thread;

constexpr int LANES = 32;

// What a lane brings and takes away.
struct lane_data {
    uint64_t value;
    uint32_t b, clamp; // of a shuffle
    int how;
    uint64_t result;
    bool flag;
};

CUDA_EMULATION_NO_TSAN lane_data *data_of(Thread *const *lanes, int lane)
{
    return lanes[lane] ? static_cast<lane_data *>(lanes[lane]->payload) : nullptr;
}

// Waits for the lanes of `mask`. `name` tells collectives apart: one string for each combine.
void meet(const thread &t, const instruction &i, uint32_t mask, lane_data *mine, const char *name,
          void (*combine)(Thread **, unsigned))
{
    cuda_emulation::warp_collective(mask, name, mine, combine, t.program->path.c_str(), i.line);
}

// ---- shfl ----
enum shuffle { UP, DOWN, BUTTERFLY, INDEX };

// The lane to read from, and whether it is inside the segment (PTX ISA, the pseudocode of shfl.sync).
CUDA_EMULATION_NO_TSAN int shuffle_source(int lane, const lane_data *d, bool *inside)
{
    int b = static_cast<int>(d->b & 31), clamp = static_cast<int>(d->clamp & 31);
    int segment = static_cast<int>(d->clamp >> 8 & 31);
    int last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    int source;
    switch (d->how) {
    case UP:
        source = lane - b;
        *inside = source >= last;
        break;
    case DOWN:
        source = lane + b;
        *inside = source <= last;
        break;
    case BUTTERFLY:
        source = lane ^ b;
        *inside = source <= last;
        break;
    default:
        source = first | (b & ~segment);
        *inside = source <= last;
        break;
    }
    return *inside ? source : lane;
}

// What comes from a lane that takes no part is undefined: all bits set.
CUDA_EMULATION_NO_TSAN void shuffle_combine(Thread **lanes, unsigned)
{
    for (int lane = 0; lane < LANES; lane++) {
        lane_data *mine = data_of(lanes, lane);
        if (!mine)
            continue;
        const lane_data *source = data_of(lanes, shuffle_source(lane, mine, &mine->flag));
        mine->result = source ? source->value : 0xffffffffu;
    }
}

void shuffle_lanes(thread &t, const instruction &i)
{
    static const char name[] = "shfl.sync";
    lane_data mine = {value_of<uint32_t>(t, i, 1),
                      value_of<uint32_t>(t, i, 2),
                      value_of<uint32_t>(t, i, 3),
                      i.choice[0],
                      0,
                      false};
    meet(t, i, value_of<uint32_t>(t, i, 4), &mine, name, shuffle_combine);
    set_element(t, i, 0, 0, mine.result);
    if (i.operands[0].count == 2)
        set_element(t, i, 0, 1, mine.flag);
}

// ---- vote and match ----
enum vote { ALL, ANY, UNIFORM, BALLOT };

CUDA_EMULATION_NO_TSAN void vote_combine(Thread **lanes, unsigned)
{
    uint32_t there = 0, ballot = 0;
    for (int lane = 0; lane < LANES; lane++)
        if (lane_data *d = data_of(lanes, lane)) {
            there |= 1u << lane;
            ballot |= static_cast<uint32_t>(d->value) << lane;
        }
    for (int lane = 0; lane < LANES; lane++)
        if (lane_data *d = data_of(lanes, lane))
            d->result = d->how == BALLOT ? ballot
                        : d->how == ALL  ? ballot == there
                        : d->how == ANY  ? ballot != 0
                                         : ballot == 0 || ballot == there;
}

template <int HOW> void vote_lanes(thread &t, const instruction &i)
{
    static const char name[] = "vote.sync";
    bool value = value_of<bool>(t, i, 1) != i.operands[1].negated;
    lane_data mine = {value, 0, 0, HOW, 0, false};
    meet(t, i, value_of<uint32_t>(t, i, 2), &mine, name, vote_combine);
    set_value(t, i, 0, mine.result);
}

CUDA_EMULATION_NO_TSAN void match_combine(Thread **lanes, unsigned)
{
    uint32_t there = 0, equal[LANES] = {};
    for (int lane = 0; lane < LANES; lane++) {
        there |= (lanes[lane] ? 1u : 0u) << lane;
        for (int other = 0; lanes[lane] && other < LANES; other++)
            if (lanes[other] && data_of(lanes, other)->value == data_of(lanes, lane)->value)
                equal[lane] |= 1u << other;
    }
    for (int lane = 0; lane < LANES; lane++)
        if (lane_data *d = data_of(lanes, lane)) {
            d->flag = equal[lane] == there;
            d->result = d->how == ALL && !d->flag ? 0 : equal[lane];
        }
}

template <class T, int HOW> void match_lanes(thread &t, const instruction &i)
{
    static const char name[] = "match.sync";
    lane_data mine = {to_bits(value_of<T>(t, i, 1)), 0, 0, HOW, 0, false};
    meet(t, i, value_of<uint32_t>(t, i, 2), &mine, name, match_combine);
    set_element(t, i, 0, 0, mine.result);
    if (i.operands[0].count == 2)
        set_element(t, i, 0, 1, mine.flag);
}

// ---- redux ----
enum reduction { ADD, MINIMUM, MAXIMUM, AND, OR, XOR };

template <class T> CUDA_EMULATION_NO_TSAN T reduced(int how, T a, T b)
{
    switch (how) {
    case ADD:
        return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
    case MINIMUM:
        return a < b ? a : b;
    case MAXIMUM:
        return a > b ? a : b;
    case AND:
        return a & b;
    case OR:
        return a | b;
    default:
        return a ^ b;
    }
}

template <class T> CUDA_EMULATION_NO_TSAN void reduce_combine(Thread **lanes, unsigned)
{
    bool begun = false;
    T total = 0;
    for (int lane = 0; lane < LANES; lane++)
        if (lane_data *d = data_of(lanes, lane)) {
            total = begun ? reduced(d->how, total, static_cast<T>(d->value)) : static_cast<T>(d->value);
            begun = true;
        }
    for (int lane = 0; lane < LANES; lane++)
        if (lane_data *d = data_of(lanes, lane))
            d->result = static_cast<uint32_t>(total);
}

template <class T, int FIRST> void reduce_lanes(thread &t, const instruction &i)
{
    static const char name[] = "redux.sync";
    lane_data mine = {value_of<uint32_t>(t, i, 1), 0, 0, FIRST + i.choice[0], 0, false};
    meet(t, i, value_of<uint32_t>(t, i, 2), &mine, name, reduce_combine<T>);
    set_value(t, i, 0, mine.result);
}

// ---- barrier, elect ----
void wait_for_lanes(const thread &t, const instruction &i, uint32_t mask)
{
    static const char name[] = "bar.warp.sync";
    cuda_emulation::warp_collective(mask, name, nullptr, nullptr, t.program->path.c_str(), i.line);
}

void warp_barrier(thread &t, const instruction &i)
{
    wait_for_lanes(t, i, value_of<uint32_t>(t, i, 0));
}

// The lowest lane of the mask; which one is not specified.
void elect(thread &t, const instruction &i)
{
    uint32_t mask = value_of<uint32_t>(t, i, 1), elected = static_cast<uint32_t>(__builtin_ctz(mask));
    wait_for_lanes(t, i, mask);
    set_element(t, i, 0, 0, elected);
    if (i.operands[0].count == 2)
        set_element(t, i, 0, 1, elected == cuda_emulation::cur->lane);
}

} // namespace

void add_warp_forms(form_table &table)
{
    table.add("shfl sync <up|down|bfly|idx> b32", "e,s,s,s,s", shuffle_lanes);
    table.add("vote sync all pred", "d,n,s", vote_lanes<ALL>);
    table.add("vote sync any pred", "d,n,s", vote_lanes<ANY>);
    table.add("vote sync uni pred", "d,n,s", vote_lanes<UNIFORM>);
    table.add("vote sync ballot b32", "d,n,s", vote_lanes<BALLOT>);
    table.add("match any sync b32", "d,s,s", match_lanes<uint32_t, ANY>);
    table.add("match any sync b64", "d,s,s", match_lanes<uint64_t, ANY>);
    table.add("match all sync b32", "e,s,s", match_lanes<uint32_t, ALL>);
    table.add("match all sync b64", "e,s,s", match_lanes<uint64_t, ALL>);
    table.add("redux sync <add|min|max> u32", "d,s,s", reduce_lanes<uint32_t, ADD>);
    table.add("redux sync <add|min|max> s32", "d,s,s", reduce_lanes<int32_t, ADD>);
    table.add("redux sync <and|or|xor> b32", "d,s,s", reduce_lanes<uint32_t, AND>);
    table.add("bar warp sync", "s", warp_barrier);
    table.add("elect sync", "e,s", elect);
}

} // namespace ptx
