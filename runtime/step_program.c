// What all step programs share: the shard of a rank, and the lists that a family's file fills.
#include "runtime/step_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/families.h"

static const oct_family *const families[] = {&oct_family_llama, &oct_family_qwen2, &oct_family_qwen3};
enum { FAMILY_COUNT = sizeof families / sizeof families[0] };

static const oct_family *find_family(const char *name)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

static void cut_shard(oct_step_program *program)
{
    const oct_model *model = &program->model;
    const oct_partition attention = oct_model_attention_partition(model);
    const oct_partition ffn = oct_model_ffn_partition(model);
    const oct_partition vocabulary = oct_model_vocabulary_partition(model);
    const int32_t ranks = program->ranks, rank = program->rank;
    program->heads = oct_partition_units(&attention, ranks, rank);
    program->kv_heads = oct_model_kv_run(model, program->heads);
    program->ffn_units = oct_partition_units(&ffn, ranks, rank);
    program->vocabulary_tiles = oct_partition_units(&vocabulary, ranks, rank);
    program->attention_width = (int64_t)(program->heads.end - program->heads.begin) * model->head_dim;
    program->qkv_width =
        program->attention_width + (int64_t)2 * (program->kv_heads.end - program->kv_heads.begin) * model->head_dim;
    program->inner_width = (int64_t)(program->ffn_units.end - program->ffn_units.begin) * ffn.unit_size;
    program->logits_width =
        (int64_t)(program->vocabulary_tiles.end - program->vocabulary_tiles.begin) * vocabulary.unit_size;
    oct_tree_schedule_leaves(&program->attention_tree, attention.granules,
                             oct_partition_cut(attention.granules, ranks, rank));
    oct_tree_schedule_leaves(&program->ffn_tree, ffn.granules, oct_partition_cut(ffn.granules, ranks, rank));
    oct_tree_schedule_finish(&program->attention_finish, attention.granules, ranks);
    oct_tree_schedule_finish(&program->ffn_finish, ffn.granules, ranks);
}

oct_status oct_step_program_build(oct_step_program *program, const oct_model *model, int32_t ranks, int32_t rank)
{
    if (ranks > OCT_MAX_RANKS)
        return oct_fail(OCT_ERR_MACHINE, "%d ranks for one model: at most %d share one; start fewer ranks, or "
                        "several jobs side by side", ranks, OCT_MAX_RANKS);
    const oct_family *family = find_family(model->family);
    if (family == NULL)
        return oct_fail(OCT_ERR_FILE, "model family '%s' is not known (known: llama, qwen2, qwen3)", model->family);
    memset(program, 0, sizeof *program);
    program->model = *model;
    program->ranks = ranks;
    program->rank = rank;
    cut_shard(program);
    program->specs = oct_model_tensors(model, &program->spec_count);
    if (program->specs == NULL)
        abort();
    family->write(program);
    return OCT_OK;
}

void oct_step_program_free(oct_step_program *program)
{
    free(program->operations);
    free(program->matrices);
    free(program->vectors);
    free(program->specs);
    memset(program, 0, sizeof *program);
}

// Grows a list that doubles at powers of two; a program has a few thousand entries at most.
static void *grow(void *list, int32_t count, size_t size)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return list;
    void *grown = realloc(list, (count == 0 ? 1 : 2 * (size_t)count) * size);
    if (grown == NULL)
        abort();
    return grown;
}

static const oct_tensor_spec *find_spec(const oct_step_program *program, const char *name)
{
    for (int32_t i = 0; i < program->spec_count; i++)
        if (strcmp(program->specs[i].name, name) == 0)
            return &program->specs[i];
    abort(); // a family names a tensor that oct_model_tensors() does not list
}

static int32_t add_matrix(oct_step_program *program, const char *format, int32_t layer)
{
    char name[64];
    snprintf(name, sizeof name, format, layer);
    for (int32_t i = 0; i < program->matrix_count; i++)
        if (strcmp(program->matrices[i].spec.name, name) == 0)
            return i;
    program->matrices = grow(program->matrices, program->matrix_count, sizeof *program->matrices);
    oct_program_matrix *matrix = &program->matrices[program->matrix_count];
    matrix->spec = *find_spec(program, name);
    return program->matrix_count++;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void take_units(oct_program_matrix *matrix, oct_run granules, oct_run units)
{
    const oct_tensor_spec *spec = &matrix->spec;
    matrix->granules = granules;
    matrix->units = units;
    matrix->rows = spec->rows;
    if (spec->split == OCT_SPLIT_ROWS)
        matrix->rows = smaller((int64_t)units.end * spec->partition.unit_size, spec->rows) -
                       smaller((int64_t)units.begin * spec->partition.unit_size, spec->rows);
}

int32_t oct_program_add_matrix(oct_step_program *program, const char *format, int32_t layer)
{
    const int32_t index = add_matrix(program, format, layer);
    oct_program_matrix *matrix = &program->matrices[index];
    const oct_partition *partition = &matrix->spec.partition;
    take_units(matrix, oct_partition_cut(partition->granules, program->ranks, program->rank),
               oct_partition_units(partition, program->ranks, program->rank));
    return index;
}

int32_t oct_program_add_key_value(oct_step_program *program, const char *format, int32_t layer)
{
    const int32_t index = add_matrix(program, format, layer);
    take_units(&program->matrices[index], program->kv_heads, program->kv_heads);
    return index;
}

oct_column_run oct_program_granule_columns(const oct_program_matrix *matrix, int32_t g)
{
    const oct_partition *partition = &matrix->spec.partition;
    const int64_t end = (int64_t)oct_granule_unit(partition, g + 1) * partition->unit_size;
    return (oct_column_run){(int64_t)oct_granule_unit(partition, g) * partition->unit_size,
                         smaller(end, matrix->spec.columns)};
}

int32_t oct_program_add_vector(oct_step_program *program, const char *format, int32_t layer)
{
    program->vectors = grow(program->vectors, program->vector_count, sizeof *program->vectors);
    oct_program_vector *vector = &program->vectors[program->vector_count];
    snprintf(vector->name, sizeof vector->name, format, layer);
    vector->size = find_spec(program, vector->name)->rows;
    return program->vector_count++;
}

oct_operation *oct_program_add(oct_step_program *program, oct_operation_kind kind, int32_t layer)
{
    program->operations = grow(program->operations, program->operation_count, sizeof *program->operations);
    oct_operation *operation = &program->operations[program->operation_count++];
    operation->kind = kind;
    operation->layer = layer;
    for (int i = 0; i < OCT_OPERATION_MATRICES; i++)
        operation->matrices[i] = -1;
    for (int i = 0; i < OCT_OPERATION_VECTORS; i++)
        operation->vectors[i] = -1;
    return operation;
}

const char *oct_operation_name(oct_operation_kind kind)
{
    static const char *const names[] = {
        [OCT_OP_EMBED] = "embed",       [OCT_OP_QKV] = "qkv",       [OCT_OP_ROPE_CACHE] = "rope_cache",
        [OCT_OP_ATTENTION] = "attention", [OCT_OP_OUTPUT] = "output", [OCT_OP_GATE_UP] = "gate_up",
        [OCT_OP_DOWN] = "down",         [OCT_OP_HEAD] = "head",
    };
    return names[kind];
}
