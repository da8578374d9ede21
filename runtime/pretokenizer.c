// The patterns, and the cutting of text with PCRE2.
//
// The patterns are written for other engines; two things are spelled out here. Their \s is Unicode's
// White_Space, while PCRE2's has U+180E as well, so the set is listed. And a pattern of several stages
// (SmolLM2: first the digits, then the words between them) is applied stage by stage: what a stage cuts
// out is all that the next one sees, look-ahead included.
#include "runtime/pretokenizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define SPACES                                                                                               \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define SPACE "[" SPACES "]"
#define NO_SPACE "[^" SPACES "]"
#define REST "[^" SPACES "\\p{L}\\p{N}]"
#define TAIL SPACE "+(?!" NO_SPACE ")|" SPACE "+"

// GPT-2 (openai/gpt-2, encoder.py).
#define WORDS_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" REST "+|" TAIL
// Llama 3 and Qwen2 (their tokenizer.json), which differ in how many digits make a word.
#define WORDS_2024(digits)                                                                                   \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?" REST "+[\\r\\n]*|" SPACE      \
    "*[\\r\\n]+|" TAIL

enum { MAX_STAGES = 2 };

typedef struct pattern {
    const char *names[4]; // as GGUF names it, and other names of the same
    const char *stages[MAX_STAGES];
    bool normalises, prefers_whole_words;
} pattern;

static const pattern patterns[] = {
    {.names = {"smollm", "starcoder", "refact"}, .stages = {"\\p{N}", WORDS_GPT2}},
    {.names = {"llama-bpe", "llama3", "llama-v3"},
     .stages = {WORDS_2024("\\p{N}{1,3}")},
     .prefers_whole_words = true},
    {.names = {"qwen2"}, .stages = {WORDS_2024("\\p{N}")}, .normalises = true},
    {.names = {"gpt-2"}, .stages = {WORDS_GPT2}},
};

struct oct_pretokenizer {
    const pattern *pattern;
    pcre2_code *stages[MAX_STAGES];
    int n_stages;
};

static const pattern *find_pattern(const char *name)
{
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++)
        for (int j = 0; j < 4 && patterns[i].names[j]; j++)
            if (strcmp(name, patterns[i].names[j]) == 0)
                return &patterns[i];
    return NULL;
}

static oct_status compile_stage(pcre2_code **code, const char *text)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    *code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK,
                          &error, &at, NULL);
    if (!*code)
        return oct_fail(OCT_ERR_INTERNAL, "PCRE2 refused the pattern %s at %zu (error %d)", text, (size_t)at,
                        error);
    // Without a just-in-time compiler in this PCRE2 the pattern is interpreted: slower, the same words.
    (void)pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);
    return OCT_OK;
}

oct_status oct_pretokenizer_create(oct_pretokenizer **pretokenizer, const char *name)
{
    const pattern *found = find_pattern(name);
    if (!found)
        return oct_fail(OCT_ERR_FILE,
                        "the vocabulary asks for the pre-tokenizer \"%s\"; known are smollm (starcoder, "
                        "refact), llama-bpe (llama3, llama-v3), qwen2 and gpt-2",
                        name);
    oct_pretokenizer *made = calloc(1, sizeof *made);
    if (!made)
        return oct_fail(OCT_ERR_MACHINE, "no memory for a pre-tokenizer");
    made->pattern = found;
    oct_status status = OCT_OK;
    for (int i = 0; i < MAX_STAGES && found->stages[i] && status == OCT_OK; i++, made->n_stages++)
        status = compile_stage(&made->stages[i], found->stages[i]);
    if (status != OCT_OK) {
        oct_pretokenizer_destroy(made);
        return status;
    }
    *pretokenizer = made;
    return OCT_OK;
}

void oct_pretokenizer_destroy(oct_pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    for (int i = 0; i < MAX_STAGES; i++)
        pcre2_code_free(pretokenizer->stages[i]);
    free(pretokenizer);
}

bool oct_pretokenizer_normalises(const oct_pretokenizer *pretokenizer)
{
    return pretokenizer->pattern->normalises;
}

bool oct_pretokenizer_prefers_whole_words(const oct_pretokenizer *pretokenizer)
{
    return pretokenizer->pattern->prefers_whole_words;
}

typedef struct cutting {
    const oct_pretokenizer *pretokenizer;
    pcre2_match_data *matches[MAX_STAGES];
    pcre2_match_context *limits;
    oct_pretokenizer_word word;
    void *context;
} cutting;

static int match(const cutting *cut, int stage, const char *text, size_t bytes, size_t from)
{
    const pcre2_code *code = cut->pretokenizer->stages[stage];
    pcre2_match_data *found = cut->matches[stage];
    int result = pcre2_match(code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, found, cut->limits);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
        result = pcre2_match(code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, found,
                             cut->limits);
    return result;
}

// Cuts with one stage; its matches and what lies between them go to the next stage, words to the caller.
static oct_status cut_stage(const cutting *cut, int stage, const char *text, size_t bytes)
{
    if (bytes == 0)
        return OCT_OK;
    if (stage >= MAX_STAGES || stage == cut->pretokenizer->n_stages)
        return cut->word(cut->context, text, bytes);
    oct_status status = OCT_OK;
    size_t at = 0;
    while (at < bytes && status == OCT_OK) {
        int result = match(cut, stage, text, bytes, at);
        size_t begin = bytes, end = bytes;
        if (result > 0) {
            const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(cut->matches[stage]);
            begin = bounds[0];
            end = bounds[1];
        } else if (result == PCRE2_ERROR_NOMEMORY || result == PCRE2_ERROR_HEAPLIMIT) {
            return oct_fail(OCT_ERR_MACHINE, "no memory to cut a text of %zu bytes into words", bytes);
        } else if (result != PCRE2_ERROR_NOMATCH) {
            return oct_fail(OCT_ERR_INTERNAL, "PCRE2 failed with %d in a text of %zu bytes", result, bytes);
        }
        status = cut_stage(cut, stage + 1, text + at, begin - at);
        if (status == OCT_OK)
            status = cut_stage(cut, stage + 1, text + begin, end - begin);
        at = end;
    }
    return status;
}

oct_status oct_pretokenizer_cut(const oct_pretokenizer *pretokenizer, const char *text, size_t bytes,
                                oct_pretokenizer_word word, void *context)
{
    cutting cut = {.pretokenizer = pretokenizer, .word = word, .context = context};
    cut.limits = pcre2_match_context_create(NULL);
    bool whole = cut.limits != NULL;
    for (int i = 0; i < pretokenizer->n_stages; i++) {
        cut.matches[i] = pcre2_match_data_create(1, NULL);
        whole = whole && cut.matches[i];
    }
    oct_status status;
    if (whole) {
        // The library's limits guard against patterns that explode; these take time linear in the text.
        pcre2_set_match_limit(cut.limits, UINT32_MAX);
        pcre2_set_depth_limit(cut.limits, UINT32_MAX);
        pcre2_set_heap_limit(cut.limits, UINT32_MAX);
        status = cut_stage(&cut, 0, text, bytes);
    } else {
        status = oct_fail(OCT_ERR_MACHINE, "no memory to cut a text into words");
    }
    for (int i = 0; i < MAX_STAGES; i++)
        pcre2_match_data_free(cut.matches[i]);
    pcre2_match_context_free(cut.limits);
    return status;
}
