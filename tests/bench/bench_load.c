// Speed of loading: Octet's loader, checksums and all, against a loop of preads of the same bytes by the same
// ranks and threads, each into fresh memory in huge pages. The two alternate; a rate is that of all ranks from a
// common start to the last one's end.
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
#include "runtime/bandwidth.h"
#include "runtime/huge_memory.h"
#include "runtime/progress.h"
#include "runtime/step_program.h"
#include "tests/unit/memory_target.h"

enum { ROUNDS_MAX = 99, THREADS_MAX = 64 };

typedef struct bench {
    oct_checkpoint *checkpoint;
    oct_load_item *items;
    uint8_t **places; // of the items
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

static void load_octet(const bench *b)
{
    const oct_load_target target = memory_target(b->places);
    if (oct_checkpoint_load(b->checkpoint, b->items, b->count, &target, b->threads, NULL, NULL, NULL))
        give_up("load");
}

// Seconds that all ranks need together.
static double time_load(bench *b, void (*load)(const bench *))
{
    uint8_t *memory;
    if (oct_huge_map(b->bytes + 64 * (size_t)b->count, "the weights", &memory))
        give_up("memory");
    uint8_t *at = memory;
    for (int32_t i = 0; i < b->count; i++) {
        b->places[i] = at;
        at += (oct_tensor_run_bytes(b->items[i].tensor, b->items[i].run) + 63) / 64 * 64;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    const int64_t start = oct_now_ns();
    load(b);
    double seconds = (double)(oct_now_ns() - start) * 1e-9;
    MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    oct_huge_unmap(memory, b->bytes + 64 * (size_t)b->count);
    return seconds;
}

static void open_shard(bench *b, const char *path, int ranks, int rank)
{
    static oct_step_program program;
    if (oct_checkpoint_open(&b->checkpoint, path, MPI_COMM_WORLD) ||
        oct_step_program_build(&program, oct_checkpoint_model(b->checkpoint), ranks, rank))
        give_up(path);
    b->fd = open(path, O_RDONLY);
    b->items = calloc((size_t)program.matrix_count, sizeof *b->items);
    b->places = calloc((size_t)program.matrix_count, sizeof *b->places);
    for (int32_t i = 0; i < program.matrix_count; i++) {
        const oct_program_matrix *matrix = &program.matrices[i];
        const oct_tensor *tensor = oct_checkpoint_matrix(b->checkpoint, matrix->spec.name);
        if (matrix->granules.begin == matrix->granules.end)
            continue;
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
        const double a = time_load(&b, load_plain), c = time_load(&b, load_octet);
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
