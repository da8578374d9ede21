// `octet bench`: how fast a model runs on this machine. Everything is measured several times in turn, so that what the
// machine does meanwhile falls on all cells alike; the read bandwidth before, between and after.
#include "launch/bench.h"
#include "launch/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MAX_CELLS = 2 + 2 * OCT_LIST_MAX, PAIRS = 24 };

typedef struct bench {
    oct_session *session;
    int32_t *prompt; // [prompt_tokens]
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
    return status;
}

// Any tokens do: what a step costs does not depend on them.
static oct_status make_prompt(bench *b)
{
    const int64_t count = b->session->options.prompt_tokens;
    const int32_t vocabulary = oct_engine_model(b->session->engine)->vocabulary;
    b->prompt = malloc((size_t)count * sizeof *b->prompt);
    if (b->prompt == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a prompt of %lld tokens", (long long)count);
    uint64_t state = 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        b->prompt[i] = (int32_t)((state >> 33) % (uint64_t)vocabulary);
    }
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

static oct_status prefill(bench *b, oct_bench_cell *cell, int32_t *token)
{
    oct_engine *engine = b->session->engine;
    const oct_sampling greedy = oct_sampling_default();
    const int32_t count = (int32_t)b->session->options.prompt_tokens, chunk = oct_engine_read_figures(engine)->prefill_chunk;
    oct_choice choice;
    oct_status status = oct_engine_begin_sequence(engine, &greedy);
    if (status != OCT_OK)
        return status;
    time_for(b, cell);
    const int64_t begin = oct_now_ns();
    status = oct_engine_forward(engine, b->prompt, count, true, OCT_WANT_TOKEN, &choice, NULL, NULL);
    const double seconds = (double)(oct_now_ns() - begin) * 1e-9;
    *token = choice.token;
    cell->timed_steps += (count + chunk - 1) / chunk;
    cell->figures.prompt_tokens += count;
    cell->figures.prefill_s += seconds;
    cell->figures.first_token_s = seconds;
    cell->tokens_per_s[cell->repeats++] = count / seconds;
    return status;
}

static oct_status step(bench *b, int32_t *token, double *seconds)
{
    const int64_t begin = oct_now_ns();
    oct_choice choice;
    const int32_t last = *token;
    const oct_status status =
        oct_engine_forward(b->session->engine, &last, 1, false, OCT_WANT_TOKEN, &choice, NULL, NULL);
    *seconds = (double)(oct_now_ns() - begin) * 1e-9;
    *token = choice.token;
    return status;
}

// -n tokens, then steps in alternation with touches of their bytes.
static oct_status decode(bench *b, oct_bench_cell *cell, int32_t *token)
{
    oct_engine *engine = b->session->engine;
    const int64_t tokens = b->session->options.max_tokens;
    oct_status status = OCT_OK;
    double sum = 0, seconds = 0;
    time_for(b, cell);
    for (int64_t i = 0; status == OCT_OK && i < tokens; i++) {
        status = step(b, token, &seconds);
        sum += seconds;
        oct_figures_add_step(&cell->figures, oct_engine_read_figures(engine), seconds, oct_engine_length(engine), 1);
    }
    cell->timed_steps += tokens;
    cell->tokens_per_s[cell->repeats++] = (double)tokens / sum;
    time_for(b, NULL);
    for (int i = 0; status == OCT_OK && i < PAIRS; i++, cell->pairs++) {
        status = step(b, token, &cell->paired_s[cell->pairs]);
        if (status == OCT_OK)
            status = oct_engine_touch(engine, oct_engine_length(engine), &cell->touch_s[cell->pairs]);
    }
    return status;
}

static oct_status measure(bench *b)
{
    int32_t token = 0;
    oct_status status = probe(b);
    for (int64_t i = 0; status == OCT_OK && i < b->session->options.repeat; i++) {
        status = prefill(b, &b->cells[0], &token);
        if (status == OCT_OK)
            status = decode(b, &b->cells[1], &token);
        if (status == OCT_OK)
            status = probe(b);
    }
    time_for(b, NULL);
    return status;
}

static oct_status report(bench *b)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage); // rank 0's: shards are of one size
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
        status = make_prompt(b);
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
    free(b);
    return status;
}

int oct_command_bench(int argc, char **argv)
{
    return oct_session_run(OCT_COMMAND_BENCH, argc, argv, run);
}
