// Checkpoints: what is written is what is read, by any cut into granules; damage anywhere is noticed.
#include <mpi.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/checksum.h"
#include "checkpoints/layout.h"
#include "checkpoints/two_bits.h"
#include "checkpoints/writer.h"
#include "tests/unit/memory_target.h"

// HDF5 1.10 forgets buffers of its own when it refuses a damaged file; ours are still checked.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

#define GGUF_FILE "golden/tiny/qwen2.gguf"
static char folder[] = "/tmp/octet-test-checkpoint-XXXXXX";
static char path[64], other[64];
static cpu_set_t processors; // of this process when it began

static void write_synthetic(const char *shape, const char *to, int encoding)
{
    oct_source source;
    oct_write_options options = {.encoding = encoding};
    assert_int_equal(oct_source_open_synthetic(&source, shape, 1), OCT_OK);
    assert_int_equal(oct_checkpoint_write(&source, to, &options, NULL), OCT_OK);
    oct_source_close(&source);
}

static uint8_t *read_file(const char *from, size_t *size)
{
    FILE *file = fopen(from, "rb");
    struct stat about;
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &about), 0);
    *size = (size_t)about.st_size;
    uint8_t *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void write_file(const char *to, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(to, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

// All tensor data of a checkpoint, matrices in order; NULL where loading fails.
static uint8_t *load_all(oct_checkpoint *checkpoint, int threads, uint64_t *size)
{
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    oct_load_item *items = calloc((size_t)count, sizeof *items);
    uint8_t **places = calloc((size_t)count, sizeof *places);
    const oct_load_target target = memory_target(places);
    *size = 0;
    for (int32_t i = 0; i < count; i++) {
        items[i] = (oct_load_item){&tensors[i], {0, tensors[i].spec.partition.granules}};
        *size += oct_tensor_run_bytes(&tensors[i], items[i].run);
    }
    uint8_t *all = malloc(*size), *at = all;
    for (int32_t i = 0; i < count; i++) {
        places[i] = at;
        at += oct_tensor_run_bytes(&tensors[i], items[i].run);
    }
    oct_load_report report = {0};
    oct_status status = oct_checkpoint_load(checkpoint, items, count, &target, threads, NULL, NULL, &report);
    free(items);
    free(places);
    if (!status) {
        assert_int_equal(report.bytes, *size);
        return all;
    }
    assert_int_equal(status, OCT_ERR_FILE);
    free(all);
    return NULL;
}

// A row of a matrix out of its bytes [whole matrix], by the layout of granules.
static void decode_row(const oct_tensor *tensor, const uint8_t *bytes, int64_t row, float *out)
{
    for (int32_t g = 0; g < tensor->spec.partition.granules; g++) {
        oct_extent e = oct_granule_extent(&tensor->spec, g);
        if (row < e.first_row || row >= e.last_row)
            continue;
        size_t strip = oct_strip_bytes(tensor->encoding, e.first_column, e.last_column);
        const uint8_t *at = bytes + tensor->granule_bytes[g] + (size_t)((row - e.first_row) / 16) * strip;
        oct_strip_decode_row(tensor->encoding, at, e.first_column, e.last_column,
                             (int)((row - e.first_row) % 16), out + e.first_column);
    }
}

// Every weight of every matrix must be the source's own.
static void compare_with_source(oct_source *source, oct_checkpoint *checkpoint)
{
    uint64_t size;
    uint8_t *all = load_all(checkpoint, 3, &size), *at = all;
    assert_non_null(all);
    oct_tile tile;
    assert_int_equal(oct_tile_make(&tile, 4096), OCT_OK);
    float *expected = malloc(4096 * sizeof *expected), *found = malloc(4096 * sizeof *found);
    for (int32_t i = 0; i < source->count; i++) {
        const oct_tensor_spec *spec = &source->specs[i];
        if (spec->split == OCT_SPLIT_NONE) {
            assert_int_equal(source->read_vector(source, i, expected), OCT_OK);
            const float *vector = oct_checkpoint_vector(checkpoint, spec->name);
            assert_memory_equal(vector, expected, (size_t)spec->rows * sizeof *vector);
            continue;
        }
        const oct_tensor *tensor = oct_checkpoint_matrix(checkpoint, spec->name);
        for (int64_t row = 0; row < spec->rows; row++) {
            if (row % 16 == 0)
                assert_int_equal(source->read_tile(source, i, row / 16, &tile), OCT_OK);
            oct_tile_decode_row(&tile, (int)(row % 16), expected);
            decode_row(tensor, at, row, found);
            assert_memory_equal(found, expected, (size_t)spec->columns * sizeof *found);
        }
        at += tensor->granule_bytes[spec->partition.granules];
    }
    free(expected);
    free(found);
    oct_tile_free(&tile);
    free(all);
}

static void test_round_trip(void **context)
{
    (void)context;
    static const char *const files[] = {"golden/tiny/qwen2.gguf", "golden/tiny/llama-tied.gguf",
                                        "golden/tiny/llama-untied.gguf", "golden/tiny/llama3-rope.gguf",
                                        "golden/tiny/qwen3.gguf"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        oct_source source;
        oct_checkpoint *checkpoint;
        oct_write_options options = {.encoding = -1};
        assert_int_equal(oct_source_open_gguf(&source, files[i]), OCT_OK);
        assert_int_equal(oct_checkpoint_write(&source, path, &options, NULL), OCT_OK);
        assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
        assert_memory_equal(oct_checkpoint_model(checkpoint), &source.model, sizeof source.model);
        const oct_vocabulary *v = oct_checkpoint_vocabulary(checkpoint), *w = &source.vocabulary;
        assert_int_equal(v->tokens.count, w->tokens.count);
        assert_memory_equal(v->tokens.bytes, w->tokens.bytes, w->tokens.offsets[w->tokens.count]);
        assert_memory_equal(v->merges.bytes, w->merges.bytes, w->merges.offsets[w->merges.count]);
        assert_memory_equal(v->types, w->types, (size_t)w->tokens.count * sizeof *v->types);
        assert_string_equal(v->chat_template, w->chat_template);
        assert_true(v->bos == w->bos && v->eos == w->eos && v->add_bos == w->add_bos);
        compare_with_source(&source, checkpoint);
        assert_int_equal(oct_checkpoint_verify(checkpoint, 2, NULL), OCT_OK);
        oct_checkpoint_close(checkpoint);
        oct_source_close(&source);
    }
}

// Re-encoding loses what the target's precision loses and no more.
static void test_reencoding(void **context)
{
    (void)context;
    static const struct {
        oct_encoding encoding;
        double bound; // of the squared error over the squared weights
    } cases[] = {{OCT_F32, 0}, {OCT_BF16, 4e-6}, {OCT_Q8, 1e-4}, {OCT_Q4, 1e-2},
                 {OCT_Q2_K, 9e-2}, {OCT_Q2, 1.2e-1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oct_source source;
        oct_checkpoint *checkpoint;
        oct_write_options options = {.encoding = (int)cases[i].encoding};
        assert_int_equal(oct_source_open_gguf(&source, "golden/tiny/llama3-rope.gguf"), OCT_OK); // F32
        assert_int_equal(oct_checkpoint_write(&source, path, &options, NULL), OCT_OK);
        assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
        uint64_t size;
        uint8_t *all = load_all(checkpoint, 1, &size);
        const oct_tensor *tensor = oct_checkpoint_matrix(checkpoint, "embedding");
        assert_int_equal(tensor->encoding, cases[i].encoding);
        oct_tile tile;
        assert_int_equal(oct_tile_make(&tile, tensor->spec.columns), OCT_OK);
        double error = 0, power = 0;
        float expected[4096], found[4096];
        for (int64_t row = 0; row < tensor->spec.rows; row++) {
            assert_int_equal(source.read_tile(&source, 0, row / 16, &tile), OCT_OK);
            oct_tile_decode_row(&tile, (int)(row % 16), expected);
            decode_row(tensor, all, row, found);
            for (int64_t c = 0; c < tensor->spec.columns; c++) {
                error += (double)((found[c] - expected[c]) * (found[c] - expected[c]));
                power += (double)(expected[c] * expected[c]);
            }
        }
        assert_true(error <= power * cases[i].bound);
        oct_tile_free(&tile);
        free(all);
        oct_checkpoint_close(checkpoint);
        oct_source_close(&source);
    }
}

static void test_same_bytes(void **context)
{
    (void)context;
    size_t a, b;
    write_synthetic("tiny", path, -1);
    write_synthetic("tiny", other, -1);
    uint8_t *first = read_file(path, &a), *second = read_file(other, &b);
    assert_int_equal(a, b);
    assert_memory_equal(first, second, a);
    free(first);
    free(second);
}

// Bits a weight of whole models, and how many of two bits are q2: of wide models none, as all in q2_k take less than
// 2.7 bits; of the small ones a kind or more.
static void test_bits(void **context)
{
    (void)context;
    static const struct {
        const char *shape;
        int q2; // matrices a layer
    } cases[] = {{"smollm2-135m", 4}, {"llama-1.1b", 1}, {"llama-3b", 0}, {"llama-8b", 0}, {"llama-70b", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oct_source source;
        double weights = 0, q4 = 0, two = 0;
        int q2 = 0;
        assert_int_equal(oct_source_open_synthetic(&source, cases[i].shape, 1), OCT_OK);
        oct_encoding *encodings = calloc((size_t)source.count, sizeof *encodings);
        oct_two_bits_choose(source.specs, source.count, encodings);
        for (int32_t t = 0; t < source.count; t++) {
            const oct_tensor_spec *spec = &source.specs[t];
            if (spec->split == OCT_SPLIT_NONE) {
                assert_int_equal(encodings[t], 0);
                continue;
            }
            assert_true(encodings[t] == OCT_Q2_K || encodings[t] == OCT_Q2);
            q2 += encodings[t] == OCT_Q2;
            weights += (double)(spec->rows * spec->columns);
            q4 += 8 * (double)oct_matrix_bytes(spec, OCT_Q4, NULL);
            two += 8 * (double)oct_matrix_bytes(spec, encodings[t], NULL);
        }
        printf("%s: %.4f and %.4f bits a weight\n", cases[i].shape, q4 / weights, two / weights);
        assert_true(q4 <= weights * 4.5 && two <= weights * OCT_TWO_BITS_MOST);
        assert_int_equal(q2, cases[i].q2 * source.model.layers);
        free(encodings);
        oct_source_close(&source);
    }
}

// Any number of threads writes the same bytes, whether tiles are read and quantised or made up.
static void test_writer_threads(void **context)
{
    (void)context;
    static const oct_encoding encodings[] = {OCT_Q4, OCT_Q2};
    for (int synthetic = 0; synthetic < 2; synthetic++)
        for (size_t i = 0; i < sizeof encodings / sizeof encodings[0]; i++) {
            size_t size[2];
            uint8_t *bytes[2];
            for (int run = 0; run < 2; run++) {
                oct_source source;
                oct_write_options options = {.encoding = (int)encodings[i], .threads = run ? 4 : 1};
                assert_int_equal(synthetic ? oct_source_open_synthetic(&source, "tiny", 1)
                                           : oct_source_open_gguf(&source, "golden/tiny/llama3-rope.gguf"),
                                 OCT_OK);
                assert_int_equal(oct_checkpoint_write(&source, path, &options, NULL), OCT_OK);
                oct_source_close(&source);
                bytes[run] = read_file(path, &size[run]);
            }
            assert_int_equal(size[0], size[1]);
            assert_memory_equal(bytes[0], bytes[1], size[0]);
            free(bytes[0]);
            free(bytes[1]);
        }
}

// Threads that encode small matrices end at once: the caller must not be moved in their stead. Many writes, because it
// takes a helper that is faster than the thread that made it.
static void test_writer_moves_no_caller(void **context)
{
    (void)context;
    oct_source source;
    const oct_write_options options = {.encoding = OCT_Q4, .threads = 4};
    for (int i = 0; i < 40; i++) {
        cpu_set_t now;
        assert_int_equal(oct_source_open_synthetic(&source, "tiny", 1), OCT_OK);
        assert_int_equal(oct_checkpoint_write(&source, other, &options, NULL), OCT_OK);
        oct_source_close(&source);
        assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
        assert_true(CPU_EQUAL(&processors, &now));
    }
}

// Runs of granules: any cut of a matrix gives the same bytes, so any number of ranks reads the same model.
static void test_runs(void **context)
{
    (void)context;
    oct_checkpoint *checkpoint;
    uint64_t size;
    write_synthetic("heads-9-3", path, -1);
    assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
    uint8_t *whole = load_all(checkpoint, 1, &size);
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    for (int ranks = 1; ranks <= 10; ranks++) {
        uint8_t *at = whole, *piece = malloc(size);
        uint64_t sum = 0;
        for (int32_t i = 0; i < count; i++)
            for (int rank = 0; rank < ranks; rank++) {
                oct_run run = oct_partition_cut(tensors[i].spec.partition.granules, ranks, rank);
                const oct_load_item item = {&tensors[i], run};
                const oct_load_target target = memory_target(&piece);
                assert_int_equal(oct_checkpoint_load(checkpoint, &item, 1, &target, 1, NULL, NULL, NULL), OCT_OK);
                assert_memory_equal(piece, at, oct_tensor_run_bytes(&tensors[i], run));
                at += oct_tensor_run_bytes(&tensors[i], run);
                sum += oct_tensor_run_bytes(&tensors[i], run);
            }
        assert_int_equal(sum, size);
        free(piece);
    }
    free(whole);
    oct_checkpoint_close(checkpoint);
}

// A target that, like a device, lends each thread a piece of memory and takes what stands in it afterwards.
enum { STAGING_THREADS = 3, STAGED_ITEMS = 2 };
typedef struct staging {
    uint8_t pieces[STAGING_THREADS][OCT_LOAD_PIECE_BYTES];
    uint64_t lent[STAGING_THREADS][3]; // item, offset and bytes of each thread's piece
    uint8_t *taken[STAGED_ITEMS], *times[STAGED_ITEMS]; // [bytes of the item] what came, and how often
    _Atomic int accepted;
    int finished, refuse_at; // refuses so many pieces after the first, -1: none
} staging;

static oct_status lend(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes, void **to)
{
    staging *s = context;
    assert_true(thread >= 0 && thread < STAGING_THREADS && bytes > 0 && bytes <= OCT_LOAD_PIECE_BYTES);
    const uint64_t lent[] = {(uint64_t)item, offset, bytes};
    memcpy(s->lent[thread], lent, sizeof lent);
    memset(s->pieces[thread], 0xEE, OCT_LOAD_PIECE_BYTES);
    *to = s->pieces[thread];
    return OCT_OK;
}

static oct_status take_back(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes)
{
    staging *s = context;
    const uint64_t back[] = {(uint64_t)item, offset, bytes};
    assert_memory_equal(s->lent[thread], back, sizeof back);
    if (atomic_fetch_add(&s->accepted, 1) == s->refuse_at)
        return OCT_ERR_MACHINE;
    memcpy(s->taken[item] + offset, s->pieces[thread], bytes);
    for (size_t i = 0; i < bytes; i++)
        s->times[item][offset + i]++;
    return OCT_OK;
}

static oct_status count_end(void *context)
{
    staging *s = context;
    s->finished++;
    return OCT_OK;
}

static oct_status load_staged(oct_checkpoint *checkpoint, const oct_load_item *items, staging *s, int refuse_at)
{
    const oct_load_target target = {.context = s, .place = lend, .accept = take_back, .finish = count_end};
    for (int i = 0; i < STAGED_ITEMS; i++)
        memset(s->times[i], 0, oct_tensor_run_bytes(items[i].tensor, items[i].run));
    s->accepted = s->finished = 0;
    s->refuse_at = refuse_at;
    return oct_checkpoint_load(checkpoint, items, STAGED_ITEMS, &target, STAGING_THREADS, NULL, NULL, NULL);
}

// Every byte is handed over once, from the piece that was lent for it: small granules together, large ones in parts.
// What does not match its checksum is not handed over, and a refusal ends the load.
static void test_staging(void **context)
{
    (void)context;
    static const uint64_t granules[] = {0, 100000, 200000, 300000, 1000000, 1000010, 1000400};
    enum { GRANULES = sizeof granules / sizeof granules[0] - 1 };
    oct_checkpoint *checkpoint;
    size_t size;
    write_synthetic("heads-28-4", path, OCT_F32);
    uint8_t *file = read_file(path, &size);
    assert_true(size > 1000400);
    assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
    uint64_t checksums[GRANULES];
    for (int g = 0; g < GRANULES; g++)
        checksums[g] = oct_checksum(file + granules[g], granules[g + 1] - granules[g]);
    const oct_tensor tensor = {.spec = {.name = "staged"}, .granule_bytes = granules, .checksums = checksums};
    const oct_load_item items[STAGED_ITEMS] = {{&tensor, {0, GRANULES}}, {&tensor, {2, 5}}};
    staging *s = calloc(1, sizeof *s);
    for (int i = 0; i < STAGED_ITEMS; i++) {
        s->taken[i] = malloc(1000400);
        s->times[i] = malloc(1000400);
    }
    assert_int_equal(load_staged(checkpoint, items, s, -1), OCT_OK);
    assert_int_equal(s->finished, 1);
    for (int i = 0; i < STAGED_ITEMS; i++) {
        const uint64_t begin = granules[items[i].run.begin], bytes = oct_tensor_run_bytes(&tensor, items[i].run);
        assert_memory_equal(s->taken[i], file + begin, bytes);
        for (uint64_t at = 0; at < bytes; at++)
            assert_int_equal(s->times[i][at], 1);
    }
    assert_int_equal(load_staged(checkpoint, items, s, 2), OCT_ERR_MACHINE);
    assert_int_equal(s->finished, 0);
    checksums[0]++;
    assert_int_equal(load_staged(checkpoint, items, s, -1), OCT_ERR_FILE);
    assert_true(strstr(oct_failure_text(), "granule 0 of staged") != NULL);
    assert_int_equal(s->finished, 0);
    assert_int_equal(s->times[0][0], 0);
    oct_failure_clear();
    for (int i = 0; i < STAGED_ITEMS; i++) {
        free(s->taken[i]);
        free(s->times[i]);
    }
    free(s);
    free(file);
    oct_checkpoint_close(checkpoint);
}

// What a checkpoint gives its readers, as one checksum-like string of bytes.
typedef struct contents {
    uint8_t *data;
    uint64_t size;
} contents;

static bool take_contents(const char *from, contents *out)
{
    oct_checkpoint *checkpoint;
    oct_failure_clear();
    oct_status status = oct_checkpoint_open(&checkpoint, from, MPI_COMM_NULL);
    if (status) {
        assert_int_equal(status, OCT_ERR_FILE);
        assert_true(strlen(oct_failure_text()) > 10);
        return false;
    }
    status = oct_checkpoint_verify(checkpoint, 1, NULL);
    uint8_t *all = status ? NULL : load_all(checkpoint, 1, &out->size);
    if (all) {
        char *model = oct_model_to_json(oct_checkpoint_model(checkpoint));
        const oct_vocabulary *v = oct_checkpoint_vocabulary(checkpoint);
        size_t extra = strlen(model), tokens = v->tokens.offsets[v->tokens.count];
        all = realloc(all, out->size + extra + tokens);
        memcpy(all + out->size, model, extra);
        memcpy(all + out->size + extra, v->tokens.bytes, tokens);
        out->size += extra + tokens;
        free(model);
    }
    out->data = all;
    oct_checkpoint_close(checkpoint);
    return all != NULL;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { DENSE_BYTES = 512, STRIDE = 997 };
#else
enum { DENSE_BYTES = 4096, STRIDE = 211 };
#endif

// A flip of any byte is noticed, or changes nothing that a reader gets: every byte of the beginning, then
// samples.
static void test_flips(void **context)
{
    (void)context;
    size_t size, harmless = 0, noticed = 0;
    write_synthetic("tiny", path, -1);
    uint8_t *bytes = read_file(path, &size);
    contents good, bad;
    assert_true(take_contents(path, &good));
    uint32_t random = 12345;
    FILE *file = fopen(path, "r+b");
    setvbuf(file, NULL, _IONBF, 0);
    for (size_t at = 0; at < size; at += at < DENSE_BYTES ? 1 : 1 + (random >> 8) % STRIDE) {
        random = random * 1664525u + 1013904223u;
        uint8_t flipped = bytes[at] ^ (uint8_t)(1u << (random >> 29));
        fseek(file, (long)at, SEEK_SET);
        fputc(flipped, file);
        if (take_contents(path, &bad)) {
            harmless++;
            assert_int_equal(bad.size, good.size);
            assert_memory_equal(bad.data, good.data, good.size);
            free(bad.data);
        } else {
            noticed++;
        }
        fseek(file, (long)at, SEEK_SET);
        fputc(bytes[at], file);
    }
    fclose(file);
    printf("%zu flips noticed, %zu harmless\n", noticed, harmless);
    assert_true(noticed > 10 * harmless);
    oct_failure_clear();
    free(good.data);
    free(bytes);
}

static void test_truncation(void **context)
{
    (void)context;
    size_t size;
    contents got;
    write_synthetic("tiny", path, -1);
    uint8_t *bytes = read_file(path, &size);
    for (int tenth = 0; tenth <= 100; tenth++) {
        size_t cut = size * (size_t)tenth / 100 - (tenth == 100);
        write_file(other, bytes, cut);
        assert_false(take_contents(other, &got));
    }
    oct_failure_clear();
    free(bytes);
}

static void expect_refusal(const char *from, const char *word)
{
    oct_checkpoint *checkpoint;
    oct_failure_clear();
    assert_int_equal(oct_checkpoint_open(&checkpoint, from, MPI_COMM_NULL), OCT_ERR_FILE);
    if (!strstr(oct_failure_text(), word))
        fail_msg("\"%s\" does not say \"%s\"", oct_failure_text(), word);
    oct_failure_clear();
}

static void test_refusals(void **context)
{
    (void)context;
    expect_refusal("/nonexistent", "No such file");
    expect_refusal("/tmp", "directory");
    expect_refusal(GGUF_FILE, "octet import");
    write_file(other, (const uint8_t *)"", 0);
    expect_refusal(other, "no checkpoint");
    write_file(other, (const uint8_t *)"hello, this is a text", 21);
    expect_refusal(other, "no checkpoint");
}

// A matrix whose checksum fails is named.
static void test_named_damage(void **context)
{
    (void)context;
    oct_checkpoint *checkpoint;
    write_synthetic("tiny", path, -1);
    assert_int_equal(oct_checkpoint_open(&checkpoint, path, MPI_COMM_NULL), OCT_OK);
    const oct_tensor *tensor = oct_checkpoint_matrix(checkpoint, "layers.1.down");
    FILE *file = fopen(path, "r+b");
    fseek(file, (long)(tensor->file_offset + tensor->granule_bytes[3] + 5), SEEK_SET);
    fputc(~fgetc(file), file);
    fclose(file);
    oct_failure_clear();
    assert_int_equal(oct_checkpoint_verify(checkpoint, 2, NULL), OCT_ERR_FILE);
    assert_non_null(strstr(oct_failure_text(), "granule 3 of layers.1.down"));
    oct_failure_clear();
    oct_checkpoint_close(checkpoint);
}

static int set_up(void **context)
{
    (void)context;
    if (sched_getaffinity(0, sizeof processors, &processors) != 0 || !mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/a.h5", folder);
    snprintf(other, sizeof other, "%s/b.h5", folder);
    return 0;
}

static int tear_down(void **context)
{
    (void)context;
    unlink(path);
    unlink(other);
    return rmdir(folder); // fails where a .part was left behind
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_reencoding),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_writer_threads),
        cmocka_unit_test(test_writer_moves_no_caller),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_staging),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_named_damage),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
