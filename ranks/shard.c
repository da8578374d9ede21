// Planning and loading a shard.
#include "ranks/shard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ranks/launch_check.h"
#include "ranks/wait.h"
#include "runtime/fault.h"

static oct_status find_tensors(oct_shard *shard, oct_checkpoint *checkpoint)
{
    const oct_step_program *program = &shard->program;
    for (int32_t i = 0; i < program->matrix_count; i++) {
        const oct_program_matrix *matrix = &program->matrices[i];
        const oct_tensor *tensor = oct_checkpoint_matrix(checkpoint, matrix->spec.name);
        if (tensor == NULL)
            return oct_fail(OCT_ERR_FILE, "the checkpoint has no tensor '%s'; import the model again",
                            matrix->spec.name);
        if (tensor->spec.rows != matrix->spec.rows || tensor->spec.columns != matrix->spec.columns ||
            tensor->spec.partition.granules != matrix->spec.partition.granules)
            return oct_fail(OCT_ERR_FILE, "tensor '%s' is %lld x %lld, the model needs %lld x %lld; import it again",
                            matrix->spec.name, (long long)tensor->spec.rows, (long long)tensor->spec.columns,
                            (long long)matrix->spec.rows, (long long)matrix->spec.columns);
        shard->tensors[i] = tensor;
        shard->encodings[i] = tensor->encoding;
        shard->matrix_bytes[i] = oct_tensor_run_bytes(tensor, matrix->granules);
        shard->bytes += shard->matrix_bytes[i];
    }
    for (int32_t i = 0; i < program->vector_count; i++) {
        shard->vectors[i] = oct_checkpoint_vector(checkpoint, program->vectors[i].name);
        if (shard->vectors[i] == NULL)
            return oct_fail(OCT_ERR_FILE, "the checkpoint has no vector '%s'; import the model again",
                            program->vectors[i].name);
    }
    return OCT_OK;
}

// Angles in double precision by rank 0 alone, so that no two ranks can differ by a libm.
static void make_rope(const oct_model *model, int32_t context, float *table)
{
    const int32_t half = model->rope_dims / 2;
    for (int32_t i = 0; i < half; i++) {
        const double frequency = pow(model->rope_theta, -2.0 * i / model->rope_dims) / model->rope_divisors[i];
        for (int32_t position = 0; position < context; position++) {
            float *entry = table + ((int64_t)position * half + i) * 2;
            entry[0] = (float)cos(position * frequency);
            entry[1] = (float)sin(position * frequency);
        }
    }
}

static oct_status broadcast_rope(oct_shard *shard, oct_world *world, int32_t context)
{
    const oct_model *model = &shard->program.model;
    const size_t floats = (size_t)context * (size_t)model->rope_dims;
    if (world->rank == 0)
        make_rope(model, context, shard->rope);
    for (size_t at = 0; at < floats;) { // in pieces: MPI counts are ints
        const size_t n = floats - at < (1u << 24) ? floats - at : (1u << 24);
        MPI_Request request;
        if (MPI_Ibcast(shard->rope + at, (int)n, MPI_FLOAT, 0, world->all, &request) != MPI_SUCCESS)
            return oct_fail(OCT_ERR_LOST, "MPI cannot broadcast the rotary table");
        const oct_status status = oct_wait_request(&request, 0);
        if (status != OCT_OK)
            return status;
        at += n;
    }
    return OCT_OK;
}

static oct_status allocate(oct_shard *shard, const oct_world *world, int32_t context)
{
    // Asked first, as it is filled before the rest of the rank's memory is known.
    const uint64_t rope_bytes = (uint64_t)context * (uint64_t)shard->program.model.rope_dims * sizeof *shard->rope;
    const oct_status status = oct_launch_check_memory(rope_bytes, world->host_size, oct_memory_available_bytes(),
                                                      world->host_names[world->host_index]);
    if (status != OCT_OK)
        return status;
    const size_t matrices = (size_t)shard->program.matrix_count, vectors = (size_t)shard->program.vector_count;
    shard->tensors = calloc(matrices, sizeof *shard->tensors);
    shard->encodings = calloc(matrices, sizeof *shard->encodings);
    shard->matrix_bytes = calloc(matrices, sizeof *shard->matrix_bytes);
    shard->vectors = calloc(vectors, sizeof *shard->vectors);
    shard->rope = calloc((size_t)context * (size_t)shard->program.model.rope_dims, sizeof *shard->rope);
    if (shard->tensors == NULL || shard->encodings == NULL || shard->matrix_bytes == NULL || shard->vectors == NULL ||
        shard->rope == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the rotary table of %d tokens; give a smaller --context",
                        context);
    return OCT_OK;
}

oct_status oct_shard_plan(oct_shard *shard, oct_checkpoint *checkpoint, oct_world *world, int32_t context)
{
    memset(shard, 0, sizeof *shard);
    oct_status status = oct_step_program_build(&shard->program, oct_checkpoint_model(checkpoint), world->size,
                                               world->rank);
    if (status == OCT_OK)
        status = allocate(shard, world, context);
    if (status == OCT_OK)
        status = find_tensors(shard, checkpoint);
    status = oct_world_agree(world, status);
    if (status != OCT_OK)
        return status;
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    for (int32_t i = 0; i < count; i++)
        shard->model_bytes += tensors[i].granule_bytes[tensors[i].spec.partition.granules];
    shard->largest_bytes = shard->bytes;
    oct_world_allreduce(world, &shard->largest_bytes, 1, MPI_UINT64_T, MPI_MAX);
    return broadcast_rope(shard, world, context);
}

void oct_shard_free(oct_shard *shard)
{
    oct_step_program_free(&shard->program);
    free(shard->tensors);
    free(shard->encodings);
    free(shard->matrix_bytes);
    free(shard->vectors);
    free(shard->rope);
    memset(shard, 0, sizeof *shard);
}

double oct_shard_imbalance(const oct_shard *shard, oct_world *world)
{
    uint64_t total = shard->bytes;
    oct_world_allreduce(world, &total, 1, MPI_UINT64_T, MPI_SUM);
    return total == 0 ? 1 : (double)shard->largest_bytes * world->size / (double)total;
}

typedef struct load_progress {
    uint64_t total;
    _Atomic int shown; // tenths of a percent, -1: no bar; any reading thread may come
} load_progress;

static void show_progress(void *context, uint64_t bytes)
{
    load_progress *progress = context;
    oct_progress_bump();
    if (progress->shown < 0)
        return;
    const int tenths = progress->total == 0 ? 1000 : (int)(bytes * 1000 / progress->total);
    if (tenths == progress->shown)
        return;
    progress->shown = tenths;
    const int filled = tenths / 25;
    fprintf(stderr, "\rloading [%.*s%*s] %5.1f %%", filled, "########################################", 40 - filled,
            "", tenths / 10.0);
    if (bytes >= progress->total)
        fprintf(stderr, "\r%70s\r", "");
    fflush(stderr);
}

// A backend as the target of a load.
typedef struct load_target {
    oct_backend *backend;
    int32_t *matrix_of_item; // [items]
} load_target;

static oct_status place(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes, void **to)
{
    const load_target *l = context;
    return l->backend->kind->place(l->backend, thread, l->matrix_of_item[item], offset, bytes, to);
}

static oct_status accept(void *context, int32_t thread, int32_t item, uint64_t offset, size_t bytes)
{
    const load_target *l = context;
    return l->backend->kind->accept(l->backend, thread, l->matrix_of_item[item], offset, bytes);
}

static oct_status finish(void *context)
{
    const load_target *l = context;
    return l->backend->kind->finish_load(l->backend);
}

static oct_status load_items(const oct_shard *shard, oct_checkpoint *checkpoint, const oct_load_item *items,
                             int32_t count, load_target *into, bool shows, int32_t threads, oct_load_report *report)
{
    const oct_load_target target = {.context = into, .place = place, .accept = accept, .finish = finish};
    load_progress progress = {.total = shard->bytes, .shown = shows ? 0 : -1};
    const oct_status status =
        oct_checkpoint_load(checkpoint, items, count, &target, threads, show_progress, &progress, report);
    if (status != OCT_OK && progress.shown > 0)
        fprintf(stderr, "\r%70s\r", ""); // the message does not share the bar's line
    return status;
}

oct_status oct_shard_load(const oct_shard *shard, oct_checkpoint *checkpoint, oct_backend *backend, oct_world *world,
                          int32_t threads, oct_load_report *report)
{
    const oct_step_program *program = &shard->program;
    oct_load_item *items = calloc((size_t)program->matrix_count, sizeof *items);
    load_target into = {backend, calloc((size_t)program->matrix_count, sizeof *into.matrix_of_item)};
    int32_t count = 0;
    oct_status status = OCT_OK;
    if (items == NULL || into.matrix_of_item == NULL)
        status = oct_fail(OCT_ERR_MACHINE, "no memory to plan the load");
    for (int32_t i = 0; status == OCT_OK && i < program->matrix_count; i++)
        if (shard->matrix_bytes[i] > 0) {
            into.matrix_of_item[count] = i;
            items[count++] = (oct_load_item){shard->tensors[i], program->matrices[i].granules};
        }
    if (status == OCT_OK)
        status = load_items(shard, checkpoint, items, count, &into, world->rank == 0 && isatty(2), threads, report);
    free(items);
    free(into.matrix_of_item);
    return status;
}
