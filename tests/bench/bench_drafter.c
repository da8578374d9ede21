// What the suffix drafter costs: nanoseconds a token to take a prompt, to append tokens one by one, and to propose (the
// median of 7 repeats, and their range), at the end of sequences of TOKENS tokens, with finished sequences of as many
// tokens in a full arena. Kinds of text: random words with a long-tailed frequency (1 / rank, as words of a language
// have it), a copy of the sequence's first half, a table whose rows differ in one token, one token again and again.
//
//   bench_drafter [TOKENS [ARENA_MIB]]
#include <stdio.h>
#include <stdlib.h>

#include "ranks/drafter.h"
#include "runtime/bandwidth.h"
#include "runtime/progress.h"

enum { REPEATS = 7, VOCABULARY = 49152, MEASURED = 512, MOST = 16, SLOTS = 2 };

typedef enum text_kind { WORDS, COPY, TABLE, ONE, KINDS } text_kind;
static const char *const kind_names[KINDS] = {"words", "copy", "table", "one token"};

static uint32_t random_state = 7;

static double uniform(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return (double)(random_state >> 8) / (1 << 24);
}

// Ranks with probability proportional to 1 / rank, nearly: powers of a uniform number.
static int32_t word(void)
{
    double tokens = 1;
    for (int32_t i = 0; i < 16; i++)
        tokens *= uniform() < 0.5 ? 1 : 1.96; // 1.96^16 is the vocabulary
    const int32_t token = (int32_t)(tokens * (1 + 0.96 * uniform()));
    return token < VOCABULARY ? token : VOCABULARY - 1;
}

static void write_text(text_kind kind, int32_t *text, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        switch (kind) {
        case COPY:
            text[i] = i < count / 2 ? word() : text[i - count / 2];
            break;
        case TABLE:
            text[i] = i % 24 == 5 ? word() : i % 24;
            break;
        case ONE:
            text[i] = 1;
            break;
        default:
            text[i] = word();
        }
}

static void print(const char *what, double values[REPEATS])
{
    const double median = oct_percentile(values, REPEATS, 50);
    printf("  %s %6.0f (%.0f .. %.0f)", what, median, values[0], values[REPEATS - 1]);
}

static void measure(oct_drafter *drafter, text_kind kind, int32_t *text, int32_t tokens)
{
    double prompt[REPEATS], append[REPEATS], proposal[REPEATS];
    int64_t drafted = 0;
    for (int32_t repeat = 0; repeat < REPEATS; repeat++) {
        write_text(kind, text, tokens);
        const int32_t prompt_tokens = tokens - MEASURED;
        int64_t start = oct_now_ns(), appending = 0, proposing = 0;
        drafter->begin(drafter, 0, 0, text, prompt_tokens, NULL);
        prompt[repeat] = (double)(oct_now_ns() - start) / prompt_tokens;
        for (int32_t i = prompt_tokens; i < tokens; i++) {
            oct_draft drafts[MOST];
            int32_t count = 0;
            start = oct_now_ns();
            drafter->append(drafter, 0, text + i, 1);
            const int64_t appended = oct_now_ns();
            drafter->propose(drafter, 0, MOST, drafts, &count);
            proposing += oct_now_ns() - appended;
            appending += appended - start;
            drafted += count;
        }
        append[repeat] = (double)appending / MEASURED;
        proposal[repeat] = (double)proposing / MEASURED;
        drafter->end(drafter, 0, true);
    }
    printf("%-10s", kind_names[kind]);
    print("prompt", prompt);
    print("append", append);
    print("propose", proposal);
    printf("  drafts %.1f\n", (double)drafted / (REPEATS * MEASURED));
}

int main(int argc, char **argv)
{
    const int32_t tokens = argc > 1 ? atoi(argv[1]) : 8192;
    const size_t arena_bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 64) << 20;
    oct_drafter *drafter = NULL;
    if (tokens <= 2 * MEASURED) {
        fprintf(stderr, "bench_drafter: expected more than %d tokens\n", 2 * MEASURED);
        return 2;
    }
    int32_t *text = malloc(sizeof *text * (size_t)tokens);
    if (text == NULL || oct_drafter_suffix_create(&drafter, SLOTS, tokens, VOCABULARY, arena_bytes) != OCT_OK)
        return 4;
    // The arena is filled by sequences of all kinds in turn; 40 bytes a token are fewer than it takes.
    for (int64_t filled = 0, kind = 0; filled * 40 < (int64_t)arena_bytes; filled += tokens, kind++) {
        write_text((text_kind)(kind % KINDS), text, tokens);
        drafter->begin(drafter, 1, 0, text, tokens, NULL);
        drafter->end(drafter, 1, true);
    }
    printf("%d tokens, arena %zu MiB; ns a token\n", tokens, arena_bytes >> 20);
    for (int32_t kind = 0; kind < KINDS; kind++)
        measure(drafter, (text_kind)kind, text, tokens);
    drafter->destroy(drafter);
    free(text);
    return 0;
}
