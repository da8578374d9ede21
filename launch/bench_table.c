// The cells of `octet bench` as a table for people and as JSON.
#include "launch/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/bandwidth.h"

oct_status oct_bench_cell_create(oct_bench_cell *cell, const char *kind, int32_t columns, int32_t batch,
                                 int32_t repeats, int64_t steps, int32_t pairs)
{
    *cell = (oct_bench_cell){.kind = kind, .columns = columns, .batch = batch};
    cell->tokens_per_s = calloc((size_t)repeats, sizeof(double));
    cell->paired_s = calloc((size_t)pairs * (size_t)repeats + 1, sizeof(double));
    cell->touch_s = calloc((size_t)pairs * (size_t)repeats + 1, sizeof(double));
    if (cell->tokens_per_s == NULL || cell->paired_s == NULL || cell->touch_s == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the measurements");
    const oct_status status = oct_figures_create(&cell->figures);
    return status != OCT_OK ? status : oct_figures_reserve(&cell->figures, steps * repeats + 1);
}

void oct_bench_cell_free(oct_bench_cell *cell)
{
    oct_figures_free(&cell->figures);
    free(cell->tokens_per_s);
    free(cell->paired_s);
    free(cell->touch_s);
}

static double median(double *values, int64_t count)
{
    return oct_percentile(values, (size_t)count, 50);
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static double bare_loop_ratio(const oct_bench_cell *cell)
{
    return ratio(median(cell->paired_s, cell->pairs), median(cell->touch_s, cell->pairs));
}

// A row of the table of operations: what of a step's time, and which bytes.
typedef struct operation_row {
    const char *name;
    double seconds, bytes; // a step
} operation_row;

enum { OPERATION_ROWS = OCT_OP_COUNT + 2 };

static void list_operations(const oct_bench_cell *cell, const oct_engine_figures *engine, operation_row *rows)
{
    const double steps = cell->timed_steps > 0 ? (double)cell->timed_steps : 1;
    const double attended = ratio(cell->figures.attended, (double)cell->figures.steps);
    for (int kind = 0; kind < OCT_OP_COUNT; kind++) {
        rows[kind] = (operation_row){.name = oct_operation_name((oct_operation_kind)kind),
                                     .seconds = (double)cell->times.ns[kind] * 1e-9 / steps,
                                     .bytes = (double)engine->operation_bytes[kind]};
        if (kind == OCT_OP_ATTENTION)
            rows[kind].bytes = (double)engine->kv_bytes_per_position * attended;
        if (kind == OCT_OP_EMBED)
            rows[kind].bytes *= cell->columns * cell->batch;
        if (kind == OCT_OP_HEAD && cell->figures.steps == 0)
            rows[kind].bytes *= cell->repeats / steps; // of a prompt's steps, only the last has it
    }
    rows[OCT_OP_COUNT] = (operation_row){"exchange_wait", (double)cell->times.exchange_ns * 1e-9 / steps, 0};
    rows[OCT_OP_COUNT + 1] = (operation_row){"sampling", (double)cell->times.sampling_ns * 1e-9 / steps, 0};
}

static void print_operations(const oct_session *session, const oct_bench_cell *cell)
{
    operation_row rows[OPERATION_ROWS];
    double whole = 0;
    list_operations(cell, oct_engine_read_figures(session->engine), rows);
    for (int i = 0; i < OPERATION_ROWS; i++)
        whole += rows[i].seconds;
    printf("\n%s, %d column%s, batch %d: rank 0's time in a step, with the bytes of all ranks\n", cell->kind,
           cell->columns, cell->columns == 1 ? "" : "s", cell->batch);
    printf("%-14s %10s %7s %12s %8s\n", "operation", "us", "share", "bytes", "GB/s");
    for (int i = 0; i < OPERATION_ROWS; i++) {
        printf("%-14s %10.1f %6.1f%%", rows[i].name, rows[i].seconds * 1e6, 100 * ratio(rows[i].seconds, whole));
        if (rows[i].bytes > 0)
            printf(" %12.0f %8.2f", rows[i].bytes, ratio(rows[i].bytes, rows[i].seconds) * 1e-9);
        putchar('\n');
    }
    const int32_t layers = oct_engine_model(session->engine)->layers;
    const double outside = rows[OCT_OP_EMBED].seconds + rows[OCT_OP_HEAD].seconds + rows[OCT_OP_COUNT + 1].seconds;
    printf("%-14s %10.1f\n%-14s %10.1f   (of %d)\n", "sum", whole * 1e6, "a layer",
           (whole - outside) * 1e6 / layers, layers);
}

static void print_cell(const oct_session *session, const oct_bench_cell *cell)
{
    const oct_figures *figures = &cell->figures;
    const oct_engine_figures *engine = oct_engine_read_figures(session->engine);
    printf("%-8s %7d %5d %10.2f", cell->kind, cell->columns, cell->batch, median(cell->tokens_per_s, cell->repeats));
    if (figures->steps > 0) {
        const double step = median(figures->step_s, figures->steps), mbu = oct_figures_mbu(figures, engine);
        const double bytes = oct_figures_bytes_per_step(figures, engine);
        printf(" %10.1f %10.1f %12.0f %7.2f %5.2f%s", step * 1e6,
               oct_percentile(figures->step_s, (size_t)figures->steps, 99) * 1e6, bytes, ratio(bytes, step) * 1e-9, mbu,
               mbu > OCT_MBU_VOID ? " VOID" : "");
    }
    if (cell->pairs > 0)
        printf(" %5.2f", bare_loop_ratio(cell));
    putchar('\n');
}

oct_status oct_bench_print(const oct_session *session, const oct_bench_cell *cells, int32_t count, double bandwidth)
{
    const oct_engine_figures *engine = oct_engine_read_figures(session->engine);
    printf("%s %s, %d rank%s x %d thread%s, %s, prompt %lld, read bandwidth %.2f GB/s\n\n",
           oct_engine_model(session->engine)->name,
           oct_encoding_describe(oct_engine_main_encoding(session->engine))->name, session->world.size,
           session->world.size == 1 ? "" : "s", engine->threads, engine->threads == 1 ? "" : "s", engine->instructions,
           (long long)session->options.prompt_tokens, bandwidth * 1e-9);
    printf("%-8s %7s %5s %10s %10s %10s %12s %7s %5s %5s\n", "cell", "columns", "batch", "tokens/s", "step us",
           "p99 us", "bytes", "GB/s", "mbu", "bare");
    bool is_void = false;
    for (int32_t i = 0; i < count; i++) {
        print_cell(session, &cells[i]);
        is_void = is_void || oct_figures_mbu(&cells[i].figures, engine) > OCT_MBU_VOID;
    }
    if (is_void)
        printf("\nVOID: a step read its bytes faster than any pass of the bandwidth probe; measure again\n");
    for (int32_t i = 0; session->options.operations && i < count; i++)
        print_operations(session, &cells[i]);
    if (fflush(stdout) != 0 || ferror(stdout))
        return oct_fail(OCT_ERR_FILE, "the table cannot be written to stdout: %s", strerror(errno));
    return OCT_OK;
}

static json_t *describe_operations(const oct_session *session, const oct_bench_cell *cell)
{
    operation_row rows[OPERATION_ROWS];
    json_t *list = json_array();
    list_operations(cell, oct_engine_read_figures(session->engine), rows);
    for (int i = 0; i < OPERATION_ROWS; i++)
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f}", "operation", rows[i].name, "us_per_step",
                                              rows[i].seconds * 1e6, "bytes_per_step", rows[i].bytes, "gb_per_s",
                                              ratio(rows[i].bytes, rows[i].seconds) * 1e-9));
    return list;
}

static json_t *describe_cell(const oct_session *session, const oct_bench_cell *cell)
{
    json_t *object = json_object();
    const double tokens_per_s = median(cell->tokens_per_s, cell->repeats);
    json_object_set_new(object, "cell", json_string(cell->kind));
    json_object_set_new(object, "columns", json_integer(cell->columns));
    json_object_set_new(object, "batch", json_integer(cell->batch));
    json_object_set_new(object, "repeat", json_integer(cell->repeats));
    oct_figures_describe_run(session, object);
    oct_figures_describe(&cell->figures, session, object);
    json_object_set_new(object, cell->figures.steps > 0 ? "decode_tokens_per_s" : "prefill_tokens_per_s",
                        json_real(tokens_per_s));
    if (cell->pairs > 0) {
        json_object_set_new(object, "bare_loop_ratio", json_real(bare_loop_ratio(cell)));
        json_object_set_new(object, "touch_us_p50", json_real(median(cell->touch_s, cell->pairs) * 1e6));
    }
    if (session->options.operations)
        json_object_set_new(object, "operations", describe_operations(session, cell));
    return object;
}

oct_status oct_bench_write(const oct_session *session, const oct_bench_cell *cells, int32_t count, FILE *file)
{
    json_t *array = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(array, describe_cell(session, &cells[i]));
    const bool written =
        json_dumpf(array, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 && fputc('\n', file) != EOF;
    json_decref(array);
    if (fclose(file) != 0 || !written)
        return oct_fail(OCT_ERR_FILE, "the figures cannot be written to '%s': %s", session->options.json_file,
                        strerror(errno));
    return OCT_OK;
}
