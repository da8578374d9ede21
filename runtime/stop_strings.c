// Matching of stop strings by the automaton of Knuth, Morris and Pratt ("Fast pattern matching in strings",
// SIAM J. Computing 6, 1977), one for each string: its state is the longest end of the bytes so far that
// begins the string, and the longest of the states is what has to be held back.
#include "runtime/stop_strings.h"

#include <stdlib.h>
#include <string.h>

typedef struct pattern {
    char *bytes; // [length]
    size_t length;
    size_t *borders; // [length] longest proper border of the first i + 1 bytes
    size_t matched;
} pattern;

struct oct_stop_matcher {
    size_t count;
    pattern *patterns;
    size_t fed, safe;
    int32_t hit;
};

static oct_status pattern_make(pattern *p, const char *stop)
{
    p->length = strlen(stop);
    if (p->length == 0)
        return oct_fail(OCT_ERR_USAGE, "a stop string is empty, expected at least one character");
    p->bytes = strdup(stop);
    p->borders = calloc(p->length, sizeof *p->borders);
    if (!p->bytes || !p->borders)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a stop string of %zu bytes", p->length);
    for (size_t i = 1, border = 0; i < p->length; i++) {
        while (border > 0 && p->bytes[i] != p->bytes[border])
            border = p->borders[border - 1];
        border += p->bytes[i] == p->bytes[border];
        p->borders[i] = border;
    }
    return OCT_OK;
}

oct_status oct_stop_matcher_create(oct_stop_matcher **matcher, const char *const *stops, size_t count)
{
    oct_stop_matcher *made = calloc(1, sizeof *made);
    if (made)
        made->patterns = calloc(count + 1, sizeof *made->patterns);
    if (!made || !made->patterns) {
        free(made);
        return oct_fail(OCT_ERR_MACHINE, "no memory for %zu stop strings", count);
    }
    made->hit = -1;
    made->count = count;
    for (size_t i = 0; i < count; i++) {
        oct_status status = pattern_make(&made->patterns[i], stops[i]);
        if (status) {
            oct_stop_matcher_destroy(made);
            return status;
        }
    }
    *matcher = made;
    return OCT_OK;
}

void oct_stop_matcher_destroy(oct_stop_matcher *matcher)
{
    if (!matcher)
        return;
    for (size_t i = 0; i < matcher->count; i++) {
        free(matcher->patterns[i].bytes);
        free(matcher->patterns[i].borders);
    }
    free(matcher->patterns);
    free(matcher);
}

static void pattern_step(pattern *p, char byte)
{
    while (p->matched > 0 && p->bytes[p->matched] != byte)
        p->matched = p->borders[p->matched - 1];
    p->matched += p->bytes[p->matched] == byte;
}

size_t oct_stop_matcher_feed(oct_stop_matcher *matcher, const char *bytes, size_t n)
{
    for (size_t at = 0; at < n && matcher->hit < 0; at++) {
        size_t held = 0;
        matcher->fed++;
        for (size_t i = 0; i < matcher->count; i++) {
            pattern *p = &matcher->patterns[i];
            pattern_step(p, bytes[at]);
            held = p->matched > held ? p->matched : held;
            if (p->matched == p->length &&
                (matcher->hit < 0 || p->length > matcher->patterns[matcher->hit].length))
                matcher->hit = (int32_t)i;
        }
        matcher->safe = matcher->fed - (matcher->hit < 0 ? held : matcher->patterns[matcher->hit].length);
    }
    return matcher->safe;
}

int32_t oct_stop_matcher_hit(const oct_stop_matcher *matcher)
{
    return matcher->hit;
}

size_t oct_stop_matcher_finish(const oct_stop_matcher *matcher)
{
    return matcher->hit < 0 ? matcher->fed : matcher->safe;
}
