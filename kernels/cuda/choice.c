// The choice of devices: by local rank, each rank its own, all of one architecture.
#include "kernels/cuda/choice.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/projection.h"

int32_t oct_cuda_pick_device(int32_t devices, int32_t host_rank, int32_t host_size, bool may_share)
{
    if (devices == 1 || may_share)
        return host_rank % devices;
    return devices >= host_size && host_rank < devices ? host_rank : -1;
}

const char *oct_cuda_instructions_name(int32_t instructions)
{
    static char name[16];
    snprintf(name, sizeof name, "sm_%d", (int)instructions);
    return name;
}

// A launcher that shows each rank one device hides the peers' as well, and with them the fast ways between them.
static bool is_isolated;

static void warn_of_isolation(void)
{
    static bool said;
    if (is_isolated && !said)
        oct_warn(
            "each rank sees one GPU only; if the launcher hides the others, they exchange through host memory: let "
            "every rank see all GPUs of its host (Slurm: --gpus-per-node with --gpu-bind=none; no "
            "CUDA_VISIBLE_DEVICES by rank)");
    said = true;
}

// Kernels are compiled for some architectures only; whether they start here is asked before anything is loaded.
static oct_status check_kernels(const struct cudaDeviceProp *properties)
{
    oct_cuda_device device;
    oct_status status = oct_cuda_device_read(&device);
    if (status != OCT_OK)
        return status;
    oct_failure_clear();
    status = oct_cuda_projection_load(&device);
    if (status == OCT_OK)
        return OCT_OK;
    oct_failure_clear();
    cudaGetLastError(); // forgotten, like the failure
    return oct_fail(OCT_ERR_MACHINE,
                    "the kernels of this Octet do not start on %s (sm_%d%d); build it for this GPU "
                    "(-DCMAKE_CUDA_ARCHITECTURES=%d%d), or use --backend cpu",
                    properties->name, properties->major, properties->minor, properties->major, properties->minor);
}

// Of the devices that this rank sees, those whose memory `device` reaches.
static int32_t count_peers(int32_t devices, int32_t device)
{
    int32_t peers = 0;
    for (int32_t other = 0; other < devices; other++) {
        int reaches = 0;
        if (other != device && cudaDeviceCanAccessPeer(&reaches, device, other) == cudaSuccess)
            peers += reaches;
    }
    return peers;
}

static void note_device(const struct cudaDeviceProp *properties, int32_t devices, int32_t device, size_t free_bytes,
                        size_t total_bytes)
{
    static bool said;
    const double gib = 1024.0 * 1024.0 * 1024.0;
    if (!said)
        oct_note("GPU %d of the %d that rank 0 sees: %s, sm_%d%d, %.1f of %.1f GiB free, reaches the memory of %d "
                 "other%s",
                 device, devices, properties->name, properties->major, properties->minor, (double)free_bytes / gib,
                 (double)total_bytes / gib, count_peers(devices, device), devices == 2 ? "" : "s");
    said = true;
}

static oct_status describe(int32_t devices, int32_t device, bool may_share, oct_backend_offer *offer)
{
    struct cudaDeviceProp properties;
    size_t free_bytes = 0, total_bytes = 0;
    oct_status status = oct_cuda_check(cudaSetDevice(device), "taking a GPU");
    if (status == OCT_OK)
        status = oct_cuda_check(cudaGetDeviceProperties(&properties, device), "reading a GPU's properties");
    if (status == OCT_OK)
        status = check_kernels(&properties);
    if (status == OCT_OK)
        status = oct_cuda_check(cudaMemGetInfo(&free_bytes, &total_bytes), "reading a GPU's memory");
    if (status != OCT_OK)
        return status;
    note_device(&properties, devices, device, free_bytes, total_bytes);
    *offer = (oct_backend_offer){.instructions = 10 * properties.major + properties.minor,
                                 .memory_bytes = free_bytes,
                                 .may_share = may_share,
                                 .is_expected = true};
    memcpy(offer->identity, properties.uuid.bytes, sizeof offer->identity);
    return OCT_OK;
}

static bool has_driver(void)
{
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess && version > 0;
}

oct_status oct_cuda_offer(int32_t host_rank, int32_t host_size, bool may_share, oct_backend_offer *offer)
{
    int devices = 0;
    *offer = (oct_backend_offer){.is_expected = has_driver()};
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices < 1)
        return oct_fail(OCT_ERR_MACHINE,
                        "no GPU here: %s; start on a machine where nvidia-smi lists one, or use "
                        "--backend cpu",
                        error != cudaSuccess ? cudaGetErrorString(error) : "none is visible");
    const int32_t device = oct_cuda_pick_device(devices, host_rank, host_size, may_share);
    if (device < 0)
        return oct_fail(OCT_ERR_MACHINE,
                        "%d ranks on a host with %d GPUs; start at most one rank a GPU, or let ranks share them "
                        "(--share-devices)",
                        host_size, devices);
    is_isolated = devices == 1 && host_size > 1;
    return describe(devices, device, may_share, offer);
}

// Tokens are the same for one architecture; a device that two ranks share gives each half of its bandwidth at best.
oct_status oct_cuda_agree(const oct_backend_offer *offers, int32_t ranks, int32_t rank, int32_t asked,
                          int32_t *instructions)
{
    const oct_backend_offer *own = &offers[rank];
    bool shares = false;
    for (int32_t other = 0; other < ranks; other++) {
        if (offers[other].instructions != own->instructions)
            return oct_fail(OCT_ERR_MACHINE,
                            "rank %d has a GPU of sm_%d, rank %d one of sm_%d; start on GPUs of one kind", rank,
                            own->instructions, other, offers[other].instructions);
        const bool same = other != rank && oct_backend_same_device(&offers[other], own);
        if (same && !own->may_share)
            return oct_fail(OCT_ERR_MACHINE,
                            "ranks %d and %d drive the same GPU; start at most one rank a GPU, and let "
                            "CUDA_VISIBLE_DEVICES name all of a host's, or another one for each rank; or let ranks "
                            "share them (--share-devices)",
                            rank, other);
        shares = shares || same;
    }
    if (asked >= 0 && asked != own->instructions)
        return oct_fail(OCT_ERR_MACHINE,
                        "the GPU of rank %d has no instructions %d, but sm_%d; leave --instructions out", rank, asked,
                        own->instructions);
    if (!shares)
        warn_of_isolation();
    *instructions = own->instructions;
    return OCT_OK;
}
