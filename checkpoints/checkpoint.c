// Opening a checkpoint: rank 0 reads the sections, every rank gets them by broadcast and makes the same of
// them.
#include "checkpoints/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/catalogue.h"
#include "runtime/progress.h"

enum { PIECE = 1 << 30 }; // of a broadcast: counts are ints

// The worst status of all ranks. COLLECTIVE.
static oct_status agree(oct_status own, MPI_Comm communicator)
{
    int mine = (int)own, worst = 0;
    if (communicator == MPI_COMM_NULL)
        return own;
    oct_progress_wait_begin(-1);
    int code = MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MAX, communicator);
    oct_progress_wait_end();
    return code == MPI_SUCCESS ? (oct_status)worst : oct_fail(OCT_ERR_LOST, "an MPI reduction failed");
}

static oct_status broadcast(void *bytes, uint64_t size, MPI_Comm communicator)
{
    int code = MPI_SUCCESS;
    oct_progress_wait_begin(0);
    for (uint64_t at = 0; at < size && code == MPI_SUCCESS; at += PIECE) {
        uint64_t left = size - at;
        code = MPI_Bcast((char *)bytes + at, left < PIECE ? (int)left : PIECE, MPI_BYTE, 0, communicator);
    }
    oct_progress_wait_end();
    return code == MPI_SUCCESS ? OCT_OK : oct_fail(OCT_ERR_LOST, "an MPI broadcast failed");
}

// Gives every rank the sections that rank 0 has read. COLLECTIVE; all ranks come with the same status.
static oct_status share_sections(oct_blob sections[OCT_SECTION_COUNT], int rank, MPI_Comm communicator)
{
    uint64_t sizes[OCT_SECTION_COUNT];
    for (int i = 0; i < OCT_SECTION_COUNT; i++)
        sizes[i] = sections[i].size;
    oct_status status = broadcast(sizes, sizeof sizes, communicator);
    for (int i = 0; i < OCT_SECTION_COUNT && rank && !status; i++) {
        sections[i].size = sizes[i];
        sections[i].bytes = malloc(sizes[i] + 1);
        if (!sections[i].bytes)
            status = oct_fail(OCT_ERR_MACHINE, "no memory for %llu bytes of a checkpoint's catalogue",
                              (unsigned long long)sizes[i]);
    }
    status = agree(status, communicator);
    for (int i = 0; i < OCT_SECTION_COUNT && !status; i++)
        status = broadcast(sections[i].bytes, sizes[i], communicator);
    return status;
}

// Opens the file for reading tensor data. LOCAL.
static oct_status open_data(oct_checkpoint *c)
{
    struct stat about;
    c->fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0 || fstat(c->fd, &about))
        return oct_fail(OCT_ERR_FILE, "cannot open %s: %s", c->path, strerror(errno));
    c->file_bytes = (uint64_t)about.st_size;
    return OCT_OK;
}

static oct_status open_all(oct_checkpoint *c, MPI_Comm communicator)
{
    oct_blob sections[OCT_SECTION_COUNT] = {0};
    int rank = 0;
    if (communicator != MPI_COMM_NULL)
        MPI_Comm_rank(communicator, &rank);
    oct_status status = agree(rank == 0 ? oct_sections_read(c->path, sections) : OCT_OK, communicator);
    if (!status && communicator != MPI_COMM_NULL)
        status = share_sections(sections, rank, communicator);
    if (!status) {
        status = open_data(c);
        if (!status)
            status = oct_catalogue_read(c, sections);
        status = agree(status, communicator);
    }
    oct_sections_free(sections);
    return status;
}

oct_status oct_checkpoint_open(oct_checkpoint **checkpoint, const char *path, MPI_Comm communicator)
{
    oct_checkpoint *c = calloc(1, sizeof *c);
    if (c) {
        c->fd = -1;
        c->path = strdup(path);
    }
    oct_status status = c && c->path ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory");
    status = agree(status, communicator);
    if (!status)
        status = open_all(c, communicator);
    if (status) {
        oct_checkpoint_close(c);
        return status;
    }
    *checkpoint = c;
    return OCT_OK;
}

void oct_checkpoint_close(oct_checkpoint *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    oct_vocabulary_free(&c->vocabulary);
    free(c->path);
    free(c->provenance);
    free(c->matrices);
    free(c->specs);
    free(c->vector_first);
    free(c->vectors);
    free(c->granule_bytes);
    free(c->checksums);
    free(c);
}

const oct_model *oct_checkpoint_model(const oct_checkpoint *checkpoint)
{
    return &checkpoint->model;
}

const oct_vocabulary *oct_checkpoint_vocabulary(const oct_checkpoint *checkpoint)
{
    return &checkpoint->vocabulary;
}

const char *oct_checkpoint_provenance(const oct_checkpoint *checkpoint)
{
    return checkpoint->provenance;
}

const char *oct_checkpoint_path(const oct_checkpoint *checkpoint)
{
    return checkpoint->path;
}

uint64_t oct_checkpoint_file_bytes(const oct_checkpoint *checkpoint)
{
    return checkpoint->file_bytes;
}

const oct_tensor *oct_checkpoint_matrix(const oct_checkpoint *checkpoint, const char *name)
{
    for (int32_t i = 0; i < checkpoint->matrix_count; i++)
        if (strcmp(checkpoint->matrices[i].spec.name, name) == 0)
            return &checkpoint->matrices[i];
    return NULL;
}

const oct_tensor *oct_checkpoint_matrices(const oct_checkpoint *checkpoint, int32_t *count)
{
    *count = checkpoint->matrix_count;
    return checkpoint->matrices;
}

const float *oct_checkpoint_vector(const oct_checkpoint *checkpoint, const char *name)
{
    for (int32_t i = 0; i < checkpoint->spec_count; i++)
        if (checkpoint->specs[i].split == OCT_SPLIT_NONE && strcmp(checkpoint->specs[i].name, name) == 0)
            return checkpoint->vectors + checkpoint->vector_first[i];
    return NULL;
}
