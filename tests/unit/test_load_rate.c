// Loading reaches at least half the rate of plain preads of the same bytes into the same memory by as many
// threads. The two alternate, so that the machine's moods meet both; medians are compared.
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/writer.h"
#include "runtime/progress.h"
#include "tests/unit/memory_target.h"

enum { ROUNDS = 9, THREADS = 2, PIECE = 1 << 20 };

typedef struct plain {
    int fd;
    uint64_t first, last; // bytes of the file
    uint8_t *to;
} plain;

static void *read_plain(void *argument)
{
    plain *p = argument;
    for (uint64_t at = p->first; at < p->last; at += PIECE) {
        size_t n = p->last - at < PIECE ? p->last - at : PIECE;
        if (pread(p->fd, p->to + at, n, (off_t)at) != (ssize_t)n)
            abort();
    }
    return NULL;
}

static double time_plain(const char *path, uint8_t *memory, uint64_t bytes)
{
    pthread_t threads[THREADS];
    plain parts[THREADS];
    int fd = open(path, O_RDONLY);
    int64_t start = oct_now_ns();
    for (int i = 0; i < THREADS; i++) {
        parts[i] = (plain){fd, bytes * (uint64_t)i / THREADS, bytes * (uint64_t)(i + 1) / THREADS, memory};
        pthread_create(&threads[i], NULL, read_plain, &parts[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    double seconds = (double)(oct_now_ns() - start) * 1e-9;
    close(fd);
    return (double)bytes / seconds;
}

static double time_load(oct_checkpoint *checkpoint, uint8_t *memory, uint64_t *bytes)
{
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    oct_load_item *items = calloc((size_t)count, sizeof *items);
    uint8_t **places = calloc((size_t)count, sizeof *places);
    const oct_load_target target = memory_target(places);
    oct_load_report report;
    for (int32_t i = 0; i < count; i++) {
        items[i] = (oct_load_item){&tensors[i], {0, tensors[i].spec.partition.granules}};
        places[i] = memory;
        memory += (oct_tensor_run_bytes(&tensors[i], items[i].run) + 63) / 64 * 64;
    }
    assert_int_equal(oct_checkpoint_load(checkpoint, items, count, &target, THREADS, NULL, NULL, &report), OCT_OK);
    free(items);
    free(places);
    *bytes = report.bytes;
    return (double)report.bytes / report.seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_rate(void **context)
{
    (void)context;
    char folder[] = "/tmp/octet-test-rate-XXXXXX", path[64];
    oct_source source;
    oct_write_options options = {.encoding = -1};
    oct_checkpoint *checkpoint;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.h5", folder);
    assert_int_equal(oct_source_open_synthetic(&source, "smollm2-135m", 1), OCT_OK);
    assert_int_equal(oct_checkpoint_write(&source, path, &options, NULL), OCT_OK);
    oct_source_close(&source);
    assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
    uint64_t size = oct_checkpoint_file_bytes(checkpoint) + (1 << 20), bytes;
    uint8_t *memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    memset(memory, 1, size);
    double loads[ROUNDS], plains[ROUNDS];
    time_load(checkpoint, memory, &bytes);
    for (int i = 0; i < ROUNDS; i++) {
        plains[i] = time_plain(path, memory, bytes);
        loads[i] = time_load(checkpoint, memory, &bytes);
    }
    qsort(loads, ROUNDS, sizeof *loads, compare);
    qsort(plains, ROUNDS, sizeof *plains, compare);
    double load = loads[ROUNDS / 2], plain_rate = plains[ROUNDS / 2];
    printf("load %.2f GB/s, plain pread %.2f GB/s, ratio %.2f\n", load * 1e-9, plain_rate * 1e-9,
           load / plain_rate);
    oct_checkpoint_close(checkpoint);
    unlink(path);
    rmdir(folder);
    free(memory);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf("not compared: a sanitizer slows one of them\n");
#else
    assert_true(load >= plain_rate / 2);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
