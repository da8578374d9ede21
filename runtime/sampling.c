// The parameters of sampling, what they do to logits, and the best score. Candidate lists are made in
// sampling_candidates.c and decided in sampling_decide.c.
#include "runtime/sampling.h"

#include <math.h>
#include <string.h>

#include "runtime/sampling_law.h"

oct_sampling oct_sampling_default(void)
{
    oct_sampling sampling;
    memset(&sampling, 0, sizeof sampling);
    sampling.top_p = 1;
    sampling.repetition_penalty = 1;
    return sampling;
}

static oct_status check_range(const char *where, const char *name, double value, double low, double high,
                              const char *note)
{
    if (value >= low && value <= high)
        return OCT_OK;
    return oct_fail(OCT_ERR_USAGE, "%s%s is %g, expected %g to %g%s", where, name, value, low, high, note);
}

static oct_status check_biases(const oct_sampling *s, int32_t vocabulary, const char *where)
{
    if (s->bias_count < 0 || s->bias_count > OCT_MAX_LOGIT_BIASES)
        return oct_fail(OCT_ERR_USAGE, "%slogit_bias has %d entries, expected 0 to %d", where,
                        (int)s->bias_count, OCT_MAX_LOGIT_BIASES);
    for (int32_t i = 0; i < s->bias_count; i++) {
        const oct_logit_bias *bias = &s->biases[i];
        if (bias->token < 0 || (vocabulary > 0 && bias->token >= vocabulary))
            return oct_fail(OCT_ERR_USAGE, "%slogit_bias names token %d, expected 0 to %d", where,
                            (int)bias->token, vocabulary > 0 ? (int)vocabulary - 1 : INT32_MAX);
        if (!(bias->bias >= -100 && bias->bias <= 100))
            return oct_fail(OCT_ERR_USAGE, "%slogit_bias of token %d is %g, expected -100 to 100", where,
                            (int)bias->token, (double)bias->bias);
        for (int32_t j = 0; j < i; j++)
            if (s->biases[j].token == bias->token)
                return oct_fail(OCT_ERR_USAGE, "%slogit_bias names token %d twice, expected each token once",
                                where, (int)bias->token);
    }
    return OCT_OK;
}

oct_status oct_sampling_check_from(const oct_sampling *s, int32_t vocabulary, const char *where)
{
    if (s->temperature != 0 && !(s->temperature >= 0.001f && s->temperature <= 100))
        return oct_fail(OCT_ERR_USAGE, "%stemperature is %g, expected 0 (greedy), or 0.001 to 100", where,
                        (double)s->temperature);
    if (s->top_k < 0)
        return oct_fail(OCT_ERR_USAGE, "%stop_k is %d, expected 1 or more, or 0 for no limit", where,
                        (int)s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return oct_fail(OCT_ERR_USAGE, "%stop_p is %g, expected above 0 to 1 (1 is off)", where,
                        (double)s->top_p);
    const struct {
        const char *name;
        double value, low, high;
        const char *note;
    } ranges[] = {
        {"min_p", (double)s->min_p, 0, 1, " (0 is off)"},
        {"repetition_penalty", (double)s->repetition_penalty, (double)0.001f, 1000, " (1 is off)"},
        {"presence_penalty", (double)s->presence_penalty, -1000, 1000, " (0 is off)"},
        {"frequency_penalty", (double)s->frequency_penalty, -1000, 1000, " (0 is off)"},
        {"logprobs", s->logprobs, 0, OCT_MAX_LOGPROBS, " (0 is off)"},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        oct_status status = check_range(where, ranges[i].name, ranges[i].value, ranges[i].low, ranges[i].high,
                                        ranges[i].note);
        if (status)
            return status;
    }
    return check_biases(s, vocabulary, where);
}

oct_status oct_sampling_check(const oct_sampling *s, int32_t vocabulary)
{
    return oct_sampling_check_from(s, vocabulary, "");
}

static void apply_penalties(const oct_sampling *s, const oct_history *history, int32_t length, float *logits,
                            int32_t first, int32_t n)
{
    for (int32_t i = 0; i < history->distinct; i++) {
        int32_t token = history->distinct_tokens[i], total, count;
        int64_t row = (int64_t)token - first;
        if (row < 0 || row >= n)
            continue;
        oct_history_count(history, length, token, &total, &count);
        if (total == 0)
            continue;
        float l = logits[row];
        l = l < 0 ? l * s->repetition_penalty : l / s->repetition_penalty;
        if (count > 0) {
            float repeated = s->frequency_penalty * (float)count;
            float penalty = s->presence_penalty + repeated;
            l = l - penalty;
        }
        logits[row] = l;
    }
}

void oct_sampling_adjust(const oct_sampling *s, const oct_history *history, int32_t length, float *logits,
                         int32_t first, int32_t n)
{
    for (int32_t i = 0; i < s->bias_count; i++) {
        int64_t row = (int64_t)s->biases[i].token - first;
        if (row >= 0 && row < n)
            logits[row] += s->biases[i].bias;
    }
    if (history && oct_sampling_needs_history(s))
        apply_penalties(s, history, length, logits, first, n);
}

// Where a value above `threshold` first stands in x [n], or n. Sixty-four values are compared at a time, so
// that compilers use vectors.
static int32_t find_above(const float *x, int32_t n, float threshold)
{
    int32_t i = 0;
    for (; i + OCT_SCAN_BLOCK <= n; i += OCT_SCAN_BLOCK)
        if (oct_any_above(x + i, threshold))
            break;
    while (i < n && !(x[i] > threshold))
        i++;
    return i;
}

static oct_best greedy_best(const float *logits, int32_t first, int32_t n)
{
    oct_best best = {-1, -INFINITY, -INFINITY};
    if (n > 0)
        best.token = first; // where nothing is above −infinity
    for (int32_t i = find_above(logits, n, best.logit); i < n;) {
        best.token = first + i;
        best.score = best.logit = logits[i];
        i++;
        i += find_above(logits + i, n - i, best.logit);
    }
    return best;
}

float oct_sampling_maximum(const float *logits, int32_t n)
{
    return greedy_best(logits, 0, n).logit + 0.0f;
}

oct_best oct_sampling_best(const oct_sampling *s, uint64_t position, const float *logits, int32_t first,
                           int32_t n)
{
    return oct_sampling_is_greedy(s) ? greedy_best(logits, first, n)
                                     : oct_law_noisy_best(s, position, logits, first, n);
}
