// `octet score`: log-likelihood and perplexity of a text or of token ids; with a reference model, how far the two
// models' distributions are apart. All logits come to rank 0, which works in double precision.
#include "launch/commands.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "launch/prompt.h"
#include "launch/session.h"

enum { WINDOW_TOKENS = 512 };

// Token sequences that are scored on their own: lines of --tokens, windows of --text.
typedef struct sequences {
    oct_token_list tokens;
    size_t *begins; // [count + 1]
    size_t count;
} sequences;

typedef struct score {
    oct_session *session;
    oct_engine *reference; // NULL: none
    sequences work;
    FILE *logits_file;
    float *reference_logits; // [longest sequence][vocabulary]
    const int32_t *ids;      // of the sequence at hand
    int32_t length;
    double log_likelihood, divergence;
    int64_t predicted, compared, agreed;
    bool broken; // the logits file cannot be written
} score;

static oct_status add_sequence(sequences *work)
{
    size_t *grown = realloc(work->begins, (work->count + 2) * sizeof *grown);
    if (grown == NULL)
        return oct_fail(OCT_ERR_MACHINE, "no memory for %zu sequences", work->count + 1);
    work->begins = grown;
    if (work->count == 0)
        grown[0] = 0;
    grown[++work->count] = work->tokens.count;
    return OCT_OK;
}

static oct_status parse_line(sequences *work, const char *line, const char *path, int64_t number, int32_t vocabulary)
{
    const size_t before = work->tokens.count;
    for (const char *at = line + strspn(line, " \t\r"); *at != '\0';) {
        char *end;
        errno = 0;
        const long long id = strtoll(at, &end, 10);
        if (end == at || errno != 0 || id < 0 || id >= vocabulary)
            return oct_fail(OCT_ERR_FILE, "%s:%lld: '%.20s' is not a token id from 0 to %d", path, (long long)number,
                            at, vocabulary - 1);
        const int32_t token = (int32_t)id;
        const oct_status status = oct_token_list_append(&work->tokens, &token, 1);
        if (status != OCT_OK)
            return status;
        at = end + strspn(end, " \t\r");
    }
    return work->tokens.count > before ? add_sequence(work) : OCT_OK;
}

static oct_status read_tokens(score *s, char *text, const char *path)
{
    const int32_t vocabulary = oct_engine_model(s->session->engine)->vocabulary;
    int64_t number = 1;
    oct_status status = OCT_OK;
    for (char *line = text, *next; status == OCT_OK && line != NULL; line = next, number++) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        status = parse_line(&s->work, line, path, number, vocabulary);
    }
    return status;
}

static oct_status cut_text(score *s, const char *text, size_t bytes, int32_t context)
{
    sequences *work = &s->work;
    oct_token_list all = {0};
    oct_status status = oct_tokenizer_encode(s->session->tokenizer, text, bytes, OCT_ENCODE_ADD_SPECIAL, &all);
    const size_t window = context < WINDOW_TOKENS ? (size_t)context : WINDOW_TOKENS;
    for (size_t at = 0; status == OCT_OK && at < all.count; at += window) {
        const size_t n = all.count - at < window ? all.count - at : window;
        status = oct_token_list_append(&work->tokens, all.ids + at, n);
        if (status == OCT_OK)
            status = add_sequence(work);
    }
    oct_token_list_free(&all);
    return status;
}

static oct_status read_sequences(score *s)
{
    const oct_options *options = &s->session->options;
    const char *path = options->text != NULL ? options->text : options->tokens;
    const int32_t context = oct_engine_read_figures(s->session->engine)->context;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return oct_fail(OCT_ERR_FILE, "'%s' cannot be opened: %s", path, strerror(errno));
    char *text = NULL;
    size_t bytes = 0;
    oct_status status = oct_read_all(file, path, &text, &bytes);
    fclose(file);
    if (status == OCT_OK)
        status = options->text != NULL ? cut_text(s, text, bytes, context) : read_tokens(s, text, path);
    free(text);
    for (size_t i = 0; status == OCT_OK && i < s->work.count; i++)
        if (s->work.begins[i + 1] - s->work.begins[i] > (size_t)context)
            status =
                oct_fail(OCT_ERR_USAGE, "sequence %zu has %zu tokens, the context holds %d; give a larger --context",
                         i + 1, s->work.begins[i + 1] - s->work.begins[i], context);
    if (status == OCT_OK && s->work.count == 0)
        status = oct_fail(OCT_ERR_FILE, "'%s' holds no tokens", path);
    return status;
}

static double log_sum_exp(const float *logits, int32_t n, int32_t *largest)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)logits[best]);
    *largest = best;
    return (double)logits[best] + log(sum);
}

static void keep_reference(void *context, int32_t position, const float *logits)
{
    score *s = context;
    const size_t vocabulary = (size_t)oct_engine_model(s->reference)->vocabulary;
    memcpy(s->reference_logits + (size_t)position * vocabulary, logits, vocabulary * sizeof(float));
}

static void compare(score *s, int32_t position, const float *logits, double norm, int32_t largest)
{
    const int32_t vocabulary = oct_engine_model(s->session->engine)->vocabulary;
    const float *theirs = s->reference_logits + (size_t)position * (size_t)vocabulary;
    int32_t their_largest;
    const double their_norm = log_sum_exp(theirs, vocabulary, &their_largest);
    double divergence = 0;
    for (int32_t i = 0; i < vocabulary; i++) {
        const double p = (double)theirs[i] - their_norm;
        divergence += exp(p) * (p - ((double)logits[i] - norm));
    }
    s->divergence += divergence;
    s->compared++;
    s->agreed += largest == their_largest;
}

static void take_logits(void *context, int32_t position, const float *logits)
{
    score *s = context;
    const int32_t vocabulary = oct_engine_model(s->session->engine)->vocabulary;
    int32_t largest;
    const double norm = log_sum_exp(logits, vocabulary, &largest);
    if (position + 1 < s->length) {
        s->log_likelihood += (double)logits[s->ids[position + 1]] - norm;
        s->predicted++;
    }
    if (s->reference != NULL)
        compare(s, position, logits, norm, largest);
    if (s->logits_file != NULL &&
        fwrite(logits, sizeof *logits, (size_t)vocabulary, s->logits_file) != (size_t)vocabulary)
        s->broken = true;
}

static oct_status score_sequence(score *s, size_t i)
{
    const oct_sampling greedy = oct_sampling_default();
    s->ids = s->work.tokens.ids + s->work.begins[i];
    s->length = (int32_t)(s->work.begins[i + 1] - s->work.begins[i]);
    oct_status status = OCT_OK;
    if (s->reference != NULL) {
        status = oct_engine_pass(s->session->engine);
        if (status == OCT_OK)
            status = oct_engine_begin_sequence(s->reference, 0, &greedy, NULL, 0, 0);
        if (status == OCT_OK)
            status =
                oct_engine_forward(s->reference, 0, s->ids, s->length, true, OCT_WANT_LOGITS, NULL, keep_reference, s);
        if (status == OCT_OK)
            status = oct_engine_pass(s->reference);
    }
    if (status == OCT_OK)
        status = oct_engine_begin_sequence(s->session->engine, 0, &greedy, NULL, 0, 0);
    if (status == OCT_OK)
        status =
            oct_engine_forward(s->session->engine, 0, s->ids, s->length, true, OCT_WANT_LOGITS, NULL, take_logits, s);
    return status;
}

static oct_status print_result(const score *s)
{
    const double mean = s->predicted > 0 ? s->log_likelihood / (double)s->predicted : 0;
    json_t *object = json_object();
    json_object_set_new(object, "model", json_string(oct_engine_model(s->session->engine)->name));
    json_object_set_new(object, "sequences", json_integer((json_int_t)s->work.count));
    json_object_set_new(object, "tokens", json_integer((json_int_t)s->work.tokens.count));
    json_object_set_new(object, "predicted_tokens", json_integer(s->predicted));
    json_object_set_new(object, "log_likelihood", json_real(s->log_likelihood));
    json_object_set_new(object, "perplexity", json_real(exp(-mean)));
    if (s->compared > 0) {
        json_object_set_new(object, "compared_positions", json_integer(s->compared));
        json_object_set_new(object, "kl_divergence", json_real(s->divergence / (double)s->compared));
        json_object_set_new(object, "top1_agreement", json_real((double)s->agreed / (double)s->compared));
    }
    if (s->session->options.json) {
        json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        printf("\n");
    } else {
        const char *key;
        json_t *value;
        json_object_foreach(object, key, value) {
            if (json_is_string(value))
                printf("%-20s %s\n", key, json_string_value(value));
            else
                printf("%-20s %.8g\n", key, json_number_value(value));
        }
    }
    json_decref(object);
    if (fflush(stdout) != 0 || ferror(stdout))
        return oct_fail(OCT_ERR_FILE, "the result cannot be written to stdout: %s", strerror(errno));
    return OCT_OK;
}

static oct_status prepare(score *s)
{
    const oct_options *options = &s->session->options;
    oct_status status = read_sequences(s);
    if (status == OCT_OK && options->logits != NULL) {
        s->logits_file = fopen(options->logits, "wb");
        if (s->logits_file == NULL)
            status = oct_fail(OCT_ERR_FILE, "'%s' cannot be written: %s", options->logits, strerror(errno));
    }
    if (status != OCT_OK || s->reference == NULL)
        return status;
    const size_t vocabulary = (size_t)oct_engine_model(s->reference)->vocabulary;
    if (vocabulary != (size_t)oct_engine_model(s->session->engine)->vocabulary)
        return oct_fail(OCT_ERR_USAGE, "the reference has a vocabulary of %zu tokens, the model one of %d", vocabulary,
                        oct_engine_model(s->session->engine)->vocabulary);
    size_t longest = 0;
    for (size_t i = 0; i < s->work.count; i++) {
        const size_t n = s->work.begins[i + 1] - s->work.begins[i];
        longest = n > longest ? n : longest;
    }
    s->reference_logits = malloc(longest * vocabulary * sizeof(float));
    return s->reference_logits != NULL ? OCT_OK
                                       : oct_fail(OCT_ERR_MACHINE, "no memory for the reference's logits of %zu tokens",
                                                  longest);
}

static oct_status run(oct_session *session)
{
    score s = {.session = session, .reference = session->second};
    oct_status status = prepare(&s);
    for (size_t i = 0; status == OCT_OK && i < s.work.count; i++)
        status = score_sequence(&s, i);
    if (s.logits_file != NULL && (fclose(s.logits_file) != 0 || s.broken) && status == OCT_OK)
        status = oct_fail(OCT_ERR_FILE, "'%s' cannot be written: %s", session->options.logits, strerror(errno));
    if (status == OCT_OK && !(isfinite(s.log_likelihood) && isfinite(s.divergence)))
        status = oct_fail(OCT_ERR_FILE, "the logits are NaN or infinite, expected numbers: the weights are damaged or "
                          "overflow; see `octet inspect --verify`, or import the model again");
    if (status == OCT_OK)
        status = print_result(&s);
    free(s.reference_logits);
    free(s.work.begins);
    oct_token_list_free(&s.work.tokens);
    return status;
}

int oct_command_score(int argc, char **argv)
{
    return oct_session_run(OCT_COMMAND_SCORE, argc, argv, run);
}
