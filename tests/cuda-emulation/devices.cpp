// The devices that the emulation pretends to have, and the checks of a launch against their limits: compute
// capability 9.0 ("CUDA C++ Programming Guide", table of technical specifications per compute capability).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "chained_launches.h"
#include "grid.h"
#include "settings.h"
#include "streams.h"

namespace cuda_emulation
{
enum {
    CAPABILITY_MAJOR = 9,
    CAPABILITY_MINOR = 0,
    THREADS_OF_PROCESSOR = 2048,
    BLOCKS_OF_PROCESSOR = 32,
    SHARED_BYTES_RESERVED = 1 << 10, // by the system in every block
    SHARED_BYTES_UNASKED = 48 << 10, // more must be asked for by cudaFuncSetAttribute()
    REGISTERS_OF_BLOCK = 65536
};

void (*launch_watcher)(const void *function, dim3 blocks, dim3 threads, size_t dynamic_bytes);

static int current_device;
static std::map<const void *, size_t> dynamic_bytes_asked;

// A block may have all of it but what the system reserves.
static size_t shared_bytes_of_processor()
{
    return settings.shared_bytes + SHARED_BYTES_RESERVED;
}

static int resident_blocks(size_t threads, size_t dynamic_bytes)
{
    size_t by_threads = THREADS_OF_PROCESSOR / threads;
    size_t by_shared = shared_bytes_of_processor() / (dynamic_bytes + SHARED_BYTES_RESERVED);
    return (int)std::min({by_threads, by_shared, (size_t)BLOCKS_OF_PROCESSOR});
}

static cudaError_t check_launch(dim3 blocks, dim3 threads, size_t dynamic_bytes, bool cooperative,
                                const void *function)
{
    size_t count = (size_t)threads.x * threads.y * threads.z;
    if (!count || count > BLOCK_THREADS_MAX || threads.z > 64)
        return cudaErrorInvalidConfiguration;
    if (!blocks.x || !blocks.y || !blocks.z || blocks.y > 65535 || blocks.z > 65535)
        return cudaErrorInvalidConfiguration;
    auto asked = dynamic_bytes_asked.find(function);
    if (dynamic_bytes > (asked == dynamic_bytes_asked.end() ? (size_t)SHARED_BYTES_UNASKED : asked->second))
        return cudaErrorInvalidValue;
    size_t resident = (size_t)settings.processors * (size_t)resident_blocks(count, dynamic_bytes);
    if (cooperative && (size_t)blocks.x * blocks.y * blocks.z > resident)
        return cudaErrorCooperativeLaunchTooLarge;
    return cudaSuccess;
}

cudaError_t submit_kernel(const cudaLaunchConfig_t *configuration, const void *function,
                          std::function<void()> body)
{
    bool cooperative = false, chained = false;
    for (unsigned i = 0; i < configuration->numAttrs; i++)
        if (configuration->attrs[i].id == cudaLaunchAttributeCooperative)
            cooperative = configuration->attrs[i].val.cooperative;
        else if (configuration->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
            chained = configuration->attrs[i].val.programmaticStreamSerializationAllowed;
    dim3 blocks = configuration->gridDim, threads = configuration->blockDim;
    size_t dynamic_bytes = configuration->dynamicSmemBytes;
    cudaError_t error = check_launch(blocks, threads, dynamic_bytes, cooperative, function);
    if (error)
        return failed(error);
    if (launch_watcher)
        launch_watcher(function, blocks, threads, dynamic_bytes);
    std::shared_ptr<Front> &front = stream_of(configuration->stream)->front;
    std::shared_ptr<Front> chain = chained && front ? front : std::make_shared<Front>();
    error = submit(configuration->stream, [=]() {
        Grid grid{};
        grid.function = function;
        grid.blocks = blocks;
        grid.threads = threads;
        grid.dynamic_bytes = dynamic_bytes;
        grid.cooperative = cooperative;
        grid.chained = chained;
        grid.front = chain;
        grid.body = body;
        if (ptx_run)
            ptx_run(&grid);
        else
            grid_run(&grid);
    });
    front = chain;
    return error;
}

static bool is_device(int device)
{
    return device >= 0 && (size_t)device < settings.devices.size();
}

int current_machine_device()
{
    return is_device(current_device) ? settings.devices[(size_t)current_device] : -1;
}

static cudaError_t attribute_of(cudaDeviceAttr attribute, int *value)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = settings.processors;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)settings.shared_bytes;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)shared_bytes_of_processor();
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = CAPABILITY_MAJOR;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = CAPABILITY_MINOR;
        return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
        *value = 1;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = WARP_LANES;
        return cudaSuccess;
    case cudaDevAttrClockRate: // kHz, of clock64()
        *value = 1000000;
        return cudaSuccess;
    default:
        return failed(cudaErrorInvalidValue);
    }
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
cudaError_t cudaGetDeviceCount(int *count)
{
    if (settings.devices.empty())
        return failed(cudaErrorInsufficientDriver); // as on a machine without a driver, *count stays
    *count = (int)settings.devices.size();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (!is_device(device))
        return failed(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    return is_device(device) ? attribute_of(attribute, value) : failed(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (!is_device(device))
        return failed(cudaErrorInvalidDevice);
    *properties = {};
    const int number = settings.devices[(size_t)device];
    snprintf(properties->name, sizeof properties->name, "emulated device %d", number);
    memcpy(properties->uuid.bytes, "octet-emulated", 14);
    properties->uuid.bytes[14] = (char)(number >> 8);
    properties->uuid.bytes[15] = (char)number;
    properties->pciBusID = number;
    properties->totalGlobalMem = settings.memory_bytes;
    properties->multiProcessorCount = settings.processors;
    properties->major = CAPABILITY_MAJOR;
    properties->minor = CAPABILITY_MINOR;
    properties->warpSize = WARP_LANES;
    properties->maxThreadsPerBlock = BLOCK_THREADS_MAX;
    properties->maxThreadsPerMultiProcessor = THREADS_OF_PROCESSOR;
    properties->sharedMemPerBlock = SHARED_BYTES_UNASKED;
    properties->sharedMemPerBlockOptin = settings.shared_bytes;
    properties->sharedMemPerMultiprocessor = shared_bytes_of_processor();
    properties->regsPerBlock = REGISTERS_OF_BLOCK;
    return cudaSuccess;
}

// As NCCL has it: all devices reach each other, or none.
cudaError_t cudaDeviceCanAccessPeer(int *reaches, int device, int peer)
{
    if (!is_device(device) || !is_device(peer))
        return failed(cudaErrorInvalidDevice);
    const char *symmetric = getenv("CUDA_EMULATION_NCCL_SYMMETRIC");
    *reaches = device != peer && (symmetric == nullptr || strcmp(symmetric, "1") == 0);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    if (!is_device(device))
        return failed(cudaErrorInvalidDevice);
    snprintf(text, (size_t)bytes, "0000:%02x:00.0", settings.devices[(size_t)device]);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = settings.devices.empty() ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess; // advice
    if (value < 0 || (size_t)value > settings.shared_bytes)
        return failed(cudaErrorInvalidValue);
    dynamic_bytes_asked[function] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t dynamic_bytes)
{
    if (threads <= 0 || threads > BLOCK_THREADS_MAX)
        return failed(cudaErrorInvalidValue);
    *blocks = resident_blocks((size_t)threads, dynamic_bytes);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    static char text[32];
    snprintf(text, sizeof text, "CUDA error %d", (int)error);
    return text;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return cudaGetErrorString(error);
}
}
