// The CPU backend: its memory, and the walk through the step program.
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "kernels/cpu/executor.h"
#include "runtime/huge_memory.h"
#include "runtime/progress.h"

enum { ALIGNMENT = 64 };

static const oct_cpu_operation operations[] = {
    [OCT_OP_EMBED] = oct_cpu_embed,           [OCT_OP_QKV] = oct_cpu_qkv,
    [OCT_OP_ROPE_CACHE] = oct_cpu_rope_cache, [OCT_OP_ATTENTION] = oct_cpu_attention,
    [OCT_OP_OUTPUT] = oct_cpu_output,         [OCT_OP_GATE_UP] = oct_cpu_gate_up,
    [OCT_OP_DOWN] = oct_cpu_down,             [OCT_OP_HEAD] = oct_cpu_head,
};

static size_t align(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

// A cursor over a region; with base NULL it only counts: the same code is the dry pass.
typedef struct arena {
    uint8_t *base;
    size_t used;
} arena;

static void *take(arena *a, size_t bytes)
{
    void *at = a->base == NULL ? NULL : a->base + a->used;
    a->used += align(bytes);
    return at;
}

static void take_activations(arena *a, oct_activations *x, size_t columns, size_t width)
{
    const size_t units = columns * width / OCT_UNIT_COLUMNS + OCT_PANEL_COLUMNS;
    x->f32 = take(a, units * OCT_UNIT_COLUMNS * sizeof *x->f32);
    x->rounded = take(a, units * OCT_UNIT_COLUMNS * sizeof *x->rounded);
    x->bf16 = take(a, units * OCT_UNIT_COLUMNS * sizeof *x->bf16);
    x->codes = take(a, units * OCT_UNIT_COLUMNS);
    x->groups = take(a, units * sizeof *x->groups);
}

static void set_sizes(oct_cpu_backend *backend)
{
    backend->max_splits = (backend->options.context + OCT_SPLIT_POSITIONS - 1) / OCT_SPLIT_POSITIONS;
    backend->page_elements = 2 * (size_t)OCT_PAGE_POSITIONS * (size_t)backend->program->model.head_dim;
}

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void lay_out_buffers(oct_cpu_backend *backend, arena *a, oct_cpu_scratch *scratch)
{
    const oct_step_program *program = backend->program;
    const oct_backend_options *options = &backend->options;
    const size_t columns = (size_t)options->max_columns, hidden = (size_t)program->model.hidden;
    const size_t heads = (size_t)(program->heads.end - program->heads.begin);
    const size_t state = 2 + (size_t)program->model.head_dim, splits = (size_t)backend->max_splits;
    const size_t group = (size_t)(program->model.heads / program->model.kv_heads);
    const size_t width = (size_t)oct_pad_columns((int64_t)largest(
        hidden, largest((size_t)program->attention_width, (size_t)program->inner_width)));
    const size_t strips = (size_t)oct_cpu_strips_at_a_time((int32_t)columns);
    const size_t tiles = OCT_TILE_ROWS * 2 * largest(strips * columns, OCT_STRIP_COLUMNS);
    oct_activations shared = {0};
    take_activations(a, &shared, columns, width);
    backend->residual = take(a, columns * hidden * sizeof(float));
    backend->qkv = take(a, columns * (size_t)program->qkv_width * sizeof(float));
    backend->attention = take(a, columns * (size_t)program->attention_width * sizeof(float));
    backend->inner = take(a, columns * (size_t)program->inner_width * sizeof(float));
    backend->logits = take(a, (size_t)options->max_logit_columns * (size_t)program->logits_width * sizeof(float));
    const size_t parts = (size_t)options->max_logit_columns * (size_t)options->cpu.threads;
    backend->candidates = take(a, parts * sizeof *backend->candidates);
    backend->maxima = take(a, parts * sizeof *backend->maxima);
    backend->states = take(a, OCT_SPLIT_PARALLEL_COLUMNS * splits * heads * state * sizeof(float));
    for (int32_t thread = 0; thread < options->cpu.threads; thread++) {
        oct_cpu_scratch *s = &scratch[thread];
        s->shared = shared;
        take_activations(a, &s->input, 1, width);
        s->row = take(a, width * sizeof(float));
        s->tiles = take(a, tiles * sizeof(float));
        s->states = take(a, splits * group * state * sizeof(float));
    }
}

static size_t weights_bytes(const oct_step_program *program, const size_t *matrix_bytes)
{
    size_t bytes = 0;
    for (int32_t i = 0; i < program->matrix_count; i++)
        bytes += align(matrix_bytes[i]);
    return bytes + OCT_BLOCK_COLUMNS * OCT_TILE_ROWS; // kernels may prefetch past the end
}

static size_t kv_cache_bytes(const oct_cpu_backend *backend)
{
    const oct_step_program *program = backend->program;
    return (size_t)program->model.layers * (size_t)backend->options.pages *
           (size_t)(program->kv_heads.end - program->kv_heads.begin) * backend->page_elements * sizeof(uint16_t);
}

static void measure(const oct_step_program *program, const size_t *matrix_bytes, const oct_backend_options *options,
                    oct_backend_sizes *sizes)
{
    oct_cpu_backend backend = {.program = program, .options = *options};
    oct_cpu_scratch *scratch = calloc((size_t)options->cpu.threads, sizeof *scratch);
    arena count = {0};
    set_sizes(&backend);
    if (scratch != NULL)
        lay_out_buffers(&backend, &count, scratch);
    free(scratch);
    *sizes = (oct_backend_sizes){
        .weights = weights_bytes(program, matrix_bytes), .kv_cache = kv_cache_bytes(&backend), .buffers = count.used};
}

static oct_status allocate(oct_cpu_backend *backend, const size_t *matrix_bytes)
{
    const oct_step_program *program = backend->program;
    arena count = {0};
    lay_out_buffers(backend, &count, backend->scratch);
    backend->weights_bytes = weights_bytes(program, matrix_bytes);
    backend->kv_cache_bytes = kv_cache_bytes(backend);
    backend->buffers_bytes = count.used;
    oct_status status = oct_huge_map(backend->weights_bytes, "the weights", &backend->weights);
    if (status == OCT_OK)
        status = oct_huge_map(backend->kv_cache_bytes, "the KV cache", &backend->kv_cache);
    if (status == OCT_OK)
        status = oct_huge_map(backend->buffers_bytes, "buffers", &backend->buffers);
    if (status != OCT_OK)
        return status;
    arena buffers = {.base = backend->buffers};
    lay_out_buffers(backend, &buffers, backend->scratch);
    return OCT_OK;
}

// Granules of the shard's matrices; one that is split by rows counts as one.
static size_t count_granules(const oct_step_program *program)
{
    size_t count = 0;
    for (int32_t i = 0; i < program->matrix_count; i++) {
        const oct_program_matrix *shard = &program->matrices[i];
        count += shard->spec.split == OCT_SPLIT_COLUMNS ? (size_t)(shard->granules.end - shard->granules.begin) : 1;
    }
    return count;
}

// Writes down the granules of a matrix, and its strips; returns what follows them in the list.
static oct_column_run *list_granules(oct_cpu_matrix *matrix, const oct_program_matrix *shard, oct_column_run *list)
{
    matrix->granules = list;
    if (shard->spec.split == OCT_SPLIT_ROWS)
        *list++ = (oct_column_run){0, shard->spec.columns};
    for (int32_t g = shard->granules.begin; shard->spec.split == OCT_SPLIT_COLUMNS && g < shard->granules.end; g++)
        *list++ = oct_program_granule_columns(shard, g);
    matrix->granule_count = (int32_t)(list - matrix->granules);
    for (const oct_column_run *granule = matrix->granules; granule < list; granule++) {
        assert(granule == matrix->granules || granule->begin == granule[-1].end);
        assert(granule->begin % OCT_UNIT_COLUMNS == 0);
        matrix->strip_bytes += oct_strip_bytes(matrix->encoding, granule->begin, granule->end);
    }
    matrix->strips = (int32_t)oct_tile_count(shard->rows);
    matrix->is_dealt = matrix->granule_count > 1;
    return list;
}

static void place_matrices(oct_cpu_backend *backend, const oct_encoding *encodings, const size_t *matrix_bytes)
{
    const oct_step_program *program = backend->program;
    arena weights = {.base = backend->weights};
    oct_column_run *granules = backend->granules;
    for (int32_t i = 0; i < program->matrix_count; i++) {
        const oct_program_matrix *shard = &program->matrices[i];
        oct_cpu_matrix *matrix = &backend->matrices[i];
        matrix->data = take(&weights, matrix_bytes[i]);
        matrix->encoding = encodings[i];
        const bool fp32 = backend->options.cpu.fp32_activations;
        matrix->form = fp32 ? OCT_FORM_F32 : oct_encoding_form(encodings[i]);
        matrix->dot = fp32 ? backend->kernels->dot_f32[encodings[i]] : backend->kernels->dot[encodings[i]];
        matrix->rows = shard->rows;
        granules = list_granules(matrix, shard, granules);
    }
}

static const oct_cpu_kernels *kernels_of_level(int32_t level)
{
    switch (level) {
    case 0:
        return oct_cpu_kernels_scalar();
    case 1:
        return oct_cpu_kernels_avx2();
    default:
        return oct_cpu_kernels_avx512();
    }
}

static oct_status create_team(oct_cpu_backend *backend)
{
    const oct_backend_options *options = &backend->options;
    if (options->companion == NULL)
        return oct_team_create(&backend->team, options->cpu.threads, options->cpu.cpus, options->cpu.oversubscribed);
    const oct_cpu_backend *companion = oct_cpu_backend_of(options->companion);
    assert(options->cpu.threads == companion->options.cpu.threads);
    backend->team = companion->team;
    return OCT_OK;
}

static void destroy(oct_backend *base)
{
    if (base == NULL)
        return;
    oct_cpu_backend *backend = oct_cpu_backend_of(base);
    if (backend->options.companion == NULL)
        oct_team_destroy(backend->team);
    oct_huge_unmap(backend->weights, backend->weights_bytes);
    oct_huge_unmap(backend->kv_cache, backend->kv_cache_bytes);
    oct_huge_unmap(backend->buffers, backend->buffers_bytes);
    free(backend->matrices);
    free(backend->granules);
    free(backend->staging);
    free(backend->scratch);
    free(backend);
}

static oct_status create(oct_backend **out, const oct_step_program *program, const oct_encoding *encodings,
                         const size_t *matrix_bytes, const float *const *vectors, const float *rope,
                         const oct_exchange *exchange, const oct_backend_options *options)
{
    oct_cpu_backend *backend = calloc(1, sizeof *backend);
    if (backend == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the backend");
    oct_status status = OCT_OK;
    backend->base.kind = &oct_cpu_backend_kind;
    backend->program = program;
    backend->exchange = exchange;
    backend->options = *options;
    backend->vectors = vectors;
    backend->rope = rope;
    backend->attention_scale = 1.0f / sqrtf((float)program->model.head_dim);
    backend->kernels = kernels_of_level(options->instructions);
    backend->matrices = calloc((size_t)program->matrix_count, sizeof *backend->matrices);
    backend->granules = calloc(count_granules(program) + 1, sizeof *backend->granules);
    backend->scratch = calloc((size_t)options->cpu.threads, sizeof *backend->scratch);
    backend->staging = malloc((size_t)options->loaders * options->piece_bytes);
    set_sizes(backend);
    if (backend->kernels == NULL)
        status =
            oct_fail(OCT_ERR_MACHINE, "this processor lacks the instructions asked for; use --instructions scalar");
    else if (backend->matrices == NULL || backend->granules == NULL || backend->scratch == NULL ||
             backend->staging == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory for the backend");
    if (status == OCT_OK)
        status = allocate(backend, matrix_bytes);
    if (status == OCT_OK)
        status = create_team(backend);
    if (status != OCT_OK) {
        destroy(&backend->base);
        return status;
    }
    place_matrices(backend, encodings, matrix_bytes);
    *out = &backend->base;
    return OCT_OK;
}

static oct_status be_ready(oct_backend *base)
{
    (void)base;
    return OCT_OK;
}

static bool run_timed(oct_cpu_backend *backend, const oct_operation *operation, int32_t threads)
{
    const uint64_t begin = (uint64_t)oct_now_ns(), exchange = backend->exchange_ns;
    const bool good = operations[operation->kind](backend, operation, 0, threads);
    const uint64_t exchanged = backend->exchange_ns - exchange;
    backend->times->ns[operation->kind] += (uint64_t)oct_now_ns() - begin - exchanged;
    backend->times->exchange_ns += exchanged;
    return good;
}

static void walk_program(void *context, int32_t thread, int32_t threads)
{
    oct_cpu_backend *backend = context;
    const oct_step_program *program = backend->program;
    const bool timed = thread == 0 && backend->times != NULL;
    for (int32_t i = 0; i < program->operation_count; i++) {
        const oct_operation *operation = &program->operations[i];
        const bool good = timed ? run_timed(backend, operation, threads)
                                : operations[operation->kind](backend, operation, thread, threads);
        if (!good)
            return;
        if (thread == 0)
            oct_progress_bump();
    }
}

static oct_status run_step(oct_backend *base, const oct_step *step, uint64_t *residual_hash)
{
    oct_cpu_backend *backend = oct_cpu_backend_of(base);
    backend->step = step;
    backend->exchange_ns = 0;
    backend->exchange_rounds = 0;
    backend->team_rounds = 0;
    atomic_store(&backend->failed, OCT_OK);
    oct_team_run(backend->team, walk_program, backend);
    if (atomic_load(&backend->failed) != OCT_OK)
        return (oct_status)atomic_load(&backend->failed);
    const size_t hidden = (size_t)backend->program->model.hidden;
    uint64_t hash = 0;
    for (int32_t i = 0; i < step->logit_columns; i++)
        hash = XXH64(backend->residual + (size_t)step->logit_column[i] * hidden, hidden * sizeof(float), hash);
    *residual_hash = hash;
    return OCT_OK;
}

static void exchange_time(const oct_backend *base, uint64_t *ns, int32_t *rounds)
{
    const oct_cpu_backend *backend = oct_cpu_backend_of(base);
    *ns = backend->exchange_ns;
    *rounds = backend->exchange_rounds;
}

static void time_operations(oct_backend *base, oct_operation_times *times)
{
    oct_cpu_backend_of(base)->times = times;
}

static const char *const level_names[] = {"scalar", "avx2", "avx512"};

static const char *instructions_name(int32_t level)
{
    return level_names[level];
}

static oct_status offer(int32_t host_rank, int32_t host_size, bool may_share, oct_backend_offer *offer)
{
    (void)host_rank;
    (void)host_size;
    (void)may_share;
    *offer = (oct_backend_offer){.instructions = oct_cpu_level()};
    return OCT_OK;
}

// All ranks use one instruction set, for speed's sake; the bits do not depend on it.
static oct_status agree(const oct_backend_offer *offers, int32_t ranks, int32_t rank, int32_t asked, int32_t *level)
{
    const int32_t own = offers[rank].instructions;
    if (asked > own)
        return oct_fail(OCT_ERR_MACHINE, "this processor has no %s; use --instructions %s", level_names[asked],
                        level_names[own]);
    int32_t least = own;
    for (int32_t i = 0; i < ranks; i++)
        least = offers[i].instructions < least ? offers[i].instructions : least;
    *level = asked >= 0 ? asked : least;
    return OCT_OK;
}

const oct_backend_kind oct_cpu_backend_kind = {
    .name = "cpu",
    .instructions_name = instructions_name,
    .offer = offer,
    .agree = agree,
    .measure = measure,
    .create = create,
    .destroy = destroy,
    .place = oct_cpu_place_piece,
    .accept = oct_cpu_accept_piece,
    .finish_load = oct_cpu_finish_load,
    .prepare = be_ready,
    .step = run_step,
    .logits = oct_cpu_logits,
    .maximum = oct_cpu_maximum,
    .make_candidates = oct_cpu_make_candidates,
    .candidates = oct_cpu_candidates,
    .step_bytes = oct_cpu_step_bytes,
    .operation_bytes = oct_cpu_operation_bytes,
    .exchange_time = exchange_time,
    .time_operations = time_operations,
    .touch = oct_cpu_touch,
};
