// The HDF5 side of a checkpoint: its small datasets ("sections"), each with its XXH3-64 as an attribute, and
// the place of its large ones. The only file besides sections.c, writer.c and verify.c that sees HDF5.
#ifndef OCT_CHECKPOINTS_SECTIONS_H
#define OCT_CHECKPOINTS_SECTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/status.h"

enum { OCT_FORMAT_VERSION = 1 };

typedef enum oct_section {
    OCT_SECTION_CONFIG,        // JSON text: format, version, model, vocabulary, provenance
    OCT_SECTION_CATALOGUE,     // oct_catalogue_row, one a tensor of the model, in its order
    OCT_SECTION_GRANULES,      // oct_granule_row, those of each matrix in turn
    OCT_SECTION_VECTORS,       // f32, the vectors one after another
    OCT_SECTION_TOKEN_OFFSETS, // u64 [tokens + 1]
    OCT_SECTION_TOKEN_BYTES,
    OCT_SECTION_MERGE_OFFSETS, // u64 [merges + 1]
    OCT_SECTION_MERGE_BYTES,
    OCT_SECTION_SCORES,        // f32 [tokens]
    OCT_SECTION_TYPES,         // i32 [tokens]
    OCT_SECTION_CHAT_TEMPLATE, // text
    OCT_SECTION_COUNT
} oct_section;

// Rows of the tables as they stand in the file: little endian, no padding.
typedef struct oct_catalogue_row {
    char name[64], source[32], encoding[16];
    char split[8]; // "vector", "rows" or "columns"
    int64_t rows, columns;
    int32_t units, unit_size; // of the partition
    uint64_t granules;
    uint64_t first;       // first row in the granule table; of a vector: first number in the vectors
    uint64_t file_offset; // of granule 0; 0 for a vector
    uint64_t bytes;
} oct_catalogue_row;

typedef struct oct_granule_row {
    uint64_t offset; // from the tensor's file_offset
    uint64_t bytes;
    uint64_t xxh3;
} oct_granule_row;

// One section in memory.
typedef struct oct_blob {
    void *bytes; // owned
    uint64_t size;
} oct_blob;

// The dataset's path in the file, and the bytes of one of its elements.
const char *oct_section_path(oct_section section);
size_t oct_section_element(oct_section section);

// Reads and verifies all sections of a checkpoint; sections that are not there have size 0. Rejects files
// that are no checkpoint, and any HDF5 file whose metadata has no checksums. Errors: OCT_ERR_FILE. LOCAL.
oct_status oct_sections_read(const char *path, oct_blob sections[OCT_SECTION_COUNT]);

// Writes all sections that are not empty into the open HDF5 file `file` (an hid_t). Errors: OCT_ERR_FILE.
// LOCAL.
oct_status oct_sections_write(int64_t file, const oct_blob sections[OCT_SECTION_COUNT]);

void oct_sections_free(oct_blob sections[OCT_SECTION_COUNT]);

// Opens for reading through the serial driver, without file locks (hid_t, negative on failure).
int64_t oct_hdf5_open(const char *path);

// Silences HDF5's own error printing; called by everything that enters HDF5. LOCAL.
void oct_hdf5_quiet(void);

#endif
