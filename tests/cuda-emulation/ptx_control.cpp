// Branches, barriers of a block, fences (PTX ISA, 9.7.12 and 9.7.13), and what has no effect in an emulation.
//
// bar.arrive and bar.red are not here: the emulation's barriers have no such form.
#include <algorithm>

#include "ptx_types.h"

namespace ptx
{

namespace
{

void branch(thread &t, const instruction &i)
{
    t.next = i.target;
}

void branch_by_table(thread &t, const instruction &i)
{
    const std::vector<uint32_t> &table = t.program->tables[i.target];
    uint32_t index = value_of<uint32_t>(t, i, 0);
    if (index >= table.size())
        die_at(t, i, "an indexed branch behind the end of its table");
    t.next = table[index];
}

void leave(thread &t, const instruction &)
{
    t.next = t.program->code.size();
}

void leave_kernel(thread &t, const instruction &i)
{
    t.has_left = true;
    leave(t, i);
}

void trap(thread &t, const instruction &i)
{
    die_at(t, i, "trap");
}

void block_barrier(thread &t, const instruction &i)
{
    uint32_t threads = i.operand_count > 1 ? value_of<uint32_t>(t, i, 1) : 0;
    cuda_emulation::block_barrier("bar.sync", value_of<int>(t, i, 0), threads, t.program->path.c_str(),
                                  i.line);
}

void memory_fence(thread &, const instruction &)
{
    cuda_emulation::fence();
}

void sleep(thread &, const instruction &)
{
    cuda_emulation::spin();
}

void wait_for_predecessors(thread &t, const instruction &i)
{
    cuda_emulation::wait_for_predecessors(t.program->path.c_str(), i.line);
}

void nothing(thread &, const instruction &) {}

} // namespace

void add_control_forms(form_table &table)
{
    table.add("bra uni?", "l", branch);
    table.add("brx idx uni?", "s,t", branch_by_table);
    table.add("ret uni?", "", leave);
    table.add("exit", "", leave_kernel);
    table.add("trap", "", trap);
    table.add("brkpt", "", trap);
    table.add("bar cta? sync", "s,s?", block_barrier);
    table.add("barrier cta? sync aligned?", "s,s?", block_barrier);
    table.add("membar cta|gl|sys", "", memory_fence);
    table.add("fence sc|acq_rel|acquire|release? cta|cluster|gpu|sys", "", memory_fence);
    table.add("nanosleep u32", "s", sleep);
    // All proxies see the same memory here, and an initialised mbarrier is seen at once.
    table.add("fence proxy alias|async global|shared::cta|shared::cluster?", "", nothing);
    table.add("fence mbarrier_init release cluster", "", nothing);
    table.add("griddepcontrol wait", "", wait_for_predecessors);
    // Kernels run one after the other, and registers are as many as a kernel names.
    table.add("griddepcontrol launch_dependents", "", nothing);
    table.add("setmaxnreg inc|dec sync aligned u32", "s", nothing);
}

} // namespace ptx
