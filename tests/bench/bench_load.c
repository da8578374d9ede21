// Speed of loading: Octet's loader into the CPU backend, checksums and all, against a loop of preads of the same bytes
// by the same ranks and threads, each into fresh memory in huge pages. The two alternate; a rate is that of all ranks
// from a common start to the last one's end.
//
//   mpirun -np RANKS bench_load MODEL.h5 [THREADS [ROUNDS [PIECE_KIB]]]
//
// PIECE_KIB is that of the preads. Prints the medians and the ratio of the rates, round by round:
// MEDIAN (MIN..MAX). The file should be in the page cache: the first round is for warming and does not count.
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoints/checkpoint.h"
#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"
#include "runtime/bandwidth.h"
#include "runtime/huge_memory.h"
#include "runtime/progress.h"
#include "runtime/step_program.h"

enum { ROUNDS_MAX = 99, THREADS_MAX = 64 };

typedef struct bench {
    oct_checkpoint *checkpoint;
    oct_step_program program;
    oct_encoding *encodings; // of the program's matrices, and bytes of this rank's part of each
    size_t *matrix_bytes;
    oct_load_item *items;
    int32_t *matrix_of_item;
    uint8_t **places; // of the items, for the preads
    int32_t count;
    int threads, fd;
    uint64_t bytes, piece;
} bench;

typedef struct reader {
    const bench *bench;
    uint64_t first, last; // of the rank's bytes
} reader;

static void give_up(const char *what)
{
    fprintf(stderr, "bench_load: %s: %s\n", what, oct_failure_text());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void read_range(const bench *b, uint64_t offset, uint8_t *to, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += b->piece) {
        const size_t n = bytes - at < b->piece ? bytes - at : b->piece;
        if (pread(b->fd, to + at, n, (off_t)(offset + at)) != (ssize_t)n)
            give_up("pread");
    }
}

// Reads the bytes [first, last) of all that the items want, each to its place.
static void *read_plain(void *argument)
{
    const reader *r = argument;
    uint64_t begin = 0;
    for (int32_t i = 0; i < r->bench->count; i++) {
        const oct_load_item *item = &r->bench->items[i];
        const uint64_t bytes = oct_tensor_run_bytes(item->tensor, item->run), end = begin + bytes;
        const uint64_t from = r->first > begin ? r->first : begin, to = r->last < end ? r->last : end;
        if (from < to)
            read_range(r->bench,
                       item->tensor->file_offset + item->tensor->granule_bytes[item->run.begin] + from - begin,
                       r->bench->places[i] + (from - begin), to - from);
        begin = end;
    }
    return NULL;
}

static void load_plain(const bench *b)
{
    pthread_t threads[THREADS_MAX];
    reader readers[THREADS_MAX];
    for (int i = 0; i < b->threads; i++) {
        readers[i] = (reader){b, b->bytes * (uint64_t)i / (uint64_t)b->threads,
                              b->bytes * (uint64_t)(i + 1) / (uint64_t)b->threads};
        if (i > 0 && pthread_create(&threads[i], NULL, read_plain, &readers[i]))
            give_up("no thread");
    }
    read_plain(&readers[0]);
    for (int i = 1; i < b->threads; i++)
        pthread_join(threads[i], NULL);
}

// A backend as the target of a load.
typedef struct load_target {
    const bench *bench;
    oct_backend *backend;
} load_target;

static oct_status place(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes, void **to)
{
    const load_target *l = context;
    return l->backend->kind->place(l->backend, thread, l->bench->matrix_of_item[item], offset, bytes, to);
}

static oct_status accept(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes)
{
    const load_target *l = context;
    return l->backend->kind->accept(l->backend, thread, l->bench->matrix_of_item[item], offset, bytes);
}

static oct_status finish(void *context)
{
    const load_target *l = context;
    return l->backend->kind->finish_load(l->backend);
}

static void load_octet(const bench *b, oct_backend *backend)
{
    load_target into = {b, backend};
    const oct_load_target target = {.context = &into, .place = place, .accept = accept, .finish = finish};
    if (oct_checkpoint_load(b->checkpoint, b->items, b->count, &target, b->threads, NULL, NULL, NULL))
        give_up("load");
}

static oct_backend *create_backend(const bench *b)
{
    static const oct_exchange alone = {.ranks = 1};
    const oct_backend_options options = {.instructions = oct_cpu_level(),
                                         .max_columns = 1,
                                         .max_logit_columns = 1,
                                         .max_sampled_columns = 1,
                                         .context = OCT_PAGE_POSITIONS,
                                         .pages = 1,
                                         .loaders = b->threads,
                                         .piece_bytes = OCT_LOAD_PIECE_BYTES,
                                         .cpu = {.threads = 1}};
    oct_backend *backend;
    if (oct_cpu_backend_kind.create(&backend, &b->program, b->encodings, b->matrix_bytes, NULL, NULL, &alone, &options))
        give_up("the backend");
    return backend;
}

static uint8_t *place_items(const bench *b)
{
    uint8_t *memory;
    if (oct_huge_map(b->bytes + 64 * (size_t)b->count, "the weights", &memory))
        give_up("memory");
    uint8_t *at = memory;
    for (int32_t i = 0; i < b->count; i++) {
        b->places[i] = at;
        at += (oct_tensor_run_bytes(b->items[i].tensor, b->items[i].run) + 63) / 64 * 64;
    }
    return memory;
}

// Seconds since then until the last rank is there.
static double seconds_since(int64_t start)
{
    double seconds = (double)(oct_now_ns() - start) * 1e-9;
    MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return seconds;
}

static double time_plain(const bench *b)
{
    uint8_t *memory = place_items(b);
    MPI_Barrier(MPI_COMM_WORLD);
    const int64_t start = oct_now_ns();
    load_plain(b);
    const double seconds = seconds_since(start);
    oct_huge_unmap(memory, b->bytes + 64 * (size_t)b->count);
    return seconds;
}

static double time_octet(const bench *b)
{
    oct_backend *backend = create_backend(b);
    MPI_Barrier(MPI_COMM_WORLD);
    const int64_t start = oct_now_ns();
    load_octet(b, backend);
    const double seconds = seconds_since(start);
    oct_cpu_backend_kind.destroy(backend);
    return seconds;
}

static void open_shard(bench *b, const char *path, int ranks, int rank)
{
    if (oct_checkpoint_open(&b->checkpoint, path, MPI_COMM_WORLD) ||
        oct_step_program_build(&b->program, oct_checkpoint_model(b->checkpoint), ranks, rank))
        give_up(path);
    b->fd = open(path, O_RDONLY);
    const size_t count = (size_t)b->program.matrix_count;
    b->encodings = calloc(count, sizeof *b->encodings);
    b->matrix_bytes = calloc(count, sizeof *b->matrix_bytes);
    b->items = calloc(count, sizeof *b->items);
    b->matrix_of_item = calloc(count, sizeof *b->matrix_of_item);
    b->places = calloc(count, sizeof *b->places);
    for (int32_t i = 0; i < b->program.matrix_count; i++) {
        const oct_program_matrix *matrix = &b->program.matrices[i];
        const oct_tensor *tensor = oct_checkpoint_matrix(b->checkpoint, matrix->spec.name);
        b->encodings[i] = tensor->encoding;
        b->matrix_bytes[i] = (size_t)oct_tensor_run_bytes(tensor, matrix->granules);
        if (matrix->granules.begin == matrix->granules.end)
            continue;
        b->matrix_of_item[b->count] = i;
        b->items[b->count++] = (oct_load_item){tensor, matrix->granules};
        b->bytes += oct_tensor_run_bytes(tensor, matrix->granules);
    }
}

int main(int argc, char **argv)
{
    int ranks, rank, given;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    const int rounds = argc > 3 ? atoi(argv[3]) : 9;
    bench b = {.threads = argc > 2 ? atoi(argv[2]) : 1, .piece = (uint64_t)(argc > 4 ? atoi(argv[4]) : 1024) << 10};
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || b.threads < 1 || b.threads > THREADS_MAX || b.piece == 0)
        give_up("usage: bench_load MODEL.h5 [THREADS [ROUNDS [PIECE_KIB]]]");
    open_shard(&b, argv[1], ranks, rank);
    double plain[ROUNDS_MAX], octet[ROUNDS_MAX], ratio[ROUNDS_MAX];
    for (int i = -1; i < rounds; i++) {
        const double a = time_plain(&b), c = time_octet(&b);
        if (i < 0)
            continue;
        plain[i] = a;
        octet[i] = c;
        ratio[i] = a / c;
    }
    uint64_t total = b.bytes;
    MPI_Allreduce(MPI_IN_PLACE, &total, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    const double plain_s = oct_percentile(plain, (size_t)rounds, 50);
    const double octet_s = oct_percentile(octet, (size_t)rounds, 50);
    const double middle = oct_percentile(ratio, (size_t)rounds, 50); // sorted by that
    if (rank == 0)
        printf("%.1f MB, %d ranks x %d threads: preads of %llu KiB %.2f GB/s, octet %.2f GB/s, "
               "ratio %.3f (%.3f..%.3f)\n",
               (double)total * 1e-6, ranks, b.threads, (unsigned long long)b.piece >> 10,
               (double)total / plain_s * 1e-9, (double)total / octet_s * 1e-9, middle,
               ratio[0], ratio[rounds - 1]);
    oct_checkpoint_close(b.checkpoint);
    MPI_Finalize();
    return 0;
}
