// Fuzzes the checkpoint reader. The input patches a small valid checkpoint: either its file (HDF5's checksums
// and ours are in the way), or, behind the checksums, one of its sections (what a wrong writer could have
// written). Nothing may crash; what is accepted behind the checksums must be loadable or refused.
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/catalogue.h"
#include "checkpoints/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// HDF5 1.10 forgets buffers of its own when it refuses a damaged file; ours are still checked.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

static uint8_t *base;
static size_t base_size;
static oct_blob base_sections[OCT_SECTION_COUNT];
static int fd;
static char path[64];

static void make_base(void)
{
    char folder[] = "/tmp/octet-fuzz-XXXXXX", name[64];
    oct_source source;
    oct_write_options options = {.encoding = -1};
    if (!mkdtemp(folder))
        abort();
    snprintf(name, sizeof name, "%s/base.h5", folder);
    if (oct_source_open_synthetic(&source, "tiny", 1) ||
        oct_checkpoint_write(&source, name, &options, NULL) || oct_sections_read(name, base_sections))
        abort();
    oct_source_close(&source);
    FILE *file = fopen(name, "rb");
    struct stat about;
    fstat(fileno(file), &about);
    base_size = (size_t)about.st_size;
    base = malloc(base_size);
    if (fread(base, 1, base_size, file) != base_size)
        abort();
    fclose(file);
    unlink(name);
    rmdir(folder);
    fd = memfd_create("fuzz", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
}

static void check(oct_status status)
{
    if (status != OCT_OK && (status != OCT_ERR_FILE || !oct_failure_text()[0]))
        abort();
}

// Overwrites bytes: [place 3 bytes][length 1 byte][bytes …] again and again; length 255: cut off there.
static size_t patch(uint8_t *bytes, size_t size, const uint8_t *data, size_t left)
{
    while (left >= 4 && size) {
        size_t at = (data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) % size, n = data[3] % 16;
        if (data[3] == 255)
            size = at;
        n = n < left - 4 ? n : left - 4;
        for (size_t i = 0; i < n && at + i < size; i++)
            bytes[at + i] = data[4 + i];
        data += 4 + n;
        left -= 4 + n;
    }
    return size;
}

static void fuzz_file(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(base_size);
    memcpy(copy, base, base_size);
    size_t length = patch(copy, base_size, data, size);
    if (ftruncate(fd, 0) || pwrite(fd, copy, length, 0) != (ssize_t)length)
        abort();
    free(copy);
    oct_checkpoint *checkpoint = NULL;
    oct_status status = oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL);
    if (!status)
        status = oct_checkpoint_verify(checkpoint, 1, NULL);
    check(status);
    oct_checkpoint_close(checkpoint);
}

static void fuzz_section(int section, const uint8_t *data, size_t size)
{
    oct_blob sections[OCT_SECTION_COUNT];
    memcpy(sections, base_sections, sizeof sections);
    oct_blob *changed = &sections[section];
    changed->bytes = malloc(changed->size + 1);
    if (changed->size)
        memcpy(changed->bytes, base_sections[section].bytes, changed->size);
    size_t element = oct_section_element((oct_section)section);
    changed->size = patch(changed->bytes, changed->size, data, size) / element * element;
    oct_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    checkpoint->path = strdup(path);
    checkpoint->file_bytes = base_size;
    if (ftruncate(fd, 0) || pwrite(fd, base, base_size, 0) != (ssize_t)base_size)
        abort();
    checkpoint->fd = dup(fd);
    oct_status status = oct_catalogue_read(checkpoint, sections);
    if (!status)
        status = oct_checkpoint_verify(checkpoint, 1, NULL);
    check(status);
    oct_checkpoint_close(checkpoint);
    free(changed->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!base)
        make_base();
    oct_failure_clear();
    if (size < 1)
        return 0;
    if (data[0] % 4 == 0)
        fuzz_file(data + 1, size - 1);
    else
        fuzz_section(data[0] / 4 % OCT_SECTION_COUNT, data + 1, size - 1);
    return 0;
}
