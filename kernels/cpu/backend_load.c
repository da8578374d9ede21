// Weights on their way into the CPU backend: straight into place where the file has them as the kernels want them,
// strip by strip; otherwise (matrices split along K, of several granules) by way of a staging piece, from which the
// granules' strips are dealt out.
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/executor.h"

oct_status oct_cpu_place_piece(oct_backend *base, int32_t thread, int32_t i, uint64_t offset, size_t bytes, void **to)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const oct_cpu_matrix *matrix = &backend->matrices[i];
    (void)bytes;
    *to = matrix->is_dealt ? backend->staging + (size_t)thread * backend->options.piece_bytes : matrix->data + offset;
    return OCT_OK;
}

// Copies `bytes` bytes that begin `offset` bytes behind the beginning of a granule's strips, each of strip_bytes. `to`:
// where the granule's part of the first strip goes.
static void deal_granule(const oct_cpu_matrix *matrix, const uint8_t *from, size_t offset, size_t bytes,
                         size_t strip_bytes, uint8_t *to)
{
    for (size_t n; bytes > 0; from += n, offset += n, bytes -= n) {
        const size_t strip = offset / strip_bytes, inside = offset % strip_bytes;
        n = strip_bytes - inside < bytes ? strip_bytes - inside : bytes;
        memcpy(to + strip * matrix->strip_bytes + inside, from, n);
    }
}

oct_status oct_cpu_accept_piece(oct_backend *base, int32_t thread, int32_t i, uint64_t offset, size_t bytes)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    const oct_cpu_matrix *matrix = &backend->matrices[i];
    const uint8_t *from = backend->staging + (size_t)thread * backend->options.piece_bytes;
    uint8_t *to = matrix->data;
    uint64_t begin = 0; // of a granule, in the file's run
    for (int32_t g = 0; matrix->is_dealt && bytes > 0; g++) {
        const oct_column_run columns = matrix->granules[g];
        const size_t strip_bytes = oct_strip_bytes(matrix->encoding, columns.begin, columns.end);
        const uint64_t end = begin + (uint64_t)matrix->strips * strip_bytes;
        if (offset < end) {
            const size_t n = bytes < end - offset ? bytes : (size_t)(end - offset);
            deal_granule(matrix, from, (size_t)(offset - begin), n, strip_bytes, to);
            from += n;
            offset += n;
            bytes -= n;
        }
        to += strip_bytes;
        begin = end;
    }
    return OCT_OK;
}

oct_status oct_cpu_finish_load(oct_backend *base)
{
    oct_cpu_backend *backend = oct_cpu_backend_of(base);
    free(backend->staging);
    backend->staging = NULL;
    return OCT_OK;
}
