// The writer of checkpoints. HDF5 lays out the file; it never meets a full disk, because the space is
// reserved before the first tensor where the file system can do that.
#include "checkpoints/writer.h"

#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/checksum.h"
#include "checkpoints/config.h"
#include "checkpoints/layout.h"
#include "checkpoints/part_file.h"
#include "checkpoints/sections.h"
#include "checkpoints/two_bits.h"
#include "runtime/progress.h"

enum { THREADS_MAX = 64 };
enum { ALIGN_FROM = 1 << 20, ALIGN_TO = 4096, OBJECT_BYTES = 1024, SLACK_BYTES = 1 << 20 };

typedef struct writer {
    oct_source *source;
    const oct_write_options *options;
    char *part; // NAME.part, owned
    int fd;     // of the same file: reserving and syncing
    hid_t file;
    oct_encoding *targets; // of the matrices
    oct_catalogue_row *rows;
    oct_granule_row *granules;
    float *vectors;
    uint64_t granule_count, vector_count; // so far
    uint64_t total_bytes, written_bytes;  // of matrices
    int64_t widest;                       // columns of any matrix
} writer;

// A matrix while its tiles are encoded, by several threads.
typedef struct encoding_job {
    writer *writer;
    int32_t index;
    const uint64_t *offsets; // of its granules
    uint8_t *out;
    pthread_mutex_t reading; // the source reads one tile at a time
    _Atomic int64_t next;    // tile
    _Atomic int helpers;     // that have begun
    _Atomic int status;      // first failure: the others stop
} encoding_job;

// What a thread of it has for itself.
typedef struct encoder {
    encoding_job *job;
    oct_tile tile, target;
    float *row; // decoded
} encoder;

static oct_status cannot_write(const writer *w, int code)
{
    return oct_fail(OCT_ERR_FILE, "cannot write %s: %s", w->part, code ? strerror(code) : "HDF5 refuses");
}

// Encodes the strip of one tile that has been read (or is made up) over [first, last).
static void encode_strip(encoder *e, int64_t tile, int64_t first, int64_t last, uint8_t *out)
{
    writer *w = e->job->writer;
    oct_encoding encoding = w->targets[e->job->index];
    if (w->source->make_strip)
        w->source->make_strip(w->source, e->job->index, tile, encoding, first, last, out);
    else
        oct_tile_pack(e->tile.encoding == encoding ? &e->tile : &e->target, first, last, out);
}

static oct_status prepare_tile(encoder *e, int64_t tile)
{
    encoding_job *job = e->job;
    oct_source *source = job->writer->source;
    oct_encoding encoding = job->writer->targets[job->index];
    oct_progress_bump();
    if (source->make_strip)
        return OCT_OK;
    pthread_mutex_lock(&job->reading);
    oct_status status = source->read_tile(source, job->index, tile, &e->tile);
    pthread_mutex_unlock(&job->reading);
    if (status || e->tile.encoding == encoding)
        return status;
    oct_tile_reset(&e->target, encoding);
    for (int row = 0; row < OCT_TILE_ROWS; row++) {
        oct_tile_decode_row(&e->tile, row, e->row);
        oct_tile_quantise_row(&e->target, row, e->row);
    }
    return OCT_OK;
}

// Granules of a matrix split by rows hold whole tiles; of one split along K, a strip of every tile.
static void place_tile(encoder *e, int64_t tile)
{
    const encoding_job *job = e->job;
    const oct_tensor_spec *spec = &job->writer->source->specs[job->index];
    oct_encoding encoding = job->writer->targets[job->index];
    for (int32_t g = 0; g < spec->partition.granules; g++) {
        oct_extent part = oct_granule_extent(spec, g);
        if (tile * OCT_TILE_ROWS < part.first_row || tile * OCT_TILE_ROWS >= part.last_row)
            continue;
        uint64_t strip = oct_strip_bytes(encoding, part.first_column, part.last_column);
        int64_t inside = tile - part.first_row / OCT_TILE_ROWS;
        encode_strip(e, tile, part.first_column, part.last_column,
                     job->out + job->offsets[g] + (uint64_t)inside * strip);
    }
}

static void *encode_tiles(void *argument)
{
    encoding_job *job = argument;
    encoder e = {.job = job};
    int64_t tiles = oct_tile_count(job->writer->source->specs[job->index].rows), tile;
    oct_status status = oct_tile_make(&e.tile, job->writer->widest);
    if (!status)
        status = oct_tile_make(&e.target, job->writer->widest);
    e.row = malloc((size_t)oct_pad_columns(job->writer->widest) * sizeof *e.row);
    if (!status && !e.row)
        status = oct_fail(OCT_ERR_MACHINE, "no memory for a row");
    while (!status && !atomic_load(&job->status) && (tile = atomic_fetch_add(&job->next, 1)) < tiles) {
        status = prepare_tile(&e, tile);
        if (!status)
            place_tile(&e, tile);
    }
    int none = OCT_OK;
    if (status)
        atomic_compare_exchange_strong(&job->status, &none, status);
    oct_tile_free(&e.tile);
    oct_tile_free(&e.target);
    free(e.row);
    return NULL;
}

// Leaves the calling thread the processor number `which` of those that this process may use. Linux starts a thread
// beside the one that made it and would not move it in the time that a matrix takes: measured, two threads on one
// processor.
static void spread(int which)
{
    cpu_set_t allowed, own;
    if (sched_getaffinity(0, sizeof allowed, &allowed) || which >= CPU_COUNT(&allowed))
        return;
    size_t cpu = 0;
    for (int left = which; !CPU_ISSET(cpu, &allowed) || left-- > 0;)
        cpu++;
    CPU_ZERO(&own);
    CPU_SET(cpu, &own);
    sched_setaffinity(0, sizeof own, &own);
}

// A helper moves itself: pthread_setaffinity_np() of one that has already ended moves the caller, for good (glibc 2.36).
static void *help(void *argument)
{
    encoding_job *job = argument;
    spread(atomic_fetch_add(&job->helpers, 1));
    return encode_tiles(job);
}

static oct_status encode_matrix(writer *w, int32_t index, const uint64_t *offsets, uint8_t *out)
{
    encoding_job job = {.writer = w, .index = index, .offsets = offsets, .out = out};
    pthread_t helpers[THREADS_MAX];
    int started = 0, wanted = w->options->threads < THREADS_MAX ? w->options->threads : THREADS_MAX;
    pthread_mutex_init(&job.reading, NULL);
    // This thread only waits, as it may stand on any helper's processor.
    while (wanted > 1 && started < wanted && !pthread_create(&helpers[started], NULL, help, &job))
        started++; // fewer threads write the same
    if (started == 0)
        encode_tiles(&job);
    for (int i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    pthread_mutex_destroy(&job.reading);
    return (oct_status)atomic_load(&job.status);
}

// Creates the dataset of a matrix, writes it, and tells where it lies in the file.
static oct_status write_dataset(writer *w, const char *name, const uint8_t *bytes, uint64_t size,
                                uint64_t *offset)
{
    char path[96];
    snprintf(path, sizeof path, "/tensors/%s", name);
    hsize_t extent = size;
    hid_t space = H5Screate_simple(1, &extent, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(create, false);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    errno = 0;
    hid_t dataset = H5Dcreate2(w->file, path, H5T_STD_U8LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    bool good = dataset >= 0;
    haddr_t address = good ? H5Dget_offset(dataset) : HADDR_UNDEF;
    good = good && address != HADDR_UNDEF &&
           H5Dwrite(dataset, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) >= 0;
    int code = errno;
    if (dataset >= 0)
        good = H5Dclose(dataset) >= 0 && good;
    H5Pclose(create);
    H5Sclose(space);
    *offset = address;
    return good ? OCT_OK : cannot_write(w, code);
}

static void fill_row(const writer *w, int32_t index, oct_catalogue_row *row)
{
    static const char *const splits[] = {"vector", "rows", "columns"};
    const oct_tensor_spec *spec = &w->source->specs[index];
    bool vector = spec->split == OCT_SPLIT_NONE;
    oct_encoding encoding = vector ? OCT_F32 : w->targets[index];
    memcpy(row->name, spec->name, sizeof row->name);
    memcpy(row->source, w->source->tensors[index].type, sizeof row->source);
    snprintf(row->encoding, sizeof row->encoding, "%s", oct_encoding_describe(encoding)->name);
    snprintf(row->split, sizeof row->split, "%s", splits[spec->split]);
    row->rows = spec->rows;
    row->columns = spec->columns;
    row->units = spec->partition.units;
    row->unit_size = spec->partition.unit_size;
    row->granules = (uint64_t)spec->partition.granules;
    row->first = vector ? w->vector_count : w->granule_count;
}

static oct_status write_matrix(writer *w, int32_t index)
{
    const oct_tensor_spec *spec = &w->source->specs[index];
    oct_catalogue_row *row = &w->rows[index];
    uint64_t offsets[OCT_MAX_VOCABULARY_GRANULES + 1], *all = offsets;
    if (spec->partition.granules > OCT_MAX_VOCABULARY_GRANULES)
        all = malloc(((size_t)spec->partition.granules + 1) * sizeof *all);
    fill_row(w, index, row);
    row->bytes = oct_matrix_bytes(spec, w->targets[index], all);
    uint8_t *bytes = calloc(1, row->bytes);
    oct_status status = bytes ? encode_matrix(w, index, all, bytes)
                              : oct_fail(OCT_ERR_MACHINE, "no memory for the %llu bytes of %s",
                                         (unsigned long long)row->bytes, spec->name);
    for (uint64_t g = 0; g < row->granules && !status; g++)
        w->granules[w->granule_count++] =
            (oct_granule_row){.offset = all[g],
                              .bytes = all[g + 1] - all[g],
                              .xxh3 = oct_checksum(bytes + all[g], all[g + 1] - all[g])};
    if (!status)
        status = write_dataset(w, spec->name, bytes, row->bytes, &row->file_offset);
    free(bytes);
    if (all != offsets)
        free(all);
    w->written_bytes += row->bytes;
    if (!status && w->options->progress)
        w->options->progress(w->options->context, w->written_bytes, w->total_bytes);
    return status;
}

static oct_status write_tensors(writer *w)
{
    oct_status status = OCT_OK;
    for (int32_t i = 0; i < w->source->count && !status; i++) {
        const oct_tensor_spec *spec = &w->source->specs[i];
        if (spec->split != OCT_SPLIT_NONE) {
            status = write_matrix(w, i);
            continue;
        }
        fill_row(w, i, &w->rows[i]);
        w->rows[i].bytes = (uint64_t)spec->rows * sizeof(float);
        status = w->source->read_vector(w->source, i, w->vectors + w->vector_count);
        w->vector_count += (uint64_t)spec->rows;
    }
    return status;
}

static oct_status write_sections(writer *w)
{
    oct_blob sections[OCT_SECTION_COUNT] = {0};
    const char *encoding =
        w->options->encoding < 0 ? "keep" : oct_encoding_describe((oct_encoding)w->options->encoding)->name;
    oct_status status = oct_config_write(&w->source->model, &w->source->vocabulary, w->source->provenance,
                                         encoding, sections);
    sections[OCT_SECTION_CATALOGUE] = (oct_blob){w->rows, (uint64_t)w->source->count * sizeof *w->rows};
    sections[OCT_SECTION_GRANULES] = (oct_blob){w->granules, w->granule_count * sizeof *w->granules};
    sections[OCT_SECTION_VECTORS] = (oct_blob){w->vectors, w->vector_count * sizeof *w->vectors};
    if (!status)
        status = oct_sections_write(w->file, sections);
    w->rows = NULL; // freed with the sections
    w->granules = NULL;
    w->vectors = NULL;
    oct_sections_free(sections);
    return status;
}

static oct_status choose_targets(writer *w)
{
    const oct_source *source = w->source;
    const int encoding = w->options->encoding;
    w->targets = calloc((size_t)source->count, sizeof *w->targets);
    if (!w->targets)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the list of encodings");
    for (int32_t i = 0; i < source->count; i++)
        w->targets[i] = encoding < 0 ? source->tensors[i].encoding : (oct_encoding)encoding;
    if (encoding == OCT_Q2)
        oct_two_bits_choose(source->specs, source->count, w->targets);
    return OCT_OK;
}

// Takes memory for the tables and adds up what the file will hold.
static oct_status prepare(writer *w, uint64_t *file_bytes)
{
    const oct_source *source = w->source;
    uint64_t granules = 0, vectors = 0;
    w->widest = OCT_COLUMN_MULTIPLE;
    *file_bytes = SLACK_BYTES;
    for (int32_t i = 0; i < source->count; i++) {
        const oct_tensor_spec *spec = &source->specs[i];
        *file_bytes += OBJECT_BYTES + sizeof *w->rows;
        if (spec->split == OCT_SPLIT_NONE) {
            vectors += (uint64_t)spec->rows;
            continue;
        }
        uint64_t bytes = oct_matrix_bytes(spec, w->targets[i], NULL);
        granules += (uint64_t)spec->partition.granules;
        w->total_bytes += bytes;
        *file_bytes += bytes + (bytes >= ALIGN_FROM ? ALIGN_TO : 0);
        w->widest = spec->columns > w->widest ? spec->columns : w->widest;
    }
    const oct_vocabulary *v = &source->vocabulary;
    *file_bytes += granules * sizeof *w->granules + vectors * 4 + (uint64_t)v->tokens.count * 24 +
                   (uint64_t)v->merges.count * 8 +
                   (v->tokens.count ? v->tokens.offsets[v->tokens.count] : 0) +
                   (v->merges.count ? v->merges.offsets[v->merges.count] : 0);
    w->rows = calloc((size_t)source->count, sizeof *w->rows);
    w->granules = calloc(granules, sizeof *w->granules);
    w->vectors = calloc(vectors, sizeof *w->vectors);
    if (!w->rows || !w->granules || !w->vectors)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the catalogue");
    return OCT_OK;
}

// Metadata with checksums (object headers of version 2 and later), large datasets aligned, nothing that
// differs between two runs.
static oct_status create_file(writer *w)
{
    oct_hdf5_quiet();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE),
          group = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_fapl_sec2(access);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, false, true); // locked by oct_part_take
#endif
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
    H5Pset_alignment(access, ALIGN_FROM, ALIGN_TO);
    H5Pset_obj_track_times(create, false);
    H5Pset_obj_track_times(group, false);
    errno = 0;
    w->file = H5Fcreate(w->part, H5F_ACC_TRUNC, create, access);
    int code = errno;
    bool good = w->file >= 0;
    static const char *const groups[] = {"/tensors", "/vocabulary"};
    for (int i = 0; i < 2 && good; i++) {
        hid_t made = H5Gcreate2(w->file, groups[i], H5P_DEFAULT, group, H5P_DEFAULT);
        good = made >= 0 && H5Gclose(made) >= 0;
    }
    H5Pclose(group);
    H5Pclose(create);
    H5Pclose(access);
    return good ? OCT_OK : cannot_write(w, code);
}

static oct_status close_file(writer *w)
{
    errno = 0;
    bool good = H5Fclose(w->file) >= 0;
    w->file = -1;
    return good ? OCT_OK : cannot_write(w, errno);
}

static oct_status write_file(writer *w, const char *path, uint64_t *file_bytes)
{
    uint64_t needed;
    oct_status status = choose_targets(w);
    if (!status)
        status = prepare(w, &needed);
    if (!status)
        status = oct_part_take(w->part, &w->fd);
    if (!status)
        status = oct_part_reserve(w->part, w->fd, needed); // before HDF5 has anything to lose
    if (!status)
        status = create_file(w);
    if (!status)
        status = oct_part_reserve(w->part, w->fd, needed); // again: creating has cut the file off
    if (!status)
        status = write_tensors(w);
    if (!status)
        status = write_sections(w);
    if (!status)
        status = close_file(w);
    return status ? status : oct_part_finish(w->part, w->fd, path, file_bytes);
}

static oct_status check_target(const char *path, char **part)
{
    struct stat about;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode))
        return oct_fail(OCT_ERR_FILE, "%s is %s; expected the name of a file to write", path,
                        S_ISDIR(about.st_mode) ? "a directory" : "no regular file");
    *part = malloc(strlen(path) + 6);
    if (!*part)
        return oct_fail(OCT_ERR_MACHINE, "no memory");
    strcat(strcpy(*part, path), ".part");
    return OCT_OK;
}

oct_status oct_checkpoint_write(oct_source *source, const char *path, const oct_write_options *options,
                                oct_write_report *report)
{
    writer w = {.source = source, .options = options, .fd = -1, .file = -1};
    oct_status status = check_target(path, &w.part);
    if (status)
        return status;
    int64_t start = oct_now_ns();
    uint64_t file_bytes = 0, weights = 0;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN); // a file size limit is an error like a full disk
    status = write_file(&w, path, &file_bytes);
    if (w.file >= 0)
        H5Fclose(w.file);
    if (status && w.fd >= 0)
        unlink(w.part);
    if (w.fd >= 0)
        close(w.fd);
    signal(SIGXFSZ, before);
    for (int32_t i = 0; i < source->count; i++)
        if (source->specs[i].split != OCT_SPLIT_NONE)
            weights += (uint64_t)(source->specs[i].rows * source->specs[i].columns);
    if (!status && report)
        *report =
            (oct_write_report){w.total_bytes, weights, file_bytes, (double)(oct_now_ns() - start) * 1e-9};
    free(w.targets);
    free(w.rows);
    free(w.granules);
    free(w.vectors);
    free(w.part);
    return status;
}
