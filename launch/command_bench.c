// `octet bench`: how fast a model runs on this machine. Everything is measured several times in turn, so that what the
// machine does meanwhile falls on all cells alike; the read bandwidth before, between and after.
#include "launch/bench.h"
#include "launch/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MAX_CELLS = 2 + 2 * OCT_LIST_MAX, PAIRS = OCT_BENCH_PAIRS, COLUMN_STEPS = 16 };

typedef struct bench {
    oct_session *session;
    int32_t *prompt; // [prompt_tokens]
    int32_t *first, *last;    // [slots] the token that follows the prompt, and the whole sequence
    oct_control_column *step; // [step_columns]
    oct_choice *choices;      // [step_columns]
    oct_bench_cell cells[MAX_CELLS];
    int32_t cell_count;
    double bandwidth; // bytes a second, the best so far
    FILE *json;
} bench;

static oct_status add_cell(bench *b, const char *kind, int32_t columns, int32_t batch, int64_t steps, int32_t pairs)
{
    return oct_bench_cell_create(&b->cells[b->cell_count++], kind, columns, batch, (int32_t)b->session->options.repeat,
                                 steps, pairs);
}

static oct_status plan(bench *b)
{
    const oct_options *options = &b->session->options;
    const int32_t chunk = oct_engine_read_figures(b->session->engine)->prefill_chunk;
    const int32_t columns = chunk < options->prompt_tokens ? chunk : (int32_t)options->prompt_tokens;
    oct_status status = add_cell(b, "prefill", columns, 1, 0, 0);
    if (status == OCT_OK)
        status = add_cell(b, "decode", 1, 1, options->max_tokens, PAIRS);
    for (int i = 0; status == OCT_OK && oct_options_given(options, "columns") && i < options->columns.count; i++)
        status = add_cell(b, "columns", options->columns.values[i], 1, COLUMN_STEPS, 0);
    for (int i = 0; status == OCT_OK && oct_options_given(options, "batch") && i < options->batch.count; i++)
        status = add_cell(b, "batch", 1, options->batch.values[i], options->max_tokens, 0);
    return status;
}

// Any tokens do: what a step costs does not depend on them.
static void make_prompt(bench *b)
{
    const int32_t vocabulary = oct_engine_model(b->session->engine)->vocabulary;
    uint64_t state = 1;
    for (int64_t i = 0; i < b->session->options.prompt_tokens; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        b->prompt[i] = (int32_t)((state >> 33) % (uint64_t)vocabulary);
    }
}

static oct_status allocate(bench *b)
{
    const oct_engine_figures *engine = oct_engine_read_figures(b->session->engine);
    b->prompt = malloc((size_t)b->session->options.prompt_tokens * sizeof *b->prompt);
    b->first = malloc((size_t)engine->slots * sizeof *b->first);
    b->last = malloc((size_t)engine->slots * sizeof *b->last);
    b->step = malloc((size_t)engine->step_columns * sizeof *b->step);
    b->choices = malloc((size_t)engine->step_columns * sizeof *b->choices);
    if (b->prompt == NULL || b->first == NULL || b->last == NULL || b->step == NULL || b->choices == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a prompt of %lld tokens",
                        (long long)b->session->options.prompt_tokens);
    make_prompt(b);
    return OCT_OK;
}

static oct_status open_json(bench *b)
{
    const char *path = b->session->options.json_file;
    if (path == NULL)
        return OCT_OK;
    b->json = fopen(path, "w");
    return b->json != NULL ? OCT_OK
                           : oct_fail(OCT_ERR_FILE, "the figures cannot be written to '%s': %s", path, strerror(errno));
}

static oct_status probe(bench *b)
{
    double bytes_per_s = 0;
    const oct_status status = oct_engine_probe_bandwidth(b->session->engine, &bytes_per_s);
    b->bandwidth = bytes_per_s > b->bandwidth ? bytes_per_s : b->bandwidth;
    return status;
}

// Operations are timed for the cell until the next call; NULL: for none.
static void time_for(bench *b, oct_bench_cell *cell)
{
    oct_engine_time_operations(b->session->engine,
                               cell != NULL && b->session->options.operations ? &cell->times : NULL);
}

static oct_status fill_slot(bench *b, int32_t slot)
{
    const oct_sampling greedy = oct_sampling_default();
    oct_choice choice = {0};
    oct_status status = oct_engine_begin_sequence(b->session->engine, slot, &greedy, NULL, 0, 0);
    if (status == OCT_OK)
        status = oct_engine_forward(b->session->engine, slot, b->prompt, (int32_t)b->session->options.prompt_tokens,
                                    true, OCT_WANT_TOKEN, &choice, NULL, NULL);
    b->first[slot] = b->last[slot] = choice.token;
    return status;
}

static oct_status prefill(bench *b, oct_bench_cell *cell)
{
    const int32_t count = (int32_t)b->session->options.prompt_tokens;
    time_for(b, cell);
    const int64_t begin = oct_now_ns();
    const oct_status status = fill_slot(b, 0);
    const double seconds = (double)(oct_now_ns() - begin) * 1e-9;
    cell->timed_steps += (count + cell->columns - 1) / cell->columns;
    cell->figures.prompt_tokens += count;
    cell->figures.prefilled_tokens += count;
    cell->figures.prefill_s += seconds;
    cell->figures.first_token_s = seconds;
    cell->tokens_per_s[cell->repeats++] = count / seconds;
    return status;
}

// One step of the cell's shape: `columns` tokens for the first slot, or one for each of `batch`, all sampled.
static oct_status step(bench *b, const oct_bench_cell *cell, double *seconds)
{
    const int32_t count = cell->columns * cell->batch;
    for (int32_t i = 0; i < count; i++) {
        const int32_t slot = cell->batch > 1 ? i : 0;
        const int32_t token =
            i == 0 || cell->batch > 1 ? b->last[slot] : b->prompt[i % b->session->options.prompt_tokens];
        b->step[i] = (oct_control_column){.token = token, .slot = slot, .want = OCT_WANT_TOKEN};
    }
    const int64_t begin = oct_now_ns();
    const oct_status status = oct_engine_step(b->session->engine, b->step, count, b->choices, NULL, NULL);
    *seconds = (double)(oct_now_ns() - begin) * 1e-9;
    for (int32_t i = 0; status == OCT_OK && i < count; i++)
        if (b->choices[i].token < 0)
            return oct_fail(OCT_ERR_FILE, "the logits of a step are NaN or infinite, expected numbers: the weights are "
                            "damaged or overflow; see `octet inspect --verify`");
    if (status == OCT_OK && cell->columns == 1)
        for (int32_t slot = 0; slot < cell->batch; slot++)
            b->last[slot] = b->choices[slot].token;
    return status;
}

// The same, into the cell's figures; *sum grows by its seconds.
static oct_status count_step(bench *b, oct_bench_cell *cell, double *sum)
{
    const oct_engine *engine = b->session->engine;
    double seconds = 0, attended = 0;
    const oct_status status = step(b, cell, &seconds);
    for (int32_t slot = 0; slot < cell->batch; slot++)
        attended += oct_engine_length(engine, slot); // memory is read once for all columns of a sequence
    const oct_step_report report = {.columns = cell->columns * cell->batch,
                                    .decoding = cell->batch,
                                    .decoded_tokens = cell->columns * cell->batch,
                                    .attended = attended,
                                    .seconds = seconds,
                                    .engine_s = seconds};
    oct_figures_add_step(&cell->figures, oct_engine_read_figures(engine), &report, seconds);
    oct_figures_add_tokens(&cell->figures, b->choices, cell->columns * cell->batch);
    cell->timed_steps++;
    *sum += seconds;
    return status;
}

// -n tokens of each of the cell's sequences.
static oct_status decode(bench *b, oct_bench_cell *cell)
{
    const int64_t steps = b->session->options.max_tokens;
    oct_status status = OCT_OK;
    double sum = 0;
    time_for(b, cell);
    for (int64_t i = 0; status == OCT_OK && i < steps; i++)
        status = count_step(b, cell, &sum);
    cell->tokens_per_s[cell->repeats++] = (double)(steps * cell->batch) / sum;
    return status;
}

// Steps in alternation with touches of their bytes.
static oct_status pair(bench *b, oct_bench_cell *cell)
{
    oct_engine *engine = b->session->engine;
    oct_status status = OCT_OK;
    time_for(b, NULL);
    for (int i = 0; status == OCT_OK && i < PAIRS; i++, cell->pairs++) {
        status = step(b, cell, &cell->paired_s[cell->pairs]);
        if (status == OCT_OK)
            status = oct_engine_touch(engine, oct_engine_length(engine, 0), &cell->touch_s[cell->pairs]);
    }
    return status;
}

// All sequences end with the prompt again.
static void rewind_slots(bench *b, int32_t slots)
{
    for (int32_t slot = 0; slot < slots; slot++) {
        b->last[slot] = b->first[slot];
        oct_engine_truncate(b->session->engine, slot, (int32_t)b->session->options.prompt_tokens);
    }
}

// The cells of --columns step by step in turn: their times are compared with each other.
static oct_status measure_columns(bench *b)
{
    double sums[MAX_CELLS] = {0};
    oct_status status = OCT_OK;
    for (int i = 0; i < COLUMN_STEPS; i++)
        for (int32_t c = 2; status == OCT_OK && c < b->cell_count && strcmp(b->cells[c].kind, "columns") == 0; c++) {
            time_for(b, &b->cells[c]);
            rewind_slots(b, 1);
            status = count_step(b, &b->cells[c], &sums[c]);
        }
    for (int32_t c = 2; c < b->cell_count && strcmp(b->cells[c].kind, "columns") == 0; c++)
        b->cells[c].tokens_per_s[b->cells[c].repeats++] = COLUMN_STEPS * b->cells[c].columns / sums[c];
    return status;
}

static oct_status measure_batches(bench *b)
{
    oct_status status = OCT_OK;
    for (int32_t c = 2; status == OCT_OK && c < b->cell_count; c++) {
        if (strcmp(b->cells[c].kind, "batch") != 0)
            continue;
        rewind_slots(b, b->cells[c].batch);
        status = decode(b, &b->cells[c]);
    }
    return status;
}

static oct_status measure(bench *b)
{
    oct_status status = probe(b);
    for (int32_t slot = 1; status == OCT_OK && slot < oct_engine_read_figures(b->session->engine)->slots; slot++)
        status = fill_slot(b, slot); // the first slot's prompt is what is measured
    for (int64_t i = 0; status == OCT_OK && i < b->session->options.repeat; i++) {
        status = prefill(b, &b->cells[0]);
        if (status == OCT_OK)
            status = decode(b, &b->cells[1]);
        if (status == OCT_OK)
            status = pair(b, &b->cells[1]);
        if (status == OCT_OK)
            status = measure_columns(b);
        if (status == OCT_OK)
            status = measure_batches(b);
        if (status == OCT_OK)
            status = probe(b);
    }
    time_for(b, NULL);
    return status;
}

static oct_status report(bench *b)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage); // rank 0's alone: the other ranks wait for steps, and their shards may be larger
    for (int32_t i = 0; i < b->cell_count; i++) {
        b->cells[i].figures.bandwidth = b->bandwidth;
        b->cells[i].figures.peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    }
    const oct_status status = oct_bench_print(b->session, b->cells, b->cell_count, b->bandwidth);
    if (b->json == NULL)
        return status;
    const oct_status written = oct_bench_write(b->session, b->cells, b->cell_count, b->json);
    b->json = NULL;
    return status != OCT_OK ? status : written;
}

static oct_status run(oct_session *session)
{
    bench *b = calloc(1, sizeof *b);
    if (b == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the measurements");
    b->session = session;
    oct_status status = open_json(b);
    if (status == OCT_OK)
        status = allocate(b);
    if (status == OCT_OK)
        status = plan(b);
    if (status == OCT_OK)
        status = measure(b);
    if (status == OCT_OK)
        status = report(b);
    if (b->json != NULL)
        fclose(b->json);
    for (int32_t i = 0; i < b->cell_count; i++)
        oct_bench_cell_free(&b->cells[i]);
    free(b->prompt);
    free(b->first);
    free(b->last);
    free(b->step);
    free(b->choices);
    free(b);
    return status;
}

int oct_command_bench(int argc, char **argv)
{
    return oct_session_run(OCT_COMMAND_BENCH, argc, argv, run);
}
