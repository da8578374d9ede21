// Runs one thread of a kernel: fills its constants and special registers, then follows its code.
#include "ptx_thread.h"

#include <cstdio>
#include <memory>

namespace ptx
{

namespace
{

// What the driver gives a cooperative launch: cooperative groups keep the barrier of the grid there.
uint64_t grid_workspace[2];

uint64_t linear_thread()
{
    return threadIdx.x + blockDim.x * (threadIdx.y + static_cast<uint64_t>(blockDim.y) * threadIdx.z);
}

uint64_t special_value(const thread &t, special what, size_t dynamic_bytes)
{
    uint64_t lane = cuda_emulation::cur->lane, below = (1u << lane) - 1, self = 1u << lane;
    uint64_t threads = static_cast<uint64_t>(blockDim.x) * blockDim.y * blockDim.z;
    switch (what) {
    case special::tid_x:
        return threadIdx.x;
    case special::tid_y:
        return threadIdx.y;
    case special::tid_z:
        return threadIdx.z;
    case special::ntid_x:
        return blockDim.x;
    case special::ntid_y:
        return blockDim.y;
    case special::ntid_z:
        return blockDim.z;
    case special::ctaid_x:
        return blockIdx.x;
    case special::ctaid_y:
        return blockIdx.y;
    case special::ctaid_z:
        return blockIdx.z;
    case special::nctaid_x:
        return gridDim.x;
    case special::nctaid_y:
        return gridDim.y;
    case special::nctaid_z:
        return gridDim.z;
    case special::laneid:
        return lane;
    case special::warpid:
        return linear_thread() / 32;
    case special::nwarpid:
        return (threads + 31) / 32;
    case special::lanemask_eq:
        return self;
    case special::lanemask_lt:
        return below;
    case special::lanemask_le:
        return below | self;
    case special::lanemask_gt:
        return static_cast<uint32_t>(~(below | self));
    case special::lanemask_ge:
        return static_cast<uint32_t>(~below);
    case special::smid:
        return 0;
    case special::nsmid:
        return 1;
    case special::warp_size:
        return 32;
    case special::grid_workspace_high:
        return reinterpret_cast<uint64_t>(grid_workspace) >> 32;
    case special::grid_workspace_low:
        return static_cast<uint32_t>(reinterpret_cast<uint64_t>(grid_workspace));
    case special::dynamic_shared_bytes:
        return dynamic_bytes;
    case special::dynamic_shared:
        return t.program->dynamic_shared_begin;
    case special::local:
        return reinterpret_cast<uint64_t>(t.local);
    }
    return UNWRITTEN;
}

void start_registers(thread &t, size_t dynamic_bytes)
{
    const kernel &program = *t.program;
    memcpy(t.registers, program.initial_registers.data(),
           program.initial_registers.size() * sizeof(uint64_t));
    for (const special_slot &s : program.specials)
        t.registers[s.slot] = special_value(t, s.what, dynamic_bytes) + static_cast<uint64_t>(s.offset);
}

// Runs t.program with registers and local memory of its own.
void follow(thread &t)
{
    const kernel &program = *t.program;
    std::unique_ptr<uint64_t[]> registers(new uint64_t[program.initial_registers.size()]);
    std::unique_ptr<unsigned char[]> local(new unsigned char[program.local_bytes]);
    memset(local.get(), 0xff, program.local_bytes);
    t.registers = registers.get();
    t.local = local.get();
    t.next = 0;
    size_t dynamic_bytes = 0;
    cuda_emulation::dyn_shared(&dynamic_bytes);
    start_registers(t, dynamic_bytes);
    const instruction *code = program.code.data();
    for (size_t length = program.code.size(); t.next < length;) {
        const instruction &i = code[t.next++];
        if (i.guard >= 0 && (t.registers[i.guard] & 1) == i.guard_negated)
            continue;
        i.execute(t, i);
    }
}

} // namespace

void call_function(thread &t, const instruction &i)
{
    thread callee = t;
    callee.program = t.program->callees[i.target];
    if (t.program->dynamic_shared_begin != callee.program->dynamic_shared_begin)
        die_at(t, i, "a call from a kernel with static shared memory");
    follow(callee);
    t.has_left = callee.has_left;
    if (t.has_left)
        t.next = t.program->code.size();
}

void run_kernel(const kernel &program, unsigned char *parameters)
{
    size_t dynamic_bytes = 0;
    cuda_emulation::dyn_shared(&dynamic_bytes);
    size_t shared_bytes =
        dynamic_bytes ? program.dynamic_shared_begin + dynamic_bytes : program.static_shared_bytes;
    void *shared =
        shared_bytes ? cuda_emulation::shared(&program, shared_bytes, DYNAMIC_SHARED_ALIGNMENT) : nullptr;

    thread t = {&program, nullptr, parameters, static_cast<unsigned char *>(shared), shared_bytes, nullptr, 0, false};
    follow(t);
}

void die_at(const thread &t, const instruction &i, const char *reason)
{
    cuda_emulation::die("%s:%d: %s: %s", t.program->path.c_str(), i.line, t.program->name.c_str(), reason);
}

unsigned char *shared_address(const thread &t, const instruction &i, int which, size_t bytes,
                              size_t alignment)
{
    uint64_t at = static_cast<uint32_t>(address_of(t, i, which));
    char reason[160];
    if (at + bytes > t.shared_end ||
        (at + bytes > t.program->static_shared_bytes && at < t.program->dynamic_shared_begin)) {
        snprintf(reason, sizeof reason,
                 "%zu bytes at shared address %llu: static memory ends at %zu, dynamic is %zu to %zu", bytes,
                 static_cast<unsigned long long>(at), t.program->static_shared_bytes,
                 t.program->dynamic_shared_begin, t.shared_end);
        die_at(t, i, reason);
    }
    if (at % alignment) {
        snprintf(reason, sizeof reason, "shared address %llu is not a multiple of %zu",
                 static_cast<unsigned long long>(at), alignment);
        die_at(t, i, reason);
    }
    return t.shared + at;
}

unsigned char *global_address(const thread &t, const instruction &i, int which, size_t alignment)
{
    uint64_t at = address_of(t, i, which);
    if (at % alignment) {
        char reason[120];
        snprintf(reason, sizeof reason, "address %#llx is not a multiple of %zu",
                 static_cast<unsigned long long>(at), alignment);
        die_at(t, i, reason);
    }
    return reinterpret_cast<unsigned char *>(at);
}

} // namespace ptx
