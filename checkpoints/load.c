// Reading tensor data: pread at the offsets of the catalogue by several threads, straight into the place that the
// target names, each granule's checksum while its bytes are still in the cache.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/checkpoint_parts.h"
#include "checkpoints/checksum.h"
#include "runtime/progress.h"

// A thread claims several neighbouring pieces at once: two threads in one huge page would both zero one, and one is
// thrown away.
enum { PIECE_BYTES = OCT_LOAD_PIECE_BYTES, MOST_A_CLAIM = 32, REPORT_EVERY_NS = 50000000 };

// A piece of work: consecutive granules of one item of up to PIECE_BYTES together, or one larger granule.
typedef struct piece {
    int32_t item;
    int32_t first, last;
} piece;

typedef struct load {
    const oct_checkpoint *checkpoint;
    const oct_load_item *items;
    const oct_load_target *target; // or NULL
    piece *pieces;
    size_t count, claim; // pieces, and how many a thread takes at once
    _Atomic size_t next;
    _Atomic uint64_t bytes;
    _Atomic int status; // first failure: the others stop
    _Atomic int64_t reported_ns;
    void (*progress)(void *context, uint64_t bytes);
    void *context;
} load;

// A thread that reads. Where there is no target everything goes to scratch [PIECE_BYTES].
typedef struct reader {
    load *load;
    pthread_t handle;
    int32_t number;
    uint8_t *scratch;
} reader;

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

// Bytes [begin, begin + bytes) of a tensor's granules to where the target wants them, *to.
static oct_status read_to_place(const reader *r, const piece *p, uint64_t begin, uint64_t bytes, void **to)
{
    const load *l = r->load;
    const oct_load_item *item = &l->items[p->item];
    oct_status status = OCT_OK;
    *to = r->scratch;
    if (l->target != NULL)
        status = l->target->place(l->target->context, r->number, p->item,
                                  begin - item->tensor->granule_bytes[item->run.begin], bytes, to);
    if (status == OCT_OK)
        status = read_bytes(l, item->tensor, item->tensor->file_offset + begin, *to, bytes);
    return status;
}

static oct_status accept(const reader *r, const piece *p, uint64_t begin, uint64_t bytes)
{
    const oct_load_target *target = r->load->target;
    const oct_load_item *item = &r->load->items[p->item];
    report(r->load, bytes);
    if (target == NULL || target->accept == NULL)
        return OCT_OK;
    return target->accept(target->context, r->number, p->item,
                          begin - item->tensor->granule_bytes[item->run.begin], bytes);
}

// A granule larger than the cache: its checksum follows the reads piece by piece.
static oct_status read_large(const reader *r, const piece *p)
{
    const oct_tensor *tensor = r->load->items[p->item].tensor;
    XXH3_state_t *stream = XXH3_createState();
    if (!stream)
        return oct_fail(OCT_ERR_MACHINE, "no memory");
    XXH3_64bits_reset(stream);
    const uint64_t end = tensor->granule_bytes[p->last];
    oct_status status = OCT_OK;
    for (uint64_t at = tensor->granule_bytes[p->first]; at < end && !status; at += PIECE_BYTES) {
        uint64_t n = end - at < PIECE_BYTES ? end - at : PIECE_BYTES;
        void *to;
        status = read_to_place(r, p, at, n, &to);
        if (!status) {
            oct_checksum_update(stream, to, n);
            status = accept(r, p, at, n);
        }
    }
    if (!status && XXH3_64bits_digest(stream) != tensor->checksums[p->first])
        status = damaged(r->load, tensor, p->first);
    XXH3_freeState(stream);
    return status;
}

static oct_status read_piece(const reader *r, const piece *p)
{
    const oct_tensor *tensor = r->load->items[p->item].tensor;
    const uint64_t *offsets = tensor->granule_bytes;
    const uint64_t begin = offsets[p->first], bytes = offsets[p->last] - begin;
    void *to;
    if (bytes > PIECE_BYTES)
        return read_large(r, p);
    oct_status status = read_to_place(r, p, begin, bytes, &to);
    for (int32_t g = p->first; g < p->last && !status; g++)
        if (oct_checksum((const uint8_t *)to + (offsets[g] - begin), offsets[g + 1] - offsets[g]) !=
            tensor->checksums[g])
            status = damaged(r->load, tensor, g);
    return status ? status : accept(r, p, begin, bytes);
}

static void *work(void *argument)
{
    reader *r = argument;
    load *l = r->load;
    oct_status status = OCT_OK;
    if (l->target == NULL && (r->scratch = malloc(PIECE_BYTES)) == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory");
    while (!status && !atomic_load(&l->status)) {
        size_t first = atomic_fetch_add(&l->next, l->claim), last = first + l->claim;
        if (first >= l->count)
            break;
        for (size_t i = first; i < last && i < l->count && !status; i++)
            status = read_piece(r, &l->pieces[i]);
    }
    int none = OCT_OK;
    if (status)
        atomic_compare_exchange_strong(&l->status, &none, status);
    free(r->scratch);
    return NULL;
}

static size_t cut_item(const load *l, int32_t number, piece *pieces)
{
    const oct_load_item *item = &l->items[number];
    const uint64_t *offsets = item->tensor->granule_bytes;
    size_t count = 0;
    for (int32_t first = item->run.begin, last; first < item->run.end; first = last) {
        for (last = first + 1; last < item->run.end && offsets[last + 1] - offsets[first] <= PIECE_BYTES;)
            last++;
        if (pieces)
            pieces[count] = (piece){number, first, last};
        count++;
    }
    return count;
}

static oct_status cut(load *l, int32_t count, int threads)
{
    for (int32_t i = 0; i < count; i++)
        l->count += cut_item(l, i, NULL);
    l->pieces = malloc((l->count + 1) * sizeof *l->pieces);
    if (!l->pieces)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the list of reads");
    size_t at = 0;
    for (int32_t i = 0; i < count; i++)
        at += cut_item(l, i, l->pieces + at);
    size_t share = l->count / (2 * (size_t)threads); // so that a small load is shared too
    l->claim = share < 1 ? 1 : share > MOST_A_CLAIM ? MOST_A_CLAIM : share;
    return OCT_OK;
}

oct_status oct_checkpoint_load(oct_checkpoint *checkpoint, const oct_load_item *items, int32_t count,
                               const oct_load_target *target, int threads,
                               void (*progress)(void *context, uint64_t bytes), void *context,
                               oct_load_report *report_out)
{
    load l = {.checkpoint = checkpoint, .items = items, .target = target, .progress = progress, .context = context};
    reader readers[OCT_LOAD_THREADS];
    int64_t start = oct_now_ns();
    int started = 1, wanted = threads < 1 ? 1 : threads > OCT_LOAD_THREADS ? OCT_LOAD_THREADS : threads;
    oct_status status = cut(&l, count, wanted);
    if (status)
        return status;
    readers[0] = (reader){.load = &l};
    while (started < wanted && (size_t)started < l.count) {
        readers[started] = (reader){.load = &l, .number = started};
        if (pthread_create(&readers[started].handle, NULL, work, &readers[started]))
            break; // fewer threads read the same
        started++;
    }
    work(&readers[0]);
    for (int i = 1; i < started; i++)
        pthread_join(readers[i].handle, NULL);
    free(l.pieces);
    status = (oct_status)atomic_load(&l.status);
    if (!status && target != NULL && target->finish != NULL)
        status = target->finish(target->context);
    if (progress && !status)
        progress(context, atomic_load(&l.bytes));
    if (report_out && !status)
        *report_out = (oct_load_report){atomic_load(&l.bytes), (double)(oct_now_ns() - start) * 1e-9};
    return status;
}
