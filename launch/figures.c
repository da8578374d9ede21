// Figures: percentiles, memory bandwidth used, and their two forms.
#include "launch/answer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <xxhash.h>

#include "runtime/allocations.h"
#include "runtime/bandwidth.h"
#include "runtime/page_table.h"

oct_status oct_figures_create(oct_figures *figures)
{
    memset(figures, 0, sizeof *figures);
    figures->token_hash = XXH64_createState();
    if (figures->token_hash == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the figures");
    XXH64_reset(figures->token_hash, 0);
    return OCT_OK;
}

void oct_figures_free(oct_figures *figures)
{
    if (figures->token_hash != NULL)
        XXH64_freeState(figures->token_hash);
    free(figures->step_s);
    free(figures->reduce_s);
    free(figures->own_s);
    for (int64_t i = 0; i < figures->unhashed_capacity; i++)
        oct_token_list_free(&figures->unhashed[i].tokens);
    free(figures->unhashed);
    memset(figures, 0, sizeof *figures);
}

static bool grow(double **list, int64_t capacity)
{
    double *grown = realloc(*list, (size_t)capacity * sizeof **list);
    if (grown != NULL)
        *list = grown;
    return grown != NULL;
}

oct_status oct_figures_reserve(oct_figures *figures, int64_t more)
{
    const int64_t steps = figures->steps + more;
    if (steps <= figures->capacity)
        return OCT_OK;
    const int64_t capacity = steps + figures->steps; // twice what there is, so that growing stays cheap
    if (!grow(&figures->step_s, capacity) || !grow(&figures->reduce_s, capacity) || !grow(&figures->own_s, capacity))
        return oct_fail(OCT_ERR_MACHINE, "no memory for the figures of %lld steps", (long long)steps);
    figures->capacity = capacity;
    return OCT_OK;
}

void oct_figures_add_step(oct_figures *figures, const oct_engine_figures *engine, const oct_step_report *report,
                          double seconds)
{
    figures->decoded_tokens += report->decoded_tokens;
    if (report->prompt_columns > 0) {
        figures->prefilled_tokens += report->prompt_columns;
        figures->prefill_s += seconds;
    }
    if (report->decoding == 0)
        return;
    assert(figures->steps < figures->capacity);
    figures->step_s[figures->steps] = report->engine_s;
    figures->own_s[figures->steps] = report->seconds - report->engine_s;
    figures->reduce_s[figures->steps++] =
        engine->exchange_rounds > 0 ? (double)engine->exchange_ns * 1e-9 / engine->exchange_rounds : 0;
    figures->attended += report->attended;
    figures->decoding += report->decoding;
    figures->decode_s += seconds;
}

void oct_figures_add_tokens(oct_figures *figures, const oct_choice *choices, int32_t count)
{
    figures->generated_tokens += count;
    for (int32_t i = 0; i < count; i++)
        XXH64_update(figures->token_hash, &choices[i].token, sizeof choices[i].token);
}

// Room for a request among those that wait to be hashed.
static oct_status reserve_unhashed(oct_figures *figures, int64_t request)
{
    const int64_t capacity = 2 * (request - figures->hashed) + 16;
    if (request - figures->hashed < figures->unhashed_capacity)
        return OCT_OK;
    oct_unhashed *grown = realloc(figures->unhashed, (size_t)capacity * sizeof *grown);
    if (grown == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the tokens of requests that wait to be hashed");
    memset(grown + figures->unhashed_capacity, 0, (size_t)(capacity - figures->unhashed_capacity) * sizeof *grown);
    figures->unhashed = grown;
    figures->unhashed_capacity = capacity;
    return OCT_OK;
}

// Hashes the requests whose turn it is.
static void hash_ended(oct_figures *figures)
{
    int64_t count = 0;
    for (; count < figures->unhashed_capacity && figures->unhashed[count].ended; count++) {
        oct_token_list *tokens = &figures->unhashed[count].tokens;
        if (tokens->count > 0)
            XXH64_update(figures->token_hash, tokens->ids, tokens->count * sizeof *tokens->ids);
        oct_token_list_free(tokens);
    }
    if (count == 0)
        return;
    const size_t left = (size_t)(figures->unhashed_capacity - count);
    memmove(figures->unhashed, figures->unhashed + count, left * sizeof *figures->unhashed);
    memset(figures->unhashed + left, 0, (size_t)count * sizeof *figures->unhashed);
    figures->hashed += count;
}

oct_status oct_figures_add(oct_figures *figures, int64_t request, const oct_answer *answer)
{
    oct_status status = reserve_unhashed(figures, request);
    if (status != OCT_OK)
        return status;
    oct_unhashed *unhashed = &figures->unhashed[request - figures->hashed];
    if (answer != NULL)
        status = oct_token_list_append(&unhashed->tokens, answer->tokens.ids, answer->tokens.count);
    if (status != OCT_OK)
        return status;
    unhashed->ended = true;
    hash_ended(figures);
    if (answer == NULL)
        return OCT_OK;
    figures->prompt_tokens += answer->prompt_tokens;
    figures->generated_tokens += (int64_t)answer->tokens.count;
    if (figures->answers++ == 0 || request == 0)
        figures->first_token_s = (double)(answer->first_ns - answer->begin_ns) * 1e-9;
    return OCT_OK;
}

oct_status oct_figures_probe(oct_figures *figures, oct_engine *engine)
{
    double bytes_per_s = 0;
    const oct_status status = oct_engine_probe_bandwidth(engine, &bytes_per_s);
    if (bytes_per_s > figures->bandwidth)
        figures->bandwidth = bytes_per_s;
    return status;
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

double oct_figures_bytes_per_step(const oct_figures *figures, const oct_engine_figures *engine)
{
    const double attended = figures->steps > 0 ? figures->attended / (double)figures->steps : 0;
    return (double)engine->weight_bytes_per_step + (double)engine->kv_bytes_per_position * attended;
}

// Of [steps] times, in microseconds.
static double percentile_us(const oct_figures *figures, double *seconds, double percent)
{
    return oct_percentile(seconds, (size_t)figures->steps, percent) * 1e6;
}

// Model bandwidth utilisation: bytes of a step over its median time, over what the machine can read.
double oct_figures_mbu(const oct_figures *figures, const oct_engine_figures *engine)
{
    const double step_s = percentile_us(figures, figures->step_s, 50) * 1e-6;
    return rate(rate(oct_figures_bytes_per_step(figures, engine), step_s), figures->bandwidth);
}

void oct_figures_print(const oct_figures *figures, const oct_session *session)
{
    const oct_engine_figures *engine = oct_engine_read_figures(session->engine);
    fprintf(stderr,
            "octet: %d rank%s x %d thread%s (%s), loaded %.1f MB at %.2f GB/s, prompt %lld tokens at %.0f/s, "
            "generated %lld at %.1f/s, step %.2f ms, memory bandwidth used %.2f of %.1f GB/s\n",
            session->world.size, session->world.size == 1 ? "" : "s", engine->threads, engine->threads == 1 ? "" : "s",
            engine->instructions, (double)engine->load_bytes * 1e-6,
            rate((double)engine->load_bytes * 1e-9, engine->load_s), (long long)figures->prompt_tokens,
            rate((double)figures->prefilled_tokens, figures->prefill_s), (long long)figures->generated_tokens,
            rate((double)figures->decoded_tokens, figures->decode_s),
            percentile_us(figures, figures->step_s, 50) * 1e-3, oct_figures_mbu(figures, engine),
            figures->bandwidth * 1e-9);
}

// The encoding that most bytes of the model have.
static const char *main_encoding(const oct_session *session)
{
    return oct_encoding_describe(oct_engine_main_encoding(session->engine))->name;
}

void oct_figures_describe_run(const oct_session *session, json_t *object)
{
    const oct_engine_figures *engine = oct_engine_read_figures(session->engine);
    json_object_set_new(object, "model", json_string(oct_engine_model(session->engine)->name));
    json_object_set_new(object, "backend", json_string(engine->backend));
    json_object_set_new(object, "executor",
                        json_string(strcmp(engine->backend, "cuda") == 0 ? session->options.executor : "none"));
    json_object_set_new(object, "instructions", json_string(engine->instructions));
    json_object_set_new(object, "encoding", json_string(main_encoding(session)));
    json_object_set_new(object, "activations", json_string(session->options.activations));
    json_object_set_new(object, "exchange", json_string(engine->exchange));
    json_object_set_new(object, "control", json_string(engine->control));
    json_object_set_new(object, "ranks", json_integer(session->world.size));
    json_object_set_new(object, "hosts", json_integer(session->world.host_count));
    json_object_set_new(object, "threads_per_rank", json_integer(engine->threads));
    json_object_set_new(object, "context", json_integer(engine->context));
    json_object_set_new(object, "sequences", json_integer(engine->slots));
    json_object_set_new(object, "kv_tokens", json_integer((json_int_t)engine->kv_pages * OCT_PAGE_POSITIONS));
    json_object_set_new(object, "prefill_chunk", json_integer(engine->prefill_chunk));
    json_object_set_new(object, "shard_imbalance", json_real(engine->shard_imbalance));
    json_object_set_new(object, "load_s", json_real(engine->load_s));
    json_object_set_new(object, "load_bytes", json_integer((json_int_t)engine->load_bytes));
    json_object_set_new(object, "load_gb_per_s", json_real(rate((double)engine->load_bytes * 1e-9, engine->load_s)));
}

void oct_figures_describe(const oct_figures *figures, const oct_session *session, json_t *object)
{
    const oct_engine_figures *engine = oct_engine_read_figures(session->engine);
    const double mbu = oct_figures_mbu(figures, engine);
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)XXH64_digest(figures->token_hash));
    json_object_set_new(object, "prompt_tokens", json_integer(figures->prompt_tokens));
    json_object_set_new(object, "generated_tokens", json_integer(figures->generated_tokens));
    json_object_set_new(object, "prefill_tokens_per_s",
                        json_real(rate((double)figures->prefilled_tokens, figures->prefill_s)));
    json_object_set_new(object, "time_to_first_token_s", json_real(figures->first_token_s));
    json_object_set_new(object, "decode_s", json_real(figures->decode_s));
    json_object_set_new(object, "decode_tokens_per_s",
                        json_real(rate((double)figures->decoded_tokens, figures->decode_s)));
    json_object_set_new(object, "decode_steps", json_integer(figures->steps));
    json_object_set_new(object, "step_us_p50", json_real(percentile_us(figures, figures->step_s, 50)));
    json_object_set_new(object, "step_us_p99", json_real(percentile_us(figures, figures->step_s, 99)));
    json_object_set_new(object, "bytes_per_step",
                        json_integer((json_int_t)oct_figures_bytes_per_step(figures, engine)));
    json_object_set_new(object, "read_bandwidth_gb_per_s", json_real(figures->bandwidth * 1e-9));
    json_object_set_new(object, "mbu", json_real(mbu));
    json_object_set_new(object, "mbu_void", json_boolean(mbu > OCT_MBU_VOID));
    json_object_set_new(object, "reduce_us_p50", json_real(percentile_us(figures, figures->reduce_s, 50)));
    json_object_set_new(object, "drafted_tokens", json_integer(0)); // unless there is a coordinator
    json_object_set_new(object, "accepted_tokens", json_integer(0));
    json_object_set_new(object, "tokens_per_step",
                        json_real(rate((double)figures->decoded_tokens, (double)figures->steps)));
    json_object_set_new(object, "sequences_per_step",
                        json_real(rate((double)figures->decoding, (double)figures->steps)));
    json_object_set_new(object, "peak_rss_bytes", json_integer((json_int_t)figures->peak_rss_bytes));
    if (oct_allocations_count() >= 0) {
        json_object_set_new(object, "allocations", json_integer(oct_allocations_count()));
        json_object_set_new(object, "decode_allocations", json_integer(figures->decode_allocations));
    }
    json_object_set_new(object, "token_hash", json_string(hash));
}

static void describe_counts(json_t *object, const char *name, const int64_t *counts, int32_t count)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer((json_int_t)counts[i]));
    json_object_set_new(object, name, list);
}

// What steps take by their columns, as the controller believes now.
static void describe_costs(const oct_controller *controller, json_t *object)
{
    oct_step_cost costs[OCT_COST_POINTS];
    const int32_t count = controller != NULL ? oct_controller_read_costs(controller, costs) : 0;
    json_t *list = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:i, s:f}", "columns", (int)costs[i].columns, "step_us",
                                              costs[i].seconds * 1e6));
    json_object_set_new(object, "step_costs", list);
}

// Drafts by place in their run and by source, and what the coordinator itself took.
static void describe_coordinator(const oct_figures *figures, const oct_session *session, json_t *object)
{
    static const char *const sources[OCT_DRAFT_SOURCES] = {"suffix_own", "suffix_near", "suffix_all", "model",
                                                             "synthetic"};
    const oct_coordinator_figures *counts = oct_coordinator_read_figures(session->coordinator);
    const bool speculates = session->drafter != NULL;
    const int32_t places = speculates ? (int32_t)session->options.draft_tokens : 0;
    json_object_set_new(object, "speculate", json_string(speculates ? session->options.speculate : "off"));
    json_object_set_new(object, "draft_tokens", json_integer(places));
    json_object_set_new(object, "drafted_tokens", json_integer((json_int_t)counts->drafted));
    json_object_set_new(object, "accepted_tokens", json_integer((json_int_t)counts->accepted));
    describe_counts(object, "drafted_by_position", counts->drafted_at, places);
    describe_counts(object, "accepted_by_position", counts->accepted_at, places);
    json_t *by_source = json_object();
    for (int i = 0; i < OCT_DRAFT_SOURCES; i++)
        if (counts->drafted_by[i] > 0)
            json_object_set_new(by_source, sources[i],
                                json_pack("{s:I, s:I}", "drafted", (json_int_t)counts->drafted_by[i], "accepted",
                                          (json_int_t)counts->accepted_by[i]));
    json_object_set_new(object, "drafts_by_source", by_source);
    json_object_set_new(object, "draft_s", json_real(counts->draft_s));
    json_object_set_new(object, "verify_s", json_real(counts->verify_s));
    describe_costs(session->controller, object);
    json_object_set_new(object, "coordinator_us_p50", json_real(percentile_us(figures, figures->own_s, 50)));
    json_object_set_new(object, "preempted_sequences", json_integer((json_int_t)counts->preempted));
    json_object_set_new(object, "shared_tokens", json_integer((json_int_t)counts->shared_tokens));
}

oct_status oct_figures_write(const oct_figures *figures, const oct_session *session, FILE *file, const char *path)
{
    json_t *object = json_object();
    oct_figures_describe_run(session, object);
    oct_figures_describe(figures, session, object);
    if (session->coordinator != NULL)
        describe_coordinator(figures, session, object);
    const bool emptied = ftruncate(fileno(file), 0) == 0 || errno == EINVAL; // a pipe or /dev/null has no length
    const bool written = emptied && json_dumpf(object, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
                         fputc('\n', file) != EOF;
    json_decref(object);
    if (fclose(file) != 0 || !written)
        return oct_fail(OCT_ERR_FILE, "the figures cannot be written to '%s': %s", path, strerror(errno));
    return OCT_OK;
}
