// Memory of the device (plain memory of the process, filled with 0xff bytes: NaN) and pinned memory, and
// copies between all kinds.
#include "device_memory.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sanitizers.h"
#include "settings.h"
#include "streams.h"

namespace cuda_emulation
{
enum { ALIGNMENT = 256, LARGE_PAGE = 2 << 20 };

struct Allocation {
    size_t bytes;
    Memory memory;
    bool owned;
};

static std::map<const char *, Allocation> allocations;
static size_t device_bytes;
static int64_t device_allocations;

static size_t round_up(size_t bytes)
{
    return bytes ? (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : (size_t)ALIGNMENT;
}

size_t round_up_to_pages(size_t bytes)
{
    static const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return bytes ? (bytes + page - 1) / page * page : page;
}

Memory memory_of(const void *at, size_t bytes)
{
    const char *first = (const char *)at;
    auto next = allocations.upper_bound(first);
    if (next != allocations.begin()) {
        auto found = std::prev(next);
        const char *end = found->first + found->second.bytes;
        if (first < end || first == found->first) {
            if (first + bytes > end)
                die("%zu bytes at %p: the allocation ends %zu bytes behind", bytes, at,
                    (size_t)(end - first));
            return found->second.memory;
        }
    }
    if (next != allocations.end() && first + bytes > next->first)
        die("%zu bytes at %p: they begin before an allocation", bytes, at);
    return Memory::PAGEABLE;
}

void device_memory_add(void *at, size_t bytes)
{
    allocations[(const char *)at] = {bytes, Memory::DEVICE, false};
}

void device_memory_remove(void *at)
{
    allocations.erase((const char *)at);
}

std::vector<MemoryRange> device_memory_ranges()
{
    std::vector<MemoryRange> ranges;
    for (const auto &entry : allocations)
        ranges.push_back({(void *)entry.first, entry.second.bytes, entry.second.owned});
    return ranges;
}

// Where so many bytes are free, between two pages that nobody has. All of the process's own memory lies together: so
// one call changes the protection of much of it (chained_launches.h).
static char *find_place(size_t bytes)
{
    static const size_t reserved = 2 * settings.memory_bytes + ((size_t)1 << 30);
    // Not mmap(): ThreadSanitizer would touch the shadow of the whole range.
    static char *const arena = (char *)syscall(SYS_mmap, nullptr, reserved, PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        die("no addresses: %zu bytes", reserved);
    const size_t guard = round_up_to_pages(1), alignment = bytes < LARGE_PAGE ? guard : (size_t)LARGE_PAGE;
    auto aligned = [=](char *at) { return (char *)(((uintptr_t)at + alignment - 1) / alignment * alignment); };
    char *at = aligned(arena + guard);
    for (const auto &entry : allocations) {
        if (!entry.second.owned)
            continue;
        if (at + bytes + guard <= entry.first)
            break;
        at = aligned((char *)entry.first + round_up_to_pages(entry.second.bytes) + guard);
    }
    return at + bytes + guard <= arena + reserved ? at : nullptr;
}

static cudaError_t allocate(void **at, size_t bytes, Memory memory)
{
    if (captures_active() && memory == Memory::DEVICE)
        return failed(cudaErrorStreamCaptureUnsupported);
    if (memory == Memory::DEVICE && device_bytes + round_up(bytes) > settings.memory_bytes)
        return failed(cudaErrorMemoryAllocation);
    if (memory == Memory::DEVICE && ++device_allocations == settings.failing_allocation)
        return failed(cudaErrorMemoryAllocation);
    const size_t taken = round_up_to_pages(bytes), guard = round_up_to_pages(1);
    *at = find_place(taken);
    if (!*at)
        return failed(cudaErrorMemoryAllocation);
    if (taken >= LARGE_PAGE) // few pages are protected faster; where the system has no large ones it is slow, and right
        madvise(*at, taken, MADV_HUGEPAGE);
    sanitizers::allow(*at, taken);
    memset(*at, 0xff, bytes);
    sanitizers::forbid((char *)*at - guard, guard);
    sanitizers::forbid((char *)*at + bytes, taken - bytes + guard);
    allocations[(const char *)*at] = {bytes, memory, true};
    if (memory == Memory::DEVICE)
        device_bytes += round_up(bytes);
    return cudaSuccess;
}

static cudaError_t release(void *at, Memory memory)
{
    if (!at)
        return cudaSuccess;
    cudaError_t error = cudaDeviceSynchronize();
    if (error)
        return error;
    auto found = allocations.find((const char *)at);
    if (found == allocations.end() || found->second.memory != memory || !found->second.owned)
        return failed(cudaErrorInvalidValue);
    if (memory == Memory::DEVICE)
        device_bytes -= round_up(found->second.bytes);
    const size_t taken = round_up_to_pages(found->second.bytes);
    sanitizers::forbid(at, taken);
    madvise(at, taken, MADV_DONTNEED);
    allocations.erase(found);
    return cudaSuccess;
}

static bool kind_fits(cudaMemcpyKind kind, Memory to, Memory from)
{
    bool to_device = to == Memory::DEVICE, from_device = from == Memory::DEVICE;
    switch (kind) {
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    default:
        return true;
    }
}

// A copy from pageable memory has taken its bytes when the call returns, one to pageable memory has given
// them; one from or to pinned memory is under way.
static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle,
                        bool wait)
{
    Memory to_memory = memory_of(to, bytes), from_memory = memory_of(from, bytes);
    if (!kind_fits(kind, to_memory, from_memory))
        return failed(cudaErrorInvalidValue);
    CUstream_st *stream = stream_of(handle);
    if (settings.lazy_streams && !wait && from_memory == Memory::PAGEABLE && !stream->position.capture) {
        std::vector<char> staged((const char *)from, (const char *)from + bytes);
        return submit(handle,
                      [to, staged = std::move(staged)]() { memcpy(to, staged.data(), staged.size()); });
    }
    cudaError_t error = submit(handle, [=]() { memmove(to, from, bytes); });
    if (!error && !stream->position.capture && (wait || to_memory == Memory::PAGEABLE))
        error = wait_for(stream->position.operation);
    return error;
}

static cudaError_t fill(void *at, int value, size_t bytes, cudaStream_t stream)
{
    if (memory_of(at, bytes) == Memory::PAGEABLE)
        return failed(cudaErrorInvalidValue);
    return submit(stream, [=]() { memset(at, value, bytes); });
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
cudaError_t cudaMalloc(void **at, size_t bytes)
{
    return allocate(at, bytes, Memory::DEVICE);
}

cudaError_t cudaFree(void *at)
{
    return release(at, Memory::DEVICE);
}

cudaError_t cudaMallocHost(void **at, size_t bytes)
{
    return allocate(at, bytes, Memory::PINNED);
}

cudaError_t cudaHostAlloc(void **at, size_t bytes, unsigned)
{
    return allocate(at, bytes, Memory::PINNED);
}

cudaError_t cudaFreeHost(void *at)
{
    return release(at, Memory::PINNED);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = settings.memory_bytes;
    *free_bytes = settings.memory_bytes - device_bytes;
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return copy(to, from, bytes, kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return copy(to, from, bytes, kind, stream, false);
}

cudaError_t cudaMemset(void *at, int value, size_t bytes)
{
    return fill(at, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream)
{
    return fill(at, value, bytes, stream);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *at)
{
    Memory memory = memory_of(at, 0);
    *attributes = {};
    attributes->type = memory == Memory::DEVICE   ? cudaMemoryTypeDevice
                       : memory == Memory::PINNED ? cudaMemoryTypeHost
                                                  : cudaMemoryTypeUnregistered;
    attributes->devicePointer = memory == Memory::PAGEABLE ? nullptr : (void *)at;
    attributes->hostPointer = memory == Memory::DEVICE ? nullptr : (void *)at;
    return cudaSuccess;
}
}
