// The table of what each rank holds and has read.
#include "ranks/shard_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ranks/wait.h"

uint64_t oct_process_read_bytes(void)
{
    uint64_t bytes = 0;
    FILE *file = fopen("/proc/self/io", "r");
    if (file == NULL)
        return 0;
    const bool found = fscanf(file, "rchar: %" SCNu64, &bytes) == 1;
    fclose(file);
    return found ? bytes : 0;
}

// What a rank says of itself: all fields are of one type, so that they travel as an array.
typedef struct row {
    uint64_t heads, kv_heads, ffn_units, vocabulary_rows, plan, read;
} row;
enum { ROW_FIELDS = sizeof(row) / sizeof(uint64_t) };

static uint64_t length(oct_run run)
{
    return (uint64_t)(run.end - run.begin);
}

static row own_row(const oct_shard *shard, uint64_t read_bytes)
{
    const oct_step_program *program = &shard->program;
    return (row){.heads = length(program->heads),
                 .kv_heads = length(program->kv_heads),
                 .ffn_units = length(program->ffn_units),
                 .vocabulary_rows = length(program->vocabulary_tiles) * OCT_TILE_ROWS,
                 .plan = shard->bytes,
                 .read = read_bytes};
}

static uint64_t vector_bytes(const oct_step_program *program)
{
    uint64_t bytes = 0;
    for (int32_t i = 0; i < program->vector_count; i++)
        bytes += (uint64_t)program->vectors[i].size * sizeof(float);
    return bytes;
}

static void print_rows(const oct_shard *shard, const row *rows, int ranks)
{
    const double ideal = (double)shard->model_bytes / ranks;
    row sum = {0};
    oct_note("shards");
    oct_note(
        "rank  heads  KV heads  FFN units  vocabulary rows    bytes planned       bytes read  of the ideal");
    for (int rank = 0; rank < ranks; rank++) {
        const row *r = &rows[rank];
        oct_note("%4d  %5" PRIu64 "  %8" PRIu64 "  %9" PRIu64 "  %15" PRIu64 "  %15" PRIu64 "  %15" PRIu64
                 "  %12.3f",
                 rank, r->heads, r->kv_heads, r->ffn_units, r->vocabulary_rows, r->plan, r->read,
                 (double)r->plan / ideal);
        sum.heads += r->heads;
        sum.kv_heads += r->kv_heads;
        sum.ffn_units += r->ffn_units;
        sum.vocabulary_rows += r->vocabulary_rows;
        sum.plan += r->plan;
        sum.read += r->read;
    }
    oct_note(" all  %5" PRIu64 "  %8" PRIu64 "  %9" PRIu64 "  %15" PRIu64 "  %15" PRIu64 "  %15" PRIu64,
             sum.heads, sum.kv_heads, sum.ffn_units, sum.vocabulary_rows, sum.plan, sum.read);
    oct_note("the largest shard has %" PRIu64 " bytes; the model's %" PRIu64
             " bytes over %d ranks are %.0f, the ideal; "
             "each rank has %" PRIu64 " bytes of vectors besides",
             shard->largest_bytes, shard->model_bytes, ranks, ideal, vector_bytes(&shard->program));
}

oct_status oct_shard_table_print(const oct_shard *shard, oct_world *world, uint64_t read_bytes)
{
    const row own = own_row(shard, read_bytes);
    row *rows = calloc((size_t)world->size, sizeof *rows);
    oct_status status = oct_world_agree(
        world, rows != NULL ? OCT_OK : oct_fail(OCT_ERR_MACHINE, "no memory for the table of shards"));
    if (status == OCT_OK) {
        MPI_Request request;
        const int code = MPI_Igather(&own, ROW_FIELDS, MPI_UINT64_T, rows, ROW_FIELDS, MPI_UINT64_T, 0, world->all,
                                     &request);
        status = code == MPI_SUCCESS ? oct_wait_request(&request, -1)
                                     : oct_fail(OCT_ERR_LOST, "MPI cannot gather the table of shards");
    }
    if (status == OCT_OK && world->rank == 0)
        print_rows(shard, rows, world->size);
    free(rows);
    return status;
}
