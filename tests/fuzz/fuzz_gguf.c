// Fuzzes the GGUF reader: any bytes are refused with a message, or make a model whose every tile can be read
// and packed.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoints/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static oct_status read_matrix(oct_source *source, int32_t index, oct_tile *tile)
{
    const oct_tensor_spec *spec = &source->specs[index];
    oct_status status = OCT_OK;
    for (int64_t i = 0; i < oct_tile_count(spec->rows) && !status; i++) {
        status = source->read_tile(source, index, i, tile);
        uint8_t *strip = malloc(oct_strip_bytes(source->tensors[index].encoding, 0, spec->columns));
        if (strip && !status)
            oct_tile_pack(tile, 0, spec->columns, strip);
        free(strip);
    }
    return status;
}

static oct_status read_all(oct_source *source)
{
    oct_status status = OCT_OK;
    for (int32_t i = 0; i < source->count && !status; i++) {
        const oct_tensor_spec *spec = &source->specs[i];
        if (spec->split != OCT_SPLIT_NONE) {
            oct_tile tile = {0};
            status = oct_tile_make(&tile, spec->columns);
            if (!status)
                status = read_matrix(source, i, &tile);
            oct_tile_free(&tile);
            continue;
        }
        float *vector = malloc((size_t)spec->rows * sizeof *vector);
        status = source->read_vector(source, i, vector);
        free(vector);
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    oct_source source = {0};
    oct_failure_clear();
    oct_status status = oct_source_open_gguf(&source, path);
    if (!status)
        status = read_all(&source);
    if (status != OCT_OK && (status != OCT_ERR_FILE || !oct_failure_text()[0]))
        abort();
    oct_source_close(&source);
    return 0;
}
