// Reading tensor data: pread at the offsets of the catalogue by several threads, straight into place, each
// granule's checksum while its bytes are still in the cache.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/checkpoint_parts.h"
#include "checkpoints/checksum.h"
#include "runtime/progress.h"

// Pieces are small enough that source and destination stay in the second-level cache for the checksum. A thread
// claims several neighbours at once: two threads in one huge page would both zero one, and one is thrown away.
enum { PIECE_BYTES = 256 << 10, MOST_A_CLAIM = 32, THREADS_MAX = 256, REPORT_EVERY_NS = 50000000 };

// A piece of work: consecutive granules of one item of up to PIECE_BYTES together, or one larger granule.
typedef struct piece {
    const oct_load_item *item;
    int32_t first, last;
} piece;

typedef struct load {
    const oct_checkpoint *checkpoint;
    piece *pieces;
    size_t count, claim; // pieces, and how many a thread takes at once
    _Atomic size_t next;
    _Atomic uint64_t bytes;
    _Atomic int status; // first failure: the others stop
    _Atomic int64_t reported_ns;
    void (*progress)(void *context, uint64_t bytes);
    void *context;
} load;

static oct_status read_bytes(const load *l, const oct_tensor *tensor, uint64_t offset, uint8_t *to,
                             uint64_t bytes)
{
    while (bytes) {
        ssize_t got = pread(l->checkpoint->fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return oct_fail(OCT_ERR_FILE, "%s: cannot read %s at byte %llu: %s", l->checkpoint->path,
                            tensor->spec.name, (unsigned long long)offset,
                            got < 0 ? strerror(errno) : "the file is truncated; copy or import it again");
        to += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return OCT_OK;
}

static oct_status damaged(const load *l, const oct_tensor *tensor, int32_t granule)
{
    return oct_fail(OCT_ERR_FILE,
                    "%s is damaged: granule %d of %s does not match its checksum; import the model again",
                    l->checkpoint->path, granule, tensor->spec.name);
}

static void report(load *l, uint64_t bytes)
{
    uint64_t total = atomic_fetch_add(&l->bytes, bytes) + bytes;
    oct_progress_bump();
    if (!l->progress)
        return;
    int64_t now = oct_now_ns(), last = atomic_load(&l->reported_ns);
    if (now - last > REPORT_EVERY_NS && atomic_compare_exchange_strong(&l->reported_ns, &last, now))
        l->progress(l->context, total);
}

// A granule larger than the cache: its checksum follows the reads piece by piece.
static oct_status read_large(load *l, const oct_tensor *tensor, int32_t g, uint8_t *to, bool keep)
{
    XXH3_state_t *stream = XXH3_createState();
    if (!stream)
        return oct_fail(OCT_ERR_MACHINE, "no memory");
    XXH3_64bits_reset(stream);
    uint64_t bytes = tensor->granule_bytes[g + 1] - tensor->granule_bytes[g];
    uint64_t offset = tensor->file_offset + tensor->granule_bytes[g];
    oct_status status = OCT_OK;
    for (uint64_t at = 0; at < bytes && !status; at += PIECE_BYTES) {
        uint64_t n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        uint8_t *place = keep ? to + at : to;
        status = read_bytes(l, tensor, offset + at, place, n);
        if (!status)
            oct_checksum_update(stream, place, n);
        report(l, n);
    }
    if (!status && XXH3_64bits_digest(stream) != tensor->checksums[g])
        status = damaged(l, tensor, g);
    XXH3_freeState(stream);
    return status;
}

static oct_status read_piece(load *l, const piece *p, uint8_t *scratch)
{
    const oct_tensor *tensor = p->item->tensor;
    const uint64_t *offsets = tensor->granule_bytes;
    uint64_t bytes = offsets[p->last] - offsets[p->first], base = offsets[p->item->run.begin];
    uint8_t *kept = p->item->destination, *to = kept ? kept + (offsets[p->first] - base) : scratch;
    if (bytes > PIECE_BYTES)
        return read_large(l, tensor, p->first, to, kept != NULL);
    oct_status status = read_bytes(l, tensor, tensor->file_offset + offsets[p->first], to, bytes);
    for (int32_t g = p->first; g < p->last && !status; g++)
        if (oct_checksum(to + (offsets[g] - offsets[p->first]), offsets[g + 1] - offsets[g]) !=
            tensor->checksums[g])
            status = damaged(l, tensor, g);
    report(l, bytes);
    return status;
}

static void *work(void *argument)
{
    load *l = argument;
    uint8_t *scratch = malloc(PIECE_BYTES);
    oct_status status = scratch ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory");
    while (!status && !atomic_load(&l->status)) {
        size_t first = atomic_fetch_add(&l->next, l->claim), last = first + l->claim;
        if (first >= l->count)
            break;
        for (size_t i = first; i < last && i < l->count && !status; i++)
            status = read_piece(l, &l->pieces[i], scratch);
    }
    int none = OCT_OK;
    if (status)
        atomic_compare_exchange_strong(&l->status, &none, status);
    free(scratch);
    return NULL;
}

static size_t cut_item(const oct_load_item *item, piece *pieces)
{
    const uint64_t *offsets = item->tensor->granule_bytes;
    size_t count = 0;
    for (int32_t first = item->run.begin, last; first < item->run.end; first = last) {
        for (last = first + 1; last < item->run.end && offsets[last + 1] - offsets[first] <= PIECE_BYTES;)
            last++;
        if (pieces)
            pieces[count] = (piece){item, first, last};
        count++;
    }
    return count;
}

static oct_status cut(load *l, const oct_load_item *items, int32_t count, int threads)
{
    for (int32_t i = 0; i < count; i++)
        l->count += cut_item(&items[i], NULL);
    l->pieces = malloc((l->count + 1) * sizeof *l->pieces);
    if (!l->pieces)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the list of reads");
    size_t at = 0;
    for (int32_t i = 0; i < count; i++)
        at += cut_item(&items[i], l->pieces + at);
    size_t share = l->count / (2 * (size_t)threads); // so that a small load is shared too
    l->claim = share < 1 ? 1 : share > MOST_A_CLAIM ? MOST_A_CLAIM : share;
    return OCT_OK;
}

oct_status oct_checkpoint_load(oct_checkpoint *checkpoint, const oct_load_item *items, int32_t count,
                               int threads, void (*progress)(void *context, uint64_t bytes), void *context,
                               oct_load_report *report_out)
{
    load l = {.checkpoint = checkpoint, .progress = progress, .context = context};
    pthread_t helpers[THREADS_MAX];
    int64_t start = oct_now_ns();
    int started = 0, wanted = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
    oct_status status = cut(&l, items, count, wanted);
    if (status)
        return status;
    while (started < wanted - 1 && (size_t)started + 1 < l.count) {
        if (pthread_create(&helpers[started], NULL, work, &l))
            break; // fewer threads read the same
        started++;
    }
    work(&l);
    for (int i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    free(l.pieces);
    status = (oct_status)atomic_load(&l.status);
    if (progress && !status)
        progress(context, atomic_load(&l.bytes));
    if (report_out && !status)
        *report_out = (oct_load_report){atomic_load(&l.bytes), (double)(oct_now_ns() - start) * 1e-9};
    return status;
}
