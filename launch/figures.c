// Figures: percentiles, memory bandwidth used, and their two forms.
#include "launch/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

#include "runtime/allocations.h"
#include "runtime/bandwidth.h"

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
    if (!grow(&figures->step_s, 2 * steps) || !grow(&figures->reduce_s, 2 * steps))
        return oct_fail(OCT_ERR_MACHINE, "no memory for the figures of %lld steps", (long long)steps);
    figures->capacity = 2 * steps;
    return OCT_OK;
}

void oct_figures_add_step(oct_figures *figures, const oct_engine_figures *engine, double seconds, double attended,
                          int32_t tokens)
{
    figures->step_s[figures->steps] = seconds;
    figures->reduce_s[figures->steps++] =
        engine->exchange_rounds > 0 ? (double)engine->exchange_ns * 1e-9 / engine->exchange_rounds : 0;
    figures->attended += attended;
    figures->decode_s += seconds;
    figures->decoded_tokens += tokens;
    figures->generated_tokens += tokens;
}

void oct_figures_add_tokens(oct_figures *figures, const oct_choice *choices, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        XXH64_update(figures->token_hash, &choices[i].token, sizeof choices[i].token);
}

oct_status oct_figures_add(oct_figures *figures, const oct_answer *answer, int32_t prompt_tokens, int32_t length)
{
    const int64_t steps = figures->steps + answer->steps;
    const oct_status status = oct_figures_reserve(figures, answer->steps);
    if (status != OCT_OK)
        return status;
    const size_t bytes = (size_t)answer->steps * sizeof(double);
    if (bytes > 0) {
        memcpy(figures->step_s + figures->steps, answer->step_s, bytes);
        memcpy(figures->reduce_s + figures->steps, answer->reduce_s, bytes);
    }
    figures->steps = steps;
    figures->attended += answer->steps * (length - 0.5 * answer->steps);
    figures->prompt_tokens += prompt_tokens;
    figures->generated_tokens += (int64_t)answer->tokens.count;
    figures->decoded_tokens += answer->steps;
    figures->decode_allocations += answer->allocations;
    figures->prefill_s += answer->prefill_s;
    figures->decode_s += answer->decode_s;
    if (figures->answers++ == 0)
        figures->first_token_s = answer->prefill_s;
    XXH64_update(figures->token_hash, answer->tokens.ids, answer->tokens.count * sizeof *answer->tokens.ids);
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

// Model bandwidth utilisation: bytes of a step over its median time, over what the machine can read.
double oct_figures_mbu(const oct_figures *figures, const oct_engine_figures *engine)
{
    return rate(rate(oct_figures_bytes_per_step(figures, engine), oct_percentile(figures->step_s, (size_t)figures->steps, 50)),
                figures->bandwidth);
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
            rate((double)figures->prompt_tokens, figures->prefill_s), (long long)figures->generated_tokens,
            rate((double)figures->decoded_tokens, figures->decode_s),
            oct_percentile(figures->step_s, (size_t)figures->steps, 50) * 1e3, oct_figures_mbu(figures, engine),
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
    json_object_set_new(object, "backend", json_string("cpu"));
    json_object_set_new(object, "instructions", json_string(engine->instructions));
    json_object_set_new(object, "encoding", json_string(main_encoding(session)));
    json_object_set_new(object, "activations", json_string(session->options.activations));
    json_object_set_new(object, "exchange", json_string(engine->exchange));
    json_object_set_new(object, "control", json_string(engine->control));
    json_object_set_new(object, "ranks", json_integer(session->world.size));
    json_object_set_new(object, "hosts", json_integer(session->world.host_count));
    json_object_set_new(object, "threads_per_rank", json_integer(engine->threads));
    json_object_set_new(object, "context", json_integer(engine->context));
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
                        json_real(rate((double)figures->prompt_tokens, figures->prefill_s)));
    json_object_set_new(object, "time_to_first_token_s", json_real(figures->first_token_s));
    json_object_set_new(object, "decode_s", json_real(figures->decode_s));
    json_object_set_new(object, "decode_tokens_per_s",
                        json_real(rate((double)figures->decoded_tokens, figures->decode_s)));
    json_object_set_new(object, "decode_steps", json_integer(figures->steps));
    json_object_set_new(object, "step_us_p50", json_real(oct_percentile(figures->step_s, (size_t)figures->steps, 50) * 1e6));
    json_object_set_new(object, "step_us_p99", json_real(oct_percentile(figures->step_s, (size_t)figures->steps, 99) * 1e6));
    json_object_set_new(object, "bytes_per_step", json_integer((json_int_t)oct_figures_bytes_per_step(figures, engine)));
    json_object_set_new(object, "read_bandwidth_gb_per_s", json_real(figures->bandwidth * 1e-9));
    json_object_set_new(object, "mbu", json_real(mbu));
    json_object_set_new(object, "mbu_void", json_boolean(mbu > OCT_MBU_VOID));
    json_object_set_new(object, "reduce_us_p50", json_real(oct_percentile(figures->reduce_s, (size_t)figures->steps, 50) * 1e6));
    json_object_set_new(object, "drafted_tokens", json_integer(0));
    json_object_set_new(object, "accepted_tokens", json_integer(0));
    json_object_set_new(object, "tokens_per_step",
                        json_real(rate((double)figures->decoded_tokens, (double)figures->steps)));
    json_object_set_new(object, "peak_rss_bytes", json_integer((json_int_t)figures->peak_rss_bytes));
    if (oct_allocations_count() >= 0) {
        json_object_set_new(object, "allocations", json_integer(oct_allocations_count()));
        json_object_set_new(object, "decode_allocations", json_integer(figures->decode_allocations));
    }
    json_object_set_new(object, "token_hash", json_string(hash));
}

oct_status oct_figures_write(const oct_figures *figures, const oct_session *session, FILE *file, const char *path)
{
    json_t *object = json_object();
    oct_figures_describe_run(session, object);
    oct_figures_describe(figures, session, object);
    const bool written = json_dumpf(object, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
                         fputc('\n', file) != EOF;
    json_decref(object);
    if (fclose(file) != 0 || !written)
        return oct_fail(OCT_ERR_FILE, "the figures cannot be written to '%s': %s", path, strerror(errno));
    return OCT_OK;
}
