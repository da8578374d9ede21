// NCCL's symmetric memory and device communicators: every rank sees the memory of all ranks, rank r's at the
// window's base + r * 4 GiB, as in an NVLink domain. Here the memory is shared by the processes of one host.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device_memory.h"
#include "multicast.h"
#include "nccl_emulation.h"
#include "scheduler.h"

#include <nccl_device.h>

namespace cuda_emulation
{
enum : size_t { PAGE_BYTES = 4096, RANK_STRIDE = (size_t)1 << 32, MULTICAST_BYTES = (size_t)1 << 36 };

// Memory from ncclMemAlloc(): a file without a name, which other ranks open as a file of this process.
struct Segment {
    char *at;
    size_t bytes;
    int file;
};

struct Window {
    ncclWindow_vidmem *device; // what kernels see, in the device's memory: the window's handle
    char *base, *multicast;
    void *memory; // of this rank, at the address that it was registered with
    size_t bytes;
    int ranks;
};

// What a rank says about its part of a new window.
struct Part {
    int process, file;
    size_t offset, bytes;
};

static std::vector<Segment> segments;
static std::vector<Window *> windows;
static char *multicast_arena; // addresses only: nothing is ever mapped there
static size_t multicast_used;

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

static char *reserve(size_t bytes)
{
    void *at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        die("no addresses: %zu bytes", bytes);
    return (char *)at;
}

static int multicast_lookup(const void *multicast, void **peers)
{
    for (Window *window : windows) {
        ptrdiff_t offset = (const char *)multicast - window->multicast;
        if (offset < 0 || (size_t)offset >= window->bytes)
            continue;
        for (int rank = 0; rank < window->ranks; rank++)
            peers[rank] = window->base + (size_t)rank * RANK_STRIDE + offset;
        return window->ranks;
    }
    return 0;
}

static Part part_of(const void *at, size_t bytes)
{
    for (const Segment &segment : segments)
        if ((const char *)at >= segment.at && (const char *)at + bytes <= segment.at + segment.bytes)
            return {(int)getpid(), segment.file, (size_t)((const char *)at - segment.at), bytes};
    return {0, -1, 0, 0};
}

static bool map_part(const Part &part, char *at, size_t bytes)
{
    if (part.file < 0 || part.bytes != bytes || part.offset % NCCL_WIN_REQUIRED_ALIGNMENT)
        return false;
    std::string path = "/proc/" + std::to_string(part.process) + "/fd/" + std::to_string(part.file);
    int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (file < 0)
        return false;
    void *mapped = mmap(at, round_up(bytes, PAGE_BYTES), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
                        (off_t)part.offset);
    close(file);
    return mapped != MAP_FAILED;
}

// As memory of the device that is not the program's: its limits and failures are those of what the program asks for.
static ncclWindow_vidmem *vidmem_create()
{
    void *at = mmap(nullptr, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        die("no memory for a window");
    device_memory_add(at, PAGE_BYTES);
    return (ncclWindow_vidmem *)at;
}

static void window_free(Window *window)
{
    munmap(window->base, RANK_STRIDE * (size_t)window->ranks);
    device_memory_remove(window->device);
    munmap(window->device, PAGE_BYTES);
    delete window;
}

static Window *window_reserve(ncclComm_t communicator, size_t bytes)
{
    if (!multicast_arena) {
        multicast_arena = reserve(MULTICAST_BYTES);
        multicast_set_lookup(multicast_lookup);
    }
    Window *window = new Window{};
    window->device = vidmem_create();
    window->ranks = communicator->ranks;
    window->bytes = bytes;
    window->base = reserve(RANK_STRIDE * (size_t)window->ranks);
    window->multicast = multicast_arena + multicast_used;
    window->device->winHost = window;
    window->device->lsaFlatBase = window->base;
    window->device->lsaRank = window->device->worldRank = communicator->rank;
    window->device->stride4G = 1;
    window->device->mcOffset4K = (uint32_t)(multicast_used / PAGE_BYTES);
    multicast_used +=
        round_up(bytes, PAGE_BYTES) + PAGE_BYTES; // a gap, so that an access behind the end is seen
    if (multicast_used > MULTICAST_BYTES)
        die("more than %zu bytes of windows in the life of the process", (size_t)MULTICAST_BYTES);
    return window;
}

// COLLECTIVE over the communicator. Null where a rank's memory is not from ncclMemAlloc(), or ranks differ in size.
static Window *window_create(ncclComm_t communicator, void *at, size_t bytes)
{
    Part mine = part_of(at, bytes);
    std::vector<Part> parts((size_t)communicator->ranks);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, parts.data(), sizeof mine, MPI_BYTE, communicator->mpi);
    Window *window = window_reserve(communicator, bytes);
    int good = 1;
    for (int rank = 0; rank < communicator->ranks; rank++)
        good &= map_part(parts[(size_t)rank], window->base + (size_t)rank * RANK_STRIDE, bytes);
    MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, communicator->mpi);
    if (!good) {
        window_free(window);
        return nullptr;
    }
    for (int rank = 0; rank < communicator->ranks; rank++)
        device_memory_add(window->base + (size_t)rank * RANK_STRIDE, bytes);
    window->memory = at;
    windows.push_back(window);
    return window;
}

static void window_destroy(Window *window)
{
    for (int rank = 0; rank < window->ranks; rank++)
        device_memory_remove(window->base + (size_t)rank * RANK_STRIDE);
    for (size_t i = 0; i < windows.size(); i++)
        if (windows[i] == window)
            windows.erase(windows.begin() + (ptrdiff_t)i);
    window_free(window);
}

// The barriers come first in a device communicator's own window, then the buffers that were asked for.
static size_t resource_bytes(const ncclDevCommRequirements_t *wanted, int barriers, int ranks)
{
    size_t bytes = round_up((size_t)(3 * barriers + barriers * ranks) * sizeof(uint32_t), 128);
    for (auto *resource = wanted->resourceRequirementsList; resource; resource = resource->next) {
        bytes = round_up(bytes, resource->bufferAlign > 128 ? resource->bufferAlign : 128);
        if (resource->outBufferHandle)
            *resource->outBufferHandle = (uint32_t)(bytes / 128);
        bytes += resource->bufferSize;
    }
    return bytes;
}
// What NCCL (2.28) gives for a window where it makes no memory symmetric: the handle of a local registration, which is
// the host's memory and nothing for kernels, or none where there are no local registrations either.
static ncclWindow_t register_locally()
{
    const char *local = getenv("NCCL_LOCAL_REGISTER");
    if (local && strcmp(local, "0") == 0)
        return nullptr;
    void *handle = malloc(sizeof(ncclWindow_vidmem));
    return handle ? (ncclWindow_t)memset(handle, 0xff, sizeof(ncclWindow_vidmem)) : nullptr;
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
ncclResult_t ncclMemAlloc(void **at, size_t bytes)
{
    bytes = round_up(bytes, PAGE_BYTES);
    int file = memfd_create("cuda-emulation", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)bytes))
        return ncclSystemError;
    *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (*at == MAP_FAILED)
        return ncclSystemError;
    memset(*at, 0xff, bytes);
    segments.push_back({(char *)*at, bytes, file});
    device_memory_add(*at, bytes);
    return ncclSuccess;
}

ncclResult_t ncclMemFree(void *at)
{
    for (size_t i = 0; i < segments.size(); i++) {
        if (segments[i].at != at)
            continue;
        device_memory_remove(at);
        munmap(at, segments[i].bytes);
        close(segments[i].file);
        segments.erase(segments.begin() + (ptrdiff_t)i);
        return ncclSuccess;
    }
    return ncclInvalidArgument;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t communicator, void *at, size_t bytes, ncclWindow_t *handle,
                                    int)
{
    nccl_expect_idle(communicator, "ncclCommWindowRegister");
    *handle = nullptr;
    return nccl_finish(communicator, [=]() {
        if (!nccl_is_symmetric()) {
            *handle = register_locally();
            return ncclSuccess;
        }
        Window *window = window_create(communicator, at, bytes);
        *handle = window ? window->device : nullptr;
        return window ? ncclSuccess : ncclInvalidArgument;
    });
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t communicator, ncclWindow_t handle)
{
    nccl_expect_idle(communicator, "ncclCommWindowDeregister");
    if (memory_of(handle, sizeof *handle) == Memory::DEVICE)
        window_destroy((Window *)handle->winHost);
    else
        free(handle);
    return ncclSuccess;
}

ncclResult_t ncclDevCommCreate(ncclComm_t communicator, const ncclDevCommRequirements_t *wanted,
                               ncclDevComm_t *device)
{
    nccl_expect_idle(communicator, "ncclDevCommCreate");
    int barriers =
        wanted->lsaBarrierCount > wanted->barrierCount ? wanted->lsaBarrierCount : wanted->barrierCount;
    size_t bytes = round_up(resource_bytes(wanted, barriers, communicator->ranks), PAGE_BYTES);
    void *memory;
    ncclResult_t result = ncclMemAlloc(&memory, bytes);
    if (result)
        return result;
    memset(memory, 0, bytes);
    Window *window = window_create(communicator, memory, bytes);
    if (!window)
        return ncclInternalError;
    memset(device, 0, sizeof *device);
    device->rank = device->lsaRank = communicator->rank;
    device->nRanks = device->lsaSize = communicator->ranks;
    device->nRanks_rcp32 = device->lsaSize_rcp32 = nccl::utility::idivRcp32((uint32_t)communicator->ranks);
    device->resourceWindow = window->device;
    device->resourceWindow_inlined = *window->device;
    device->lsaBarrier.bufHandle = 0;
    device->lsaBarrier.nBarriers = barriers;
    if (wanted->lsaMultimem)
        device->lsaMultimem.mcBasePtr = multicast_arena;
    return ncclSuccess;
}

ncclResult_t ncclDevCommDestroy(ncclComm_t, const ncclDevComm_t *device)
{
    Window *window = (Window *)device->resourceWindow->winHost;
    void *memory = window->memory;
    window_destroy(window);
    return ncclMemFree(memory);
}
}
