// Opening an engine: what is agreed on, allocated and loaded before the first step, and what is known of it.
#include "ranks/engine_state.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/shard_table.h"
#include "runtime/fault.h"

enum { DEFAULT_CHUNK = 128, DEFAULT_CONTEXT = 8192, EXCHANGE_LIMIT_BYTES = 4 << 20 };

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Columns of a step: what was asked for, less where the nodes of a reduction would pass the exchange's room. Devices
// with memory of their own exchange nodes there: here go only what ranks sample from.
static void size_steps(oct_engine *engine, const oct_engine_options *options, size_t *capacity)
{
    const oct_step_program *program = &engine->shard.program;
    const oct_partition vocabulary = oct_model_vocabulary_partition(&program->model);
    size_t nodes = 1, rows = 0;
    for (int32_t rank = 0; rank < program->ranks; rank++) {
        nodes = larger(nodes, (size_t)program->attention_finish.nodes_of_rank[rank]);
        nodes = larger(nodes, (size_t)program->ffn_finish.nodes_of_rank[rank]);
        const oct_run units = oct_partition_units(&vocabulary, program->ranks, rank);
        rows = larger(rows, (size_t)(units.end - units.begin) * OCT_TILE_ROWS);
    }
    const size_t column_bytes = nodes * (size_t)program->model.hidden * sizeof(float);
    int32_t chunk = options->prefill_chunk > 0 ? options->prefill_chunk : DEFAULT_CHUNK;
    chunk = smaller(chunk, engine->figures.context);
    const bool nodes_here = engine->offer.memory_bytes == 0;
    if (program->ranks > 1 && nodes_here)
        chunk = smaller(chunk, (int32_t)larger(1, EXCHANGE_LIMIT_BYTES / column_bytes));
    engine->figures.prefill_chunk = chunk;
    const size_t sampled = larger((size_t)options->step_columns, (size_t)engine->figures.slots);
    const size_t columns = larger((size_t)chunk, sampled), logits = options->all_logits ? columns : sampled;
    engine->figures.step_columns = (int32_t)columns;
    engine->figures.sampled_columns = (int32_t)sampled;
    engine->figures.logit_columns = (int32_t)logits;
    *capacity = larger(larger(rows, logits) * sizeof(float), sampled * sizeof(oct_candidates));
    if (nodes_here)
        *capacity = larger(*capacity, columns * column_bytes);
}

static oct_status allocate_slots(oct_engine *engine)
{
    const oct_engine_figures *figures = &engine->figures;
    engine->slots = calloc((size_t)figures->slots, sizeof *engine->slots);
    if (engine->slots == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for %d slots", figures->slots);
    oct_status status =
        oct_page_table_create(&engine->page_table, figures->kv_pages, figures->slots, figures->context);
    for (int32_t i = 0; status == OCT_OK && i < figures->slots; i++) {
        oct_engine_slot *slot = &engine->slots[i];
        slot->sampling = oct_sampling_default();
        slot->tokens = malloc((size_t)figures->context * sizeof *slot->tokens);
        status = slot->tokens == NULL ? oct_fail(OCT_ERR_MACHINE, "no memory for %d slots", figures->slots)
                                      : oct_history_create(&slot->history, engine->shard.program.model.vocabulary,
                                                           figures->context + 1);
    }
    return status;
}

static oct_status allocate_steps(oct_engine *engine)
{
    const size_t columns = (size_t)engine->figures.step_columns;
    const size_t vocabulary = engine->world->rank == 0 ? (size_t)engine->shard.program.model.vocabulary : 1;
    const int32_t cuts = OCT_CONTROL_CUTS * engine->figures.slots;
    engine->beginning = malloc(oct_control_sequence_bytes(engine->figures.context, cuts));
    engine->cuts = malloc((size_t)cuts * sizeof *engine->cuts);
    engine->descriptor = malloc(oct_control_step_bytes(engine->figures.step_columns, cuts));
    engine->chunk = malloc(columns * sizeof *engine->chunk);
    engine->tokens = malloc(columns * sizeof *engine->tokens);
    engine->positions = malloc(columns * sizeof *engine->positions);
    engine->logit_column = malloc(columns * sizeof *engine->logit_column);
    engine->pages = malloc(columns * sizeof *engine->pages);
    engine->samplings = malloc(columns * sizeof *engine->samplings);
    engine->maxima = malloc(columns * sizeof *engine->maxima);
    engine->undecided = malloc(columns * sizeof *engine->undecided);
    engine->gathered = malloc(vocabulary * sizeof *engine->gathered);
    engine->scratch = malloc(oct_sampling_scratch_bytes((int32_t)vocabulary));
    if (engine->beginning == NULL || engine->cuts == NULL || engine->descriptor == NULL || engine->chunk == NULL ||
        engine->tokens == NULL || engine->positions == NULL || engine->logit_column == NULL ||
        engine->pages == NULL || engine->samplings == NULL || engine->maxima == NULL ||
        engine->undecided == NULL || engine->gathered == NULL || engine->scratch == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for step buffers");
    return allocate_slots(engine);
}

static oct_status load_shard(oct_engine *engine, oct_load_report *report)
{
    const oct_placement *placement = &engine->placement;
    cpu_set_t before, own;
    CPU_ZERO(&own);
    for (int32_t i = 0; placement->cpus != NULL && i < placement->threads; i++)
        CPU_SET((size_t)placement->cpus[i], &own);
    const bool moved = placement->cpus != NULL && sched_getaffinity(0, sizeof before, &before) == 0 &&
                       sched_setaffinity(0, sizeof own, &own) == 0;
    const oct_status status = oct_shard_load(&engine->shard, engine->checkpoint, engine->backend,
                                             engine->world, engine->figures.threads, report);
    if (moved)
        sched_setaffinity(0, sizeof before, &before);
    return status;
}

static oct_status load(oct_engine *engine)
{
    oct_world *world = engine->world;
    oct_load_report report = {0};
    oct_progress_phase(OCT_PHASE_LOAD);
    const uint64_t read_before = oct_process_read_bytes();
    oct_status status = oct_fault_point(OCT_PHASE_LOAD);
    if (status == OCT_OK)
        status = load_shard(engine, &report);
    status = oct_world_agree(world, status);
    if (status == OCT_OK)
        status = oct_world_agree(world, engine->backend->kind->prepare(engine->backend));
    if (status != OCT_OK)
        return status;
    const uint64_t read = read_before > 0 ? oct_process_read_bytes() - read_before : report.bytes;
    status = oct_shard_table_print(&engine->shard, world, read);
    if (status != OCT_OK)
        return status;
    oct_engine_figures *figures = &engine->figures;
    figures->load_s = report.seconds;
    oct_world_allreduce(world, &figures->load_s, 1, MPI_DOUBLE, MPI_MAX);
    const oct_backend *backend = engine->backend;
    const uint64_t weights = backend->kind->step_bytes(backend, 1, 0);
    uint64_t sums[] = {report.bytes, weights, backend->kind->step_bytes(backend, 1, 1) - weights,
                       oct_engine_probe_bytes(engine)};
    oct_world_allreduce(world, sums, sizeof sums / sizeof sums[0], MPI_UINT64_T, MPI_SUM);
    figures->load_bytes = sums[0];
    figures->weight_bytes_per_step = sums[1];
    figures->kv_bytes_per_position = sums[2];
    engine->probe_bytes = sums[3];
    backend->kind->operation_bytes(backend, figures->operation_bytes);
    oct_world_allreduce(world, figures->operation_bytes, OCT_OP_COUNT, MPI_UINT64_T, MPI_SUM);
    return OCT_OK;
}

static oct_status choose_placement(oct_engine *engine, const oct_engine_options *options)
{
    if (options->companion == NULL)
        return oct_placement_choose(&engine->placement, engine->world, options->threads);
    engine->placement = options->companion->placement;
    engine->shares_placement = true;
    return OCT_OK;
}

static oct_status prepare(oct_engine *engine, const char *path, const oct_engine_options *options)
{
    oct_world *world = engine->world;
    oct_progress_phase(OCT_PHASE_OPEN);
    oct_status status = oct_world_agree(world, oct_fault_point(OCT_PHASE_OPEN));
    if (status == OCT_OK)
        status = oct_world_agree(world, oct_checkpoint_open(&engine->checkpoint, path, world->all));
    if (status != OCT_OK)
        return status;
    if (options->when_open != NULL)
        options->when_open(options->when_open_context);
    const oct_model *model = oct_checkpoint_model(engine->checkpoint);
    status = oct_engine_choose_backend(engine, options);
    if (status != OCT_OK)
        return status;
    oct_engine_figures *figures = &engine->figures;
    figures->context = options->context > 0 ? options->context : smaller(model->context, DEFAULT_CONTEXT);
    figures->slots = options->slots > 0 ? options->slots : 1;
    if (figures->context > model->context && options->companion == NULL) // a companion's is not the user's
        oct_warn("--context %d is longer than the %d tokens that the model was made for: expect worse text "
                 "behind them",
                 figures->context, model->context);
    status = choose_placement(engine, options);
    if (status != OCT_OK)
        return status;
    figures->threads = engine->placement.threads;
    status = oct_shard_plan(&engine->shard, engine->checkpoint, world, figures->context);
    if (status != OCT_OK)
        return status;
    figures->shard_imbalance = oct_shard_imbalance(&engine->shard, world);
    size_t capacity;
    size_steps(engine, options, &capacity);
    status = oct_exchange_open(&engine->exchange, world, capacity, figures->threads, options->exchange);
    if (status != OCT_OK)
        return status;
    figures->exchange = world->size == 1                                                 ? "none"
                        : world->host_count > 1 || options->exchange == OCT_EXCHANGE_MPI ? "mpi"
                                                                                         : "memory";
    const oct_control_limits limits = {.slots = figures->slots,
                                       .columns = figures->step_columns,
                                       .vocabulary = model->vocabulary,
                                       .context = figures->context};
    status = oct_control_open(&engine->control, world, options->control, &limits);
    if (status != OCT_OK)
        return status;
    figures->control = oct_control_name(engine->control);
    status = oct_engine_join_devices(engine, options);
    if (status != OCT_OK)
        return status;
    status = oct_engine_size_memory(engine, options);
    if (status == OCT_OK)
        status = allocate_steps(engine);
    status = oct_world_agree(world, status); // backends allocate together what they exchange through
    if (status == OCT_OK)
        status = oct_world_agree(world, oct_engine_create_backend(engine, options));
    if (status != OCT_OK)
        return status;
    return load(engine);
}

oct_status oct_engine_open(oct_engine **out, oct_world *world, const char *path,
                           const oct_engine_options *options)
{
    oct_engine *engine = calloc(1, sizeof *engine);
    oct_status status = engine == NULL ? oct_fail(OCT_ERR_MACHINE, "no memory for the engine") : OCT_OK;
    status = oct_world_agree(world, status);
    if (status == OCT_OK) {
        engine->world = world;
        status = prepare(engine, path, options);
    }
    if (status != OCT_OK) {
        oct_engine_close(engine);
        return status;
    }
    oct_progress_phase(OCT_PHASE_IDLE);
    *out = engine;
    return OCT_OK;
}

void oct_engine_close(oct_engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->backend != NULL)
        engine->kind->destroy(engine->backend);
    oct_engine_part_devices(engine);
    oct_control_close(engine->control);
    oct_exchange_close(&engine->exchange);
    oct_shard_free(&engine->shard);
    oct_checkpoint_close(engine->checkpoint);
    for (int32_t slot = 0; engine->slots != NULL && slot < engine->figures.slots; slot++) {
        oct_history_destroy(&engine->slots[slot].history);
        free(engine->slots[slot].tokens);
    }
    free(engine->slots);
    if (!engine->shares_placement)
        oct_placement_free(&engine->placement);
    oct_page_table_destroy(&engine->page_table);
    free(engine->beginning);
    free(engine->cuts);
    free(engine->descriptor);
    free(engine->chunk);
    free(engine->tokens);
    free(engine->positions);
    free(engine->logit_column);
    free(engine->pages);
    free(engine->samplings);
    free(engine->maxima);
    free(engine->undecided);
    free(engine->gathered);
    free(engine->scratch);
    free(engine);
}

const oct_model *oct_engine_model(const oct_engine *engine)
{
    return oct_checkpoint_model(engine->checkpoint);
}

const oct_vocabulary *oct_engine_vocabulary(const oct_engine *engine)
{
    return oct_checkpoint_vocabulary(engine->checkpoint);
}

const oct_engine_figures *oct_engine_read_figures(const oct_engine *engine)
{
    return &engine->figures;
}

oct_encoding oct_engine_main_encoding(const oct_engine *engine)
{
    uint64_t bytes[OCT_ENCODING_COUNT] = {0};
    int32_t count, most = 0;
    const oct_tensor *tensors = oct_checkpoint_matrices(engine->checkpoint, &count);
    for (int32_t i = 0; i < count; i++)
        bytes[tensors[i].encoding] += tensors[i].granule_bytes[tensors[i].spec.partition.granules];
    for (int32_t i = 1; i < OCT_ENCODING_COUNT; i++)
        most = bytes[i] > bytes[most] ? i : most;
    return (oct_encoding)most;
}

bool oct_engine_is_broken(const oct_engine *engine)
{
    return engine->broken;
}

int32_t oct_engine_length(const oct_engine *engine, int32_t slot)
{
    return engine->slots[slot].length;
}
