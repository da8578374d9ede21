// The CPU backend without MPI and without a file: the ranks of a group are threads of this process, each with a
// backend and a thread team of its own, and the exchange between them is a pair of arrays with random delays (held by
// the main threads or by whole teams). The
// logits of a prompt must have the same bits for every number of ranks, threads and columns a step, for models whose
// heads and columns do not divide evenly. Built with -fsanitize=thread this is also the race test of the team and of
// the reduction.
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"
#include "runtime/step_program.h"

enum { CONTEXT = 320, PROMPT = 300, KEPT = 24, MAX_RANKS = 10, MAX_THREADS = 3, PIECE = 1000 };

static uint64_t random_state;

static uint32_t next_random(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static float random_weight(float scale)
{
    return ((float)next_random() / 2147483648.0f - 0.5f) * scale;
}

// --- An exchange between threads --------------------------------------------------------------------------------

typedef struct hub {
    int32_t ranks, threads;
    size_t stride;
    uint8_t *slots; // [2][ranks][stride]
    atomic_ullong published[MAX_RANKS][MAX_THREADS];
} hub;

// A rank at the hub.
typedef struct seat {
    hub *hub;
    int32_t rank;
    uint64_t round[MAX_THREADS];
    unsigned delays[MAX_THREADS]; // seeds of the random delays
    size_t begun_bytes;           // of the round in progress
    int32_t parts, most_parts;
} seat;

static void *seat_slot(void *context, int32_t thread)
{
    seat *s = context;
    return s->hub->slots + ((s->round[thread] & 1) * (size_t)s->hub->ranks + (size_t)s->rank) * s->hub->stride;
}

static void publish(seat *s, int32_t thread)
{
    if (rand_r(&s->delays[thread]) % 64 == 0)
        nanosleep(&(struct timespec){.tv_nsec = rand_r(&s->delays[thread]) % 20000}, NULL);
    atomic_store_explicit(&s->hub->published[s->rank][thread], s->round[thread], memory_order_release);
}

static void await(seat *s, int32_t thread)
{
    for (int32_t rank = 0; rank < s->hub->ranks; rank++)
        while (atomic_load_explicit(&s->hub->published[rank][thread], memory_order_acquire) < s->round[thread])
            sched_yield();
}

// The parts of a round follow each other without a gap.
static oct_status seat_begin_part(void *context, const size_t *offset_of_rank, const size_t *bytes_of_rank)
{
    seat *s = context;
    assert_true(s->parts++ < OCT_EXCHANGE_PARTS);
    assert_true(offset_of_rank[s->rank] == s->begun_bytes);
    s->begun_bytes += bytes_of_rank[s->rank];
    assert_true(s->begun_bytes <= s->hub->stride);
    return OCT_OK;
}

static oct_status seat_finish_parts(void *context)
{
    seat *s = context;
    s->most_parts = s->parts > s->most_parts ? s->parts : s->most_parts;
    s->begun_bytes = 0;
    s->parts = 0;
    const uint64_t round = s->round[0] + 1;
    for (int32_t thread = 0; thread < s->hub->threads; thread++)
        s->round[thread] = round;
    publish(s, 0);
    await(s, 0);
    return OCT_OK;
}

static oct_status seat_round(void *context, const size_t *bytes_of_rank)
{
    static const size_t offset_of_rank[MAX_RANKS];
    seat_begin_part(context, offset_of_rank, bytes_of_rank);
    return seat_finish_parts(context);
}

static oct_status seat_team_round(void *context, int32_t thread)
{
    seat *s = context;
    s->round[thread]++;
    publish(s, thread);
    await(s, thread);
    return OCT_OK;
}

static const void *seat_peer(void *context, int32_t thread, int32_t rank)
{
    seat *s = context;
    return s->hub->slots + (((s->round[thread] - 1) & 1) * (size_t)s->hub->ranks + (size_t)rank) * s->hub->stride;
}

// --- A model in memory --------------------------------------------------------------------------------------------

typedef struct memory_tensor {
    uint8_t *bytes;
    uint64_t granules[OCT_MAX_VOCABULARY_GRANULES + 1]; // offsets
} memory_tensor;

typedef struct memory_model {
    oct_model model;
    oct_encoding encoding;
    int32_t count;
    oct_tensor_spec *specs;
    memory_tensor *tensors;
    float **vectors; // by spec, NULL for matrices
    float *rope;
    int32_t tokens[PROMPT];
} memory_model;

static void fill_block(oct_encoding encoding, uint8_t *block, int n)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    const size_t bytes = oct_block_bytes(encoding, n);
    if (info->float_bytes == 4) {
        for (size_t i = 0; i < bytes / 4; i++)
            ((float *)(void *)block)[i] = random_weight(0.4f);
    } else if (info->float_bytes == 2) {
        for (size_t i = 0; i < bytes / 2; i++)
            ((uint16_t *)(void *)block)[i] = encoding == OCT_F16 ? oct_f32_to_f16(random_weight(0.4f))
                                                                 : oct_f32_to_bf16(random_weight(0.4f));
    } else {
        for (size_t i = 0; i < bytes; i++)
            block[i] = (uint8_t)next_random();
        const int headers = info->scale == OCT_SCALE_F16       ? n / info->group
                            : info->scale == OCT_SCALE_F16_MIN ? 2 * n / info->group
                            : info->scale == OCT_SCALE_FACTOR_S8 ? 1
                                                                 : 2;
        for (int i = 0; i < headers * OCT_TILE_ROWS; i++)
            ((uint16_t *)(void *)block)[i] = oct_f32_to_f16(random_weight(info->low_bits == 8 ? 0.002f : 0.01f));
    }
}

static void fill_strip(oct_encoding encoding, uint8_t *strip, int64_t first, int64_t last)
{
    const int64_t end = first + oct_pad_columns(last - first);
    for (int64_t at = first, next; at < end; at = next) {
        next = (at / OCT_BLOCK_COLUMNS + 1) * OCT_BLOCK_COLUMNS;
        next = next < end ? next : end;
        fill_block(encoding, strip, (int)(next - at));
        strip += oct_block_bytes(encoding, (int)(next - at));
    }
}

static void make_tensor(memory_tensor *tensor, const oct_tensor_spec *spec, oct_encoding encoding)
{
    const oct_partition *p = &spec->partition;
    const bool by_rows = spec->split == OCT_SPLIT_ROWS;
    const int64_t whole = by_rows ? spec->rows : spec->columns;
    for (int32_t g = 0; g < p->granules; g++) {
        const int64_t begin = (int64_t)oct_granule_unit(p, g) * p->unit_size;
        int64_t end = (int64_t)oct_granule_unit(p, g + 1) * p->unit_size;
        end = end < whole ? end : whole;
        const uint64_t bytes = by_rows
                                   ? (uint64_t)oct_tile_count(end - begin) * oct_strip_bytes(encoding, 0, spec->columns)
                                   : (uint64_t)oct_tile_count(spec->rows) * oct_strip_bytes(encoding, begin, end);
        tensor->granules[g + 1] = tensor->granules[g] + bytes;
    }
    tensor->bytes = malloc(tensor->granules[p->granules]);
    uint8_t *at = tensor->bytes;
    for (int32_t g = 0; g < p->granules; g++) {
        const int64_t begin = (int64_t)oct_granule_unit(p, g) * p->unit_size;
        int64_t end = (int64_t)oct_granule_unit(p, g + 1) * p->unit_size;
        end = end < whole ? end : whole;
        const int64_t first = by_rows ? 0 : begin, last = by_rows ? spec->columns : end;
        const int64_t tiles = oct_tile_count(by_rows ? end - begin : spec->rows);
        for (int64_t tile = 0; tile < tiles; tile++, at += oct_strip_bytes(encoding, first, last))
            fill_strip(encoding, at, first, last);
    }
}

static memory_model make_model(oct_model model, oct_encoding encoding)
{
    memory_model m = {.model = model, .encoding = encoding};
    random_state = 12345;
    for (int32_t i = 0; i < model.rope_dims / 2; i++)
        m.model.rope_divisors[i] = 1;
    assert_int_equal(oct_model_check(&m.model), OCT_OK);
    m.specs = oct_model_tensors(&m.model, &m.count);
    m.tensors = calloc((size_t)m.count, sizeof *m.tensors);
    m.vectors = calloc((size_t)m.count, sizeof *m.vectors);
    for (int32_t i = 0; i < m.count; i++) {
        if (m.specs[i].split != OCT_SPLIT_NONE) {
            make_tensor(&m.tensors[i], &m.specs[i], encoding);
            continue;
        }
        m.vectors[i] = malloc((size_t)m.specs[i].rows * sizeof(float));
        for (int64_t k = 0; k < m.specs[i].rows; k++)
            m.vectors[i][k] = 1 + random_weight(0.2f);
    }
    m.rope = malloc(CONTEXT * (size_t)model.rope_dims * sizeof(float));
    for (int32_t at = 0; at < CONTEXT * model.rope_dims / 2; at++) {
        const double angle =
            at / (model.rope_dims / 2) * pow(1e4, -2.0 * (at % (model.rope_dims / 2)) / model.rope_dims);
        m.rope[2 * at] = (float)cos(angle);
        m.rope[2 * at + 1] = (float)sin(angle);
    }
    for (int32_t i = 0; i < PROMPT; i++)
        m.tokens[i] = (int32_t)(next_random() % (uint32_t)model.vocabulary);
    return m;
}

static void free_model(memory_model *m)
{
    for (int32_t i = 0; i < m->count; i++) {
        free(m->tensors[i].bytes);
        free(m->vectors[i]);
    }
    free(m->tensors);
    free(m->vectors);
    free(m->specs);
    free(m->rope);
}

static int32_t find_tensor(const memory_model *m, const char *name)
{
    for (int32_t i = 0; i < m->count; i++)
        if (strcmp(m->specs[i].name, name) == 0)
            return i;
    fail_msg("no tensor %s", name);
    return -1;
}

// --- A rank -------------------------------------------------------------------------------------------------------

typedef struct rank_work {
    const memory_model *model;
    hub *hub;
    int32_t rank, threads, chunk, instructions;
    bool by_team;
    float *logits; // [KEPT][vocabulary], this rank fills its rows
    uint64_t hash;      // of the last residual
    int32_t most_parts; // of a round
} rank_work;

static void run_prompt(rank_work *work, oct_backend *backend, const oct_step_program *program)
{
    const int32_t vocabulary = work->model->model.vocabulary;
    int32_t pages[CONTEXT / 64], positions[PROMPT], columns[PROMPT];
    const int32_t *tables[PROMPT];
    for (int32_t i = 0; i < CONTEXT / 64; i++)
        pages[i] = CONTEXT / 64 - 1 - i; // pages need not be in order
    for (int32_t i = 0; i < PROMPT; i++)
        tables[i] = pages;
    const int32_t first = program->vocabulary_tiles.begin * OCT_TILE_ROWS;
    int32_t last = program->vocabulary_tiles.end * OCT_TILE_ROWS;
    last = last < vocabulary ? last : vocabulary;
    for (int32_t at = 0; at < PROMPT; at += work->chunk) {
        const int32_t n = PROMPT - at < work->chunk ? PROMPT - at : work->chunk;
        int32_t wanted = 0;
        for (int32_t i = 0; i < n; i++) {
            positions[i] = at + i;
            if (at + i >= PROMPT - KEPT)
                columns[wanted++] = i;
        }
        const oct_step step = {.columns = n,
                               .tokens = work->model->tokens + at,
                               .positions = positions,
                               .pages = tables,
                               .logit_columns = wanted,
                               .logit_column = columns};
        assert_int_equal(backend->kind->step(backend, &step, &work->hash), OCT_OK);
        for (int32_t i = 0; i < wanted; i++)
            if (first < last)
                assert_int_equal(
                    backend->kind->logits(
                        backend, i, work->logits + (int64_t)(at + columns[i] - (PROMPT - KEPT)) * vocabulary + first),
                    OCT_OK);
    }
}

static void load_matrix(oct_backend *backend, int32_t i, const uint8_t *bytes, size_t count)
{
    for (size_t at = 0; at < count; at += PIECE) {
        const size_t n = count - at < PIECE ? count - at : PIECE;
        void *to;
        assert_int_equal(backend->kind->place(backend, 0, i, at, n, &to), OCT_OK);
        memcpy(to, bytes + at, n);
        assert_int_equal(backend->kind->accept(backend, 0, i, at, n), OCT_OK);
    }
}

static void *run_rank(void *argument)
{
    rank_work *work = argument;
    const memory_model *m = work->model;
    oct_step_program program;
    assert_int_equal(oct_step_program_build(&program, &m->model, work->hub->ranks, work->rank), OCT_OK);
    oct_encoding *encodings = calloc((size_t)program.matrix_count, sizeof *encodings);
    size_t *bytes = calloc((size_t)program.matrix_count, sizeof *bytes);
    const float **vectors = calloc((size_t)program.vector_count, sizeof *vectors);
    for (int32_t i = 0; i < program.matrix_count; i++) {
        const memory_tensor *tensor = &m->tensors[find_tensor(m, program.matrices[i].spec.name)];
        encodings[i] = m->encoding;
        bytes[i] = tensor->granules[program.matrices[i].granules.end] -
                   tensor->granules[program.matrices[i].granules.begin];
    }
    for (int32_t i = 0; i < program.vector_count; i++)
        vectors[i] = m->vectors[find_tensor(m, program.vectors[i].name)];
    seat place = {.hub = work->hub, .rank = work->rank};
    for (int32_t thread = 0; thread < work->threads; thread++)
        place.delays[thread] = (unsigned)(work->rank * MAX_THREADS + thread) + 1;
    const oct_exchange exchange = {.context = &place,
                                   .ranks = work->hub->ranks,
                                   .rank = work->rank,
                                   .capacity = work->hub->stride,
                                   .slot = seat_slot,
                                   .round = seat_round,
                                   .begin_part = seat_begin_part,
                                   .finish_parts = seat_finish_parts,
                                   .team_round = work->by_team ? seat_team_round : NULL,
                                   .peer = seat_peer};
    const oct_backend_options options = {.instructions = work->instructions,
                                         .max_columns = work->chunk,
                                         .max_logit_columns = work->chunk,
                                         .max_sampled_columns = work->chunk,
                                         .context = CONTEXT,
                                         .pages = CONTEXT / 64,
                                         .loaders = 1,
                                         .piece_bytes = PIECE,
                                         .cpu = {.threads = work->threads, .oversubscribed = true}};
    oct_backend *backend;
    const oct_backend_kind *kind = &oct_cpu_backend_kind;
    assert_int_equal(kind->create(&backend, &program, encodings, bytes, vectors, m->rope, &exchange, &options), OCT_OK);
    for (int32_t i = 0; i < program.matrix_count; i++) {
        const memory_tensor *tensor = &m->tensors[find_tensor(m, program.matrices[i].spec.name)];
        load_matrix(backend, i, tensor->bytes + tensor->granules[program.matrices[i].granules.begin], bytes[i]);
    }
    assert_int_equal(kind->finish_load(backend), OCT_OK);
    assert_int_equal(kind->prepare(backend), OCT_OK);
    run_prompt(work, backend, &program);
    work->most_parts = place.most_parts;
    kind->destroy(backend);
    oct_step_program_free(&program);
    free(encodings);
    free(bytes);
    free(vectors);
    return NULL;
}

// Logits [KEPT][vocabulary] of the model's prompt, malloc'ed.
static float *run_group(const memory_model *m, int32_t ranks, int32_t threads, int32_t chunk, int32_t instructions,
                        bool by_team)
{
    hub group = {.ranks = ranks,
                 .threads = threads,
                 .stride = (size_t)chunk * (size_t)m->model.hidden * sizeof(float) * OCT_MAX_NODES};
    group.slots = aligned_alloc(64, 2 * (size_t)ranks * group.stride);
    float *logits = calloc((size_t)KEPT * (size_t)m->model.vocabulary, sizeof *logits);
    pthread_t handles[MAX_RANKS];
    rank_work works[MAX_RANKS];
    for (int32_t rank = 0; rank < ranks; rank++) {
        works[rank] = (rank_work){.model = m,
                                  .hub = &group,
                                  .rank = rank,
                                  .threads = threads,
                                  .chunk = chunk,
                                  .instructions = instructions,
                                  .by_team = by_team,
                                  .logits = logits};
        assert_int_equal(pthread_create(&handles[rank], NULL, run_rank, &works[rank]), 0);
    }
    for (int32_t rank = 0; rank < ranks; rank++) {
        pthread_join(handles[rank], NULL);
        assert_true(works[rank].hash == works[0].hash);
        if (ranks > 1 && !by_team && chunk == PROMPT)
            assert_true(works[rank].most_parts > 1); // wide steps go in parts
    }
    free(group.slots);
    return logits;
}

static void expect_same(const memory_model *m, const float *expected, int32_t ranks, int32_t threads, int32_t chunk,
                        int32_t instructions)
{
    for (int by_team = 0; by_team < (ranks > 1 ? 2 : 1); by_team++) {
        float *logits = run_group(m, ranks, threads, chunk, instructions, by_team);
        if (memcmp(expected, logits, (size_t)KEPT * (size_t)m->model.vocabulary * sizeof *logits) != 0)
            fail_msg("other bits: %d ranks, %d threads, %d columns a step, instructions %d, encoding %s, rounds of %s",
                     ranks, threads, chunk, instructions, oct_encoding_describe(m->encoding)->name,
                     by_team ? "the team" : "the main thread");
        free(logits);
    }
}

static void check_model(oct_model model, oct_encoding encoding)
{
    static const int32_t rank_counts[] = {2, 3, 4, 5, 8, 10};
    memory_model m = make_model(model, encoding);
    float *expected = run_group(&m, 1, 1, 64, 0, false);
    double spread = 0;
    for (int64_t i = 0; i < (int64_t)KEPT * model.vocabulary; i++) {
        assert_true(isfinite(expected[i]));
        spread = fmax(spread, fabs((double)expected[i] - (double)expected[0]));
    }
    assert_true(spread > 1e-3); // the logits say something
    for (size_t i = 0; i < sizeof rank_counts / sizeof rank_counts[0]; i++)
        expect_same(&m, expected, rank_counts[i], 1, 64, oct_cpu_level());
    expect_same(&m, expected, 1, 2, 7, oct_cpu_level());
    expect_same(&m, expected, 1, 3, 1, oct_cpu_level());
    expect_same(&m, expected, 2, 2, 16, oct_cpu_level());
    expect_same(&m, expected, 3, 3, 1, oct_cpu_level());
    expect_same(&m, expected, 3, 2, PROMPT, 0);
    free(expected);
    free_model(&m);
}

static const oct_model nine_heads = {.family = "llama", .layers = 1, .hidden = 96, .heads = 9, .kv_heads = 3,
                                     .head_dim = 32, .ffn = 176, .vocabulary = 250, .context = CONTEXT,
                                     .norm_epsilon = 1e-5f, .rope_theta = 1e4f, .rope_dims = 32, .tied = true};
static const oct_model many_heads = {.family = "qwen3", .layers = 1, .hidden = 64, .heads = 28, .kv_heads = 4,
                                     .head_dim = 32, .ffn = 96, .vocabulary = 130, .context = CONTEXT,
                                     .norm_epsilon = 1e-6f, .rope_theta = 1e4f, .rope_dims = 32,
                                     .rope_convention = OCT_ROPE_HALVES, .qk_norm = true};
static const oct_model biased = {.family = "qwen2", .layers = 1, .hidden = 160, .heads = 7, .kv_heads = 1,
                                 .head_dim = 64, .ffn = 320, .vocabulary = 100, .context = CONTEXT,
                                 .norm_epsilon = 1e-6f, .rope_theta = 1e4f, .rope_dims = 64,
                                 .rope_convention = OCT_ROPE_HALVES, .qkv_bias = true};

static void same_bits_integer_encodings(void **state)
{
    (void)state;
    check_model(nine_heads, OCT_Q4_1);
    check_model(many_heads, OCT_Q4_K);
    check_model(biased, OCT_Q6_K);
    check_model(nine_heads, OCT_Q2);
}

static void same_bits_floating_encodings(void **state)
{
    (void)state;
    check_model(nine_heads, OCT_BF16);
    check_model(biased, OCT_F32);
}

// Kinds are found by name, the list ends, and the CPU is its last choice: it is always there.
static void kinds(void **state)
{
    (void)state;
    int32_t count = 0;
    while (oct_backend_kind_at(count) != NULL) {
        assert_ptr_equal(oct_backend_find(oct_backend_kind_at(count)->name), oct_backend_kind_at(count));
        count++;
    }
    assert_ptr_equal(oct_backend_kind_at(count - 1), &oct_cpu_backend_kind);
    assert_ptr_equal(oct_backend_find("cpu"), &oct_cpu_backend_kind);
    assert_null(oct_backend_find("cp"));
}

// What ranks of different processors agree on, and which of them says that it cannot.
static void agreement_of_the_cpu(void **state)
{
    (void)state;
    const oct_backend_kind *cpu = &oct_cpu_backend_kind;
    const oct_backend_offer offers[] = {{.instructions = 2}, {.instructions = 1}, {.instructions = 2}};
    for (int32_t rank = 0; rank < 3; rank++) {
        int32_t level = -1;
        assert_int_equal(cpu->agree(offers, 3, rank, -1, &level), OCT_OK);
        assert_int_equal(level, 1);
        assert_int_equal(cpu->agree(offers, 3, rank, 0, &level), OCT_OK);
        assert_int_equal(level, 0);
        assert_int_equal(cpu->agree(offers, 3, rank, 2, &level), rank == 1 ? OCT_ERR_MACHINE : OCT_OK);
    }
    assert_string_equal(oct_failure_text(), "this processor has no avx512; use --instructions avx2");
    oct_failure_clear();
    oct_backend_offer own;
    assert_int_equal(cpu->offer(0, 1, false, &own), OCT_OK);
    assert_int_equal(own.instructions, oct_cpu_level());
    assert_int_equal(own.memory_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(agreement_of_the_cpu),
        cmocka_unit_test(same_bits_integer_encodings),
        cmocka_unit_test(same_bits_floating_encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
