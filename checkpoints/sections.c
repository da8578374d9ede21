// Sections of a checkpoint in HDF5.
#include "checkpoints/sections.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/checksum.h"

#define CHECKSUM "xxh3"
#define SECTION_BYTES_MAX ((uint64_t)1 << 36)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's tables are little endian");
_Static_assert(sizeof(oct_catalogue_row) == 176 && sizeof(oct_granule_row) == 24, "no padding in the tables");

static const struct {
    const char *path;
    size_t element;
} about[OCT_SECTION_COUNT] = {
    [OCT_SECTION_CONFIG] = {"/config", 1},
    [OCT_SECTION_CATALOGUE] = {"/catalogue", sizeof(oct_catalogue_row)},
    [OCT_SECTION_GRANULES] = {"/granules", sizeof(oct_granule_row)},
    [OCT_SECTION_VECTORS] = {"/vectors", 4},
    [OCT_SECTION_TOKEN_OFFSETS] = {"/vocabulary/token_offsets", 8},
    [OCT_SECTION_TOKEN_BYTES] = {"/vocabulary/token_bytes", 1},
    [OCT_SECTION_MERGE_OFFSETS] = {"/vocabulary/merge_offsets", 8},
    [OCT_SECTION_MERGE_BYTES] = {"/vocabulary/merge_bytes", 1},
    [OCT_SECTION_SCORES] = {"/vocabulary/scores", 4},
    [OCT_SECTION_TYPES] = {"/vocabulary/types", 4},
    [OCT_SECTION_CHAT_TEMPLATE] = {"/vocabulary/chat_template", 1},
};

const char *oct_section_path(oct_section section)
{
    return about[section].path;
}

size_t oct_section_element(oct_section section)
{
    return about[section].element;
}

void oct_hdf5_quiet(void)
{
    H5dont_atexit(); // everything is closed where it was opened; a file that a full disk broke must not be
                     // touched
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void insert_text(hid_t row, const char *name, size_t offset, size_t size)
{
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, size);
    H5Tset_strpad(text, H5T_STR_NULLPAD);
    H5Tinsert(row, name, offset, text);
    H5Tclose(text);
}

static hid_t catalogue_type(void)
{
#define FIELD(name) offsetof(oct_catalogue_row, name)
    hid_t row = H5Tcreate(H5T_COMPOUND, sizeof(oct_catalogue_row));
    insert_text(row, "name", FIELD(name), 64);
    insert_text(row, "source", FIELD(source), 32);
    insert_text(row, "encoding", FIELD(encoding), 16);
    insert_text(row, "split", FIELD(split), 8);
    H5Tinsert(row, "rows", FIELD(rows), H5T_STD_I64LE);
    H5Tinsert(row, "columns", FIELD(columns), H5T_STD_I64LE);
    H5Tinsert(row, "units", FIELD(units), H5T_STD_I32LE);
    H5Tinsert(row, "unit_size", FIELD(unit_size), H5T_STD_I32LE);
    H5Tinsert(row, "granules", FIELD(granules), H5T_STD_U64LE);
    H5Tinsert(row, "first", FIELD(first), H5T_STD_U64LE);
    H5Tinsert(row, "file_offset", FIELD(file_offset), H5T_STD_U64LE);
    H5Tinsert(row, "bytes", FIELD(bytes), H5T_STD_U64LE);
#undef FIELD
    return row;
}

static hid_t granule_type(void)
{
    hid_t row = H5Tcreate(H5T_COMPOUND, sizeof(oct_granule_row));
    H5Tinsert(row, "offset", offsetof(oct_granule_row, offset), H5T_STD_U64LE);
    H5Tinsert(row, "bytes", offsetof(oct_granule_row, bytes), H5T_STD_U64LE);
    H5Tinsert(row, "xxh3", offsetof(oct_granule_row, xxh3), H5T_STD_U64LE);
    return row;
}

// The element type of a section, to be closed.
static hid_t section_type(oct_section section)
{
    switch (section) {
    case OCT_SECTION_CATALOGUE:
        return catalogue_type();
    case OCT_SECTION_GRANULES:
        return granule_type();
    case OCT_SECTION_VECTORS:
    case OCT_SECTION_SCORES:
        return H5Tcopy(H5T_IEEE_F32LE);
    case OCT_SECTION_TOKEN_OFFSETS:
    case OCT_SECTION_MERGE_OFFSETS:
        return H5Tcopy(H5T_STD_U64LE);
    case OCT_SECTION_TYPES:
        return H5Tcopy(H5T_STD_I32LE);
    default:
        return H5Tcopy(H5T_STD_U8LE);
    }
}

static bool read_checksum(hid_t dataset, uint64_t *checksum)
{
    if (H5Aexists(dataset, CHECKSUM) <= 0)
        return false;
    hid_t attribute = H5Aopen(dataset, CHECKSUM, H5P_DEFAULT), type = H5Aget_type(attribute);
    hid_t space = H5Aget_space(attribute);
    bool good = attribute >= 0 && H5Tequal(type, H5T_STD_U64LE) > 0 &&
                H5Sget_simple_extent_npoints(space) == 1 &&
                H5Aread(attribute, H5T_NATIVE_UINT64, checksum) >= 0;
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return good;
}

static oct_status damaged(const char *path, oct_section section, const char *what)
{
    return oct_fail(OCT_ERR_FILE, "%s: %s is damaged: %s; import the model again", path, about[section].path,
                    what);
}

// The number of elements of a section's dataset if it is what it should be: contiguous, one dimension, of the
// section's type; otherwise false.
static bool section_size(hid_t dataset, oct_section section, uint64_t file_bytes, uint64_t *count)
{
    hid_t type = H5Dget_type(dataset), wanted = section_type(section), space = H5Dget_space(dataset);
    hid_t plist = H5Dget_create_plist(dataset);
    hsize_t extent = 0;
    bool good = H5Tequal(type, wanted) > 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, &extent, NULL) == 1 &&
                H5Pget_layout(plist) == H5D_CONTIGUOUS && H5Pget_external_count(plist) == 0;
    uint64_t most = file_bytes < SECTION_BYTES_MAX ? file_bytes : SECTION_BYTES_MAX;
    *count = extent;
    H5Pclose(plist);
    H5Sclose(space);
    H5Tclose(wanted);
    H5Tclose(type);
    return good && extent > 0 && extent <= most / about[section].element;
}

static oct_status read_section(const char *path, hid_t dataset, oct_section section, uint64_t file_bytes,
                               oct_blob *blob)
{
    uint64_t count, checksum;
    if (!section_size(dataset, section, file_bytes, &count))
        return damaged(path, section, "it is not of the expected type and size");
    if (!read_checksum(dataset, &checksum))
        return damaged(path, section, "it has no checksum");
    blob->size = count * about[section].element;
    blob->bytes = malloc(blob->size + 1);
    if (!blob->bytes)
        return oct_fail(OCT_ERR_MACHINE, "%s: no memory for %llu bytes of %s", path,
                        (unsigned long long)blob->size, about[section].path);
    hid_t type = section_type(section);
    herr_t failed = H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, blob->bytes);
    H5Tclose(type);
    if (failed < 0)
        return damaged(path, section, "it cannot be read");
    ((char *)blob->bytes)[blob->size] = '\0';
    if (oct_checksum(blob->bytes, blob->size) != checksum)
        return damaged(path, section, "its checksum does not match");
    return OCT_OK;
}

// What HDF5 does not say well: no file, a folder, another format, metadata without checksums (superblock
// versions 0 and 1, which Octet never writes).
static oct_status check_superblock(const char *path, uint64_t *file_bytes)
{
    static const uint8_t signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    uint8_t head[9] = {0};
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return oct_fail(OCT_ERR_FILE, "cannot open %s: %s", path, strerror(errno));
    bool known = fstat(fd, &file) == 0, regular = known && S_ISREG(file.st_mode);
    ssize_t got = regular ? pread(fd, head, sizeof head, 0) : 0;
    close(fd);
    if (!regular)
        return oct_fail(OCT_ERR_FILE, "%s is %s; expected a checkpoint", path,
                        known && S_ISDIR(file.st_mode) ? "a directory" : "no regular file");
    *file_bytes = (uint64_t)file.st_size;
    if (got >= 4 && memcmp(head, "GGUF", 4) == 0)
        return oct_fail(OCT_ERR_FILE,
                        "%s is a GGUF file; make a checkpoint of it: octet import %s -o MODEL.h5", path,
                        path);
    if (got < (ssize_t)sizeof head || memcmp(head, signature, sizeof signature))
        return oct_fail(OCT_ERR_FILE, "%s is no checkpoint: it does not begin as an HDF5 file does", path);
    if (head[8] != 2 && head[8] != 3)
        return oct_fail(OCT_ERR_FILE, "%s is damaged or no checkpoint: its HDF5 superblock has version %d",
                        path, head[8]);
    return OCT_OK;
}

int64_t oct_hdf5_open(const char *path)
{
    oct_hdf5_quiet();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_sec2(access);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, false, true);
#endif
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return file;
}

static bool link_exists(hid_t file, const char *path)
{
    if (strncmp(path, "/vocabulary/", 12) == 0 && H5Lexists(file, "/vocabulary", H5P_DEFAULT) <= 0)
        return false;
    return H5Lexists(file, path, H5P_DEFAULT) > 0;
}

oct_status oct_sections_read(const char *path, oct_blob sections[OCT_SECTION_COUNT])
{
    uint64_t file_bytes = 0;
    memset(sections, 0, OCT_SECTION_COUNT * sizeof *sections);
    oct_status status = check_superblock(path, &file_bytes);
    if (status)
        return status;
    hid_t file = oct_hdf5_open(path);
    if (file < 0)
        return oct_fail(OCT_ERR_FILE,
                        "%s is damaged or truncated: HDF5 cannot open it; import the model again", path);
    for (int i = 0; i < OCT_SECTION_COUNT && !status; i++) {
        if (!link_exists(file, about[i].path))
            continue; // the configuration says which ones must be there
        hid_t dataset = H5Dopen2(file, about[i].path, H5P_DEFAULT);
        status = dataset < 0 ? damaged(path, (oct_section)i, "HDF5 cannot open it")
                             : read_section(path, dataset, (oct_section)i, file_bytes, &sections[i]);
        if (dataset >= 0)
            H5Dclose(dataset);
    }
    H5Fclose(file);
    if (status)
        oct_sections_free(sections);
    return status;
}

static bool write_checksum(hid_t dataset, uint64_t checksum)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(dataset, CHECKSUM, H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_UINT64, &checksum) >= 0;
    good = H5Aclose(attribute) >= 0 && good;
    H5Sclose(space);
    return good;
}

static bool write_section(hid_t file, oct_section section, const oct_blob *blob)
{
    hsize_t count = blob->size / about[section].element;
    hid_t space = H5Screate_simple(1, &count, NULL), type = section_type(section);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_obj_track_times(create, false);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    hid_t dataset = H5Dcreate2(file, about[section].path, type, space, links, create, H5P_DEFAULT);
    bool good = dataset >= 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, blob->bytes) >= 0 &&
                write_checksum(dataset, oct_checksum(blob->bytes, blob->size));
    if (dataset >= 0)
        good = H5Dclose(dataset) >= 0 && good;
    H5Pclose(links);
    H5Pclose(create);
    H5Tclose(type);
    H5Sclose(space);
    return good;
}

oct_status oct_sections_write(int64_t file, const oct_blob sections[OCT_SECTION_COUNT])
{
    for (int i = 0; i < OCT_SECTION_COUNT; i++) {
        errno = 0;
        if (sections[i].size && !write_section(file, (oct_section)i, &sections[i]))
            return oct_fail(OCT_ERR_FILE, "cannot write %s: %s", about[i].path,
                            errno ? strerror(errno) : "HDF5 refuses");
    }
    return OCT_OK;
}

void oct_sections_free(oct_blob sections[OCT_SECTION_COUNT])
{
    for (int i = 0; i < OCT_SECTION_COUNT; i++)
        free(sections[i].bytes);
    memset(sections, 0, OCT_SECTION_COUNT * sizeof *sections);
}
