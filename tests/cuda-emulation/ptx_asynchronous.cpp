// Asynchronous copies, barriers in memory, multicast memory (PTX ISA, 9.7.9.25, 9.7.13.15, 9.7.9.13). What
// these do is the emulation's (emulated_copies.h: a copy lands as late as it may); here it is reached from
// PTX's operands.
#include "emulated_instructions.h"
#include "ptx_types.h"

namespace ptx
{

namespace
{

using namespace cuda_emulation;

// cp.async of 4, 8 or 16 bytes, of which the fourth operand says how many are read.
void start_copy(thread &t, const instruction &i)
{
    uint32_t bytes = value_of<uint32_t>(t, i, 2);
    uint32_t valid = i.operand_count > 3 ? value_of<uint32_t>(t, i, 3) : bytes;
    if ((bytes != 4 && bytes != 8 && bytes != 16) || valid > bytes)
        die_at(t, i, "cp.async copies 4, 8 or 16 bytes, and reads no more");
    void *to = shared_address(t, i, 0, bytes, bytes);
    const void *from = global_address(t, i, 1, bytes);
    if (cur->copies == ASYNCHRONOUS_COPIES_MAX)
        die_at(t, i, "more cp.async in flight in one thread than the emulation keeps");
    early_copy_check(from, valid);
    cur->copy[cur->copies++] = {to, from, bytes, valid, cur->copy_group};
    memset(to, 0xff, bytes);
}

void commit_copies(thread &, const instruction &)
{
    cp_async_commit();
}

void wait_for_groups(thread &t, const instruction &i)
{
    cp_async_wait_group(value_of<uint32_t>(t, i, 0));
}

// All copies of the thread, committed or not.
void wait_for_all_copies(thread &, const instruction &)
{
    cp_async_commit();
    cp_async_wait_group(0);
}

void start_bulk_copy(thread &t, const instruction &i)
{
    uint32_t bytes = value_of<uint32_t>(t, i, 2);
    void *to = shared_address(t, i, 0, bytes, 16);
    uint64_t *barrier = reinterpret_cast<uint64_t *>(shared_address(t, i, 3, 8, 8));
    cp_bulk(to, global_address(t, i, 1, 16), bytes, barrier);
}

// Choice 0: the space; absent is a generic address, the host's.
uint64_t *barrier_at(const thread &t, const instruction &i, int which)
{
    unsigned char *at =
        i.choice[0] == NO_CHOICE ? global_address(t, i, which, 8) : shared_address(t, i, which, 8, 8);
    return reinterpret_cast<uint64_t *>(at);
}

// One that somebody has initialised: what shared memory holds before is known.
uint64_t *live_barrier_at(const thread &t, const instruction &i, int which)
{
    uint64_t *barrier = barrier_at(t, i, which);
    if (*barrier == ~0ull)
        die_at(t, i, "an mbarrier is used that nobody has initialised");
    return barrier;
}

void barrier_init(thread &t, const instruction &i)
{
    mbar_init(barrier_at(t, i, 0), value_of<uint32_t>(t, i, 1));
}

void barrier_invalidate(thread &t, const instruction &i)
{
    *live_barrier_at(t, i, 0) = ~0ull; // as before it was initialised
}

// The state that an arrival returns is the phase that it belongs to.
void arrive(thread &t, const instruction &i, uint32_t arrivals, uint32_t bytes)
{
    uint64_t *barrier = live_barrier_at(t, i, 1), phase = memory_barrier(barrier)->phase;
    hb_release(barrier);
    memory_barrier_step(barrier, arrivals, bytes);
    set_value(t, i, 0, phase);
}
void barrier_arrive(thread &t, const instruction &i)
{
    arrive(t, i, i.operand_count > 2 ? value_of<uint32_t>(t, i, 2) : 1, 0);
}
void barrier_arrive_and_expect(thread &t, const instruction &i)
{
    arrive(t, i, 1, value_of<uint32_t>(t, i, 2));
}
void barrier_expect(thread &t, const instruction &i)
{
    memory_barrier_step(live_barrier_at(t, i, 0), 0, value_of<uint32_t>(t, i, 1));
}

// Whether the phase is over: the one with this parity, or the one of a state, whose parity is its only bit.
// Where it is not, other threads run and one copy lands; the program asks again.
void barrier_test(thread &t, const instruction &i)
{
    uint64_t *barrier = live_barrier_at(t, i, 1);
    uint32_t parity = value_of<uint32_t>(t, i, 2);
    BulkCopy copy;
    if (!memory_barrier_passed(barrier, parity)) {
        spin();
        if (!memory_barrier_passed(barrier, parity) && bulk_copy_take(barrier, &copy))
            bulk_copy_land(copy);
    }
    bool passed = memory_barrier_passed(barrier, parity);
    if (passed)
        hb_acquire(barrier);
    set_value(t, i, 0, passed);
}

void multicast_load(thread &t, const instruction &i)
{
    uint4 v = mm_ld_reduce_bf16x8(global_address(t, i, 1, 16));
    uint32_t values[4] = {v.x, v.y, v.z, v.w};
    for (uint32_t j = 0; j < 4; j++)
        set_element(t, i, 0, j, values[j]);
}

void multicast_store(thread &t, const instruction &i)
{
    mm_st_v4(global_address(t, i, 0, 16),
             make_uint4(element_of<uint32_t>(t, i, 1, 0), element_of<uint32_t>(t, i, 1, 1),
                        element_of<uint32_t>(t, i, 1, 2), element_of<uint32_t>(t, i, 1, 3)));
}

void multicast_add(thread &t, const instruction &i)
{
    void *peers[64];
    int count = cuda_emulation_multicast_peers(global_address(t, i, 0, 4), peers);
    for (int p = 0; p < count; p++)
        atom_add_acq_rel_gpu(static_cast<uint32_t *>(peers[p]), value_of<uint32_t>(t, i, 1));
}

void nothing(thread &, const instruction &) {}

void add_barrier_rows(form_table &table)
{
    const std::string order = " release|relaxed|acquire? cta|cluster? ", where = " <shared|shared::cta>? b64";
    table.add("mbarrier init" + where, "m,s", barrier_init);
    table.add("mbarrier inval" + where, "m", barrier_invalidate);
    table.add("mbarrier arrive" + order + where.substr(1), "d,m,s?", barrier_arrive);
    table.add("mbarrier arrive expect_tx" + order + where.substr(1), "d,m,s", barrier_arrive_and_expect);
    table.add("mbarrier expect_tx" + order + where.substr(1), "m,s", barrier_expect);
    table.add("mbarrier test_wait|try_wait parity?" + order + where.substr(1), "d,m,s,s?", barrier_test);
}

} // namespace

void add_asynchronous_forms(form_table &table)
{
    table.add("cp async ca|cg shared|shared::cta|shared::cluster global L2::64B|L2::128B|L2::256B?",
              "m,m,s,s?", start_copy);
    table.add("cp async commit_group", "", commit_copies);
    table.add("cp async wait_group", "s", wait_for_groups);
    table.add("cp async wait_all", "", wait_for_all_copies);
    table.add("cp async bulk shared::cta|shared::cluster global mbarrier::complete_tx::bytes", "m,m,s,m",
              start_bulk_copy);
    table.add("cp async bulk prefetch L2 global", "m,s", nothing);
    add_barrier_rows(table);
    table.add("multimem ld_reduce weak|relaxed|acquire? cta|cluster|gpu|sys? global? add acc::f32 v4 bf16x2",
              "D,m", multicast_load);
    table.add("multimem st weak|relaxed|release? cta|cluster|gpu|sys? global? v4 f32", "m,S",
              multicast_store);
    table.add("multimem red relaxed|release? cta|cluster|gpu|sys? global? add u32", "m,s", multicast_add);
}

} // namespace ptx
