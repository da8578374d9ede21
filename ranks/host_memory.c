// Memory that the ranks of a host share: a nameless file of the host's first rank, which the others open
// through /proc; where that is forbidden (hardened or containerised hosts) a file in /dev/shm that is
// unlinked as soon as every rank has opened it.
#include "ranks/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "ranks/launch_check.h"
#include "ranks/wait.h"

// What the host's first rank tells the others.
typedef struct invitation {
    int32_t error; // errno where it could not make the file
    int32_t process;
    int32_t descriptor;
    char path[OCT_LEFTOVERS_BYTES];
} invitation;

static void host_broadcast(oct_world *world, void *data, int bytes)
{
    MPI_Request request;
    oct_status status = OCT_ERR_LOST;
    if (MPI_Ibcast(data, bytes, MPI_BYTE, 0, world->host, &request) == MPI_SUCCESS)
        status = oct_wait_request(&request, -1);
    if (status != OCT_OK)
        oct_world_abort(world, status);
}

static bool host_all(oct_world *world, bool mine)
{
    int all = mine;
    MPI_Request request;
    oct_status status = OCT_ERR_LOST;
    if (MPI_Iallreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, world->host, &request) == MPI_SUCCESS)
        status = oct_wait_request(&request, -1);
    if (status != OCT_OK)
        oct_world_abort(world, status);
    return all != 0;
}

// Opens a nameless file on every rank of the host: a descriptor, or -1 on all ranks.
static int open_nameless(oct_world *world)
{
    invitation invite = {0};
    int mine = -1;
    if (world->host_rank == 0) {
        mine = memfd_create("octet", MFD_CLOEXEC);
        invite = (invitation){.error = mine < 0 ? errno : 0, .process = getpid(), .descriptor = mine};
    }
    host_broadcast(world, &invite, (int)sizeof invite);
    if (world->host_rank != 0 && invite.error == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", invite.process, invite.descriptor);
        mine = open(path, O_RDWR | O_CLOEXEC);
    }
    if (host_all(world, mine >= 0))
        return mine;
    if (mine >= 0)
        close(mine);
    return -1;
}

// The same by a name in /dev/shm that lives until all have opened it.
static int open_named(oct_world *world, oct_status *status)
{
    invitation invite = {0};
    int mine = -1;
    char *leftover = oct_progress_page->leftovers[1];
    if (world->host_rank == 0) {
        uint64_t number = 0;
        if (getrandom(&number, sizeof number, 0) != sizeof number)
            number = (uint64_t)oct_now_ns();
        snprintf(invite.path, sizeof invite.path, "/dev/shm/octet.%d.%016llx", getpid(),
                 (unsigned long long)number);
        snprintf(leftover, OCT_LEFTOVERS_BYTES, "%s", invite.path);
        mine = open(invite.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        invite.error = mine < 0 ? errno : 0;
    }
    host_broadcast(world, &invite, (int)sizeof invite);
    if (world->host_rank != 0 && invite.error == 0)
        mine = open(invite.path, O_RDWR | O_CLOEXEC);
    int error = invite.error != 0 ? invite.error : errno;
    bool all = host_all(world, mine >= 0);
    if (world->host_rank == 0) {
        unlink(invite.path);
        leftover[0] = '\0';
    }
    if (all)
        return mine;
    if (mine >= 0)
        close(mine);
    *status =
        oct_fail(OCT_ERR_MACHINE,
                 "the ranks of host %s cannot share memory: %s: %s; expected that they see each other in "
                 "/proc or share one writable /dev/shm (start all ranks of a host in one container)",
                 world->host_names[world->host_index], invite.path, strerror(mine < 0 ? error : EACCES));
    return -1;
}

// Takes the room for this rank's part (in its own NUMA node) and maps all parts.
static oct_status map_parts(oct_host_memory *memory, oct_world *world, int file)
{
    off_t offset = (off_t)((size_t)world->host_rank * memory->bytes_per_rank);
    // Asked first: a nameless file has no limit of its own and would fill the machine before it fails.
    if (memory->bytes > oct_memory_available_bytes())
        return oct_fail(
            OCT_ERR_MACHINE,
            "no room for %zu bytes of shared memory for each of %d ranks on host %s, which has %llu bytes "
            "left; free memory or raise the job's memory limit",
            memory->bytes_per_rank, world->host_size, world->host_names[world->host_index],
            (unsigned long long)oct_memory_available_bytes());
    int error = posix_fallocate(file, offset, (off_t)memory->bytes_per_rank);
    if (error != 0)
        return oct_fail(
            OCT_ERR_MACHINE,
            "no room for %zu bytes of shared memory for rank %d on host %s: %s; free memory, raise the "
            "job's memory limit or, in a container, --shm-size",
            memory->bytes_per_rank, world->rank, world->host_names[world->host_index], strerror(error));
    void *map = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        return oct_fail(OCT_ERR_MACHINE, "cannot map %zu bytes of shared memory: %s; see `ulimit -v`",
                        memory->bytes, strerror(errno));
    memory->base = map;
    return OCT_OK;
}

oct_status oct_host_memory_allocate(oct_host_memory *memory, oct_world *world, size_t bytes_per_rank)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    oct_host_memory made = {.bytes_per_rank = (bytes_per_rank + page - 1) / page * page};
    made.bytes = made.bytes_per_rank * (size_t)world->host_size;
    oct_status status = OCT_OK;
    int file = open_nameless(world);
    if (file < 0)
        file = open_named(world, &status);
    if (status == OCT_OK)
        status = map_parts(&made, world, file);
    if (file >= 0)
        close(file);
    status = oct_world_agree(world, status);
    if (status != OCT_OK) {
        oct_host_memory_free(&made);
        return status;
    }
    *memory = made;
    return OCT_OK;
}

void oct_host_memory_free(oct_host_memory *memory)
{
    if (memory->base != NULL)
        munmap(memory->base, memory->bytes);
    *memory = (oct_host_memory){0};
}
