// Sampling: from the logits of a column to its token, the same token for any split of the vocabulary over
// ranks and threads.
//
// The law. For a column whose next token will stand at `position`:
//   1. logit bias is added, then penalties (oct_sampling_adjust), giving the adjusted logit l of each token.
//      A logit that is not a number counts as −infinity; −0 counts as 0.
//   2. Temperature 0 is greedy, whatever else is asked for: the token with the largest l.
//   3. Otherwise inverse = 1 / temperature, one fp32 division; a token's score is
//      fmaf(l, inverse, oct_noise(seed, position, token)).
//   4. Order of tokens: l descending, token id ascending. A token's mass is the integer
//      rint(oct_exp((l − M) · inverse) · 2^40), difference and product rounded to fp32, M the largest l of
//      the whole vocabulary, and 0 where the exponent is below −80. Masses are added as 64-bit integers.
//      The kept tokens are a prefix of that order, never empty, which ends before the first token that fails:
//        top-k (off: 0)  at most top_k tokens;
//        top-p (off: 1)  the token is left out where the tokens before it reach rint(p · 2^32) · 2^-32 of the
//                        mass of all tokens that top-k leaves;
//        min-p (off: 0)  the token is left out where its mass is below rint(p · 2^32) · 2^-32 of the first
//                        token's.
//   5. The token is the kept one with the largest score; ties go to the smaller id.
// Log-probabilities are those of the adjusted logits at temperature 1, without truncation: (l − M) −
// log(Σ mass · 2^-40) with masses at temperature 1; they are for people and take the C library's log.
//
// The protocol. Each rank holds the logits of its vocabulary rows [first, first + n).
//   a. every rank: oct_sampling_adjust() on its logits;
//   b. where oct_sampling_needs_maximum(): the ranks agree on M, the largest of their
//      oct_sampling_maximum() (a maximum: exact);
//   c. every rank: oct_candidates_make(), whose first oct_candidates_bytes() bytes go to rank 0 (several
//      threads may make candidates of parts of the shard, oct_candidates_merge() joins them);
//   d. rank 0: oct_sampling_decide(). Where that returns OCT_NEEDS_LOGITS it gathers all adjusted logits in
//      the order of the vocabulary and calls oct_sampling_decide_full(): the same token by the law, always.
//
// Everything here is LOCAL, pure and without allocation. All callers run in one floating-point environment:
// rounding to nearest, denormals treated alike.
#ifndef OCT_RUNTIME_SAMPLING_H
#define OCT_RUNTIME_SAMPLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/history.h"
#include "runtime/status.h"

#define OCT_MAX_LOGIT_BIASES 300
#define OCT_MAX_LOGPROBS 64
#define OCT_MAX_CANDIDATES 128     // entries of a candidate list
#define OCT_USUAL_CANDIDATES 64    // entries where a request does not need more
#define OCT_MAX_CANDIDATE_LISTS 64 // ranks, or threads, whose lists are merged

typedef struct oct_logit_bias {
    int32_t token;
    float bias; // −100 … 100, added to the logit
} oct_logit_bias;

// What a request asks for; a plain struct that can be sent as bytes.
typedef struct oct_sampling {
    uint64_t seed;
    float temperature;        // 0 (greedy), or 0.001 … 100
    int32_t top_k;            // 0 (off) or more; at or above the vocabulary's size it is off too
    float top_p;              // above 0, to 1 (off)
    float min_p;              // 0 (off) … 1
    float repetition_penalty; // 0.001 … 1000, 1 is off
    float presence_penalty;   // −1000 … 1000, 0 is off
    float frequency_penalty;  // −1000 … 1000, 0 is off
    int32_t logprobs;         // most probable tokens that are reported, 0 (off) … OCT_MAX_LOGPROBS
    int32_t bias_count;
    oct_logit_bias biases[OCT_MAX_LOGIT_BIASES]; // [bias_count], no token twice
} oct_sampling;

// The command line's defaults: greedy, seed 0, everything off.
oct_sampling oct_sampling_default(void);

// Checks every parameter, and biases against the vocabulary's size (0: not known yet, only ids below 0 are
// refused). Errors: OCT_ERR_USAGE naming the parameter, its value and the allowed range.
oct_status oct_sampling_check(const oct_sampling *sampling, int32_t vocabulary);
// The same with the place where the parameters stood in front of the message, for example "a.jsonl, line 3:
// ".
oct_status oct_sampling_check_from(const oct_sampling *sampling, int32_t vocabulary, const char *where);

static inline bool oct_sampling_is_greedy(const oct_sampling *s)
{
    return !(s->temperature > 0);
}

// True where top-k, top-p or min-p can matter.
static inline bool oct_sampling_truncates(const oct_sampling *s)
{
    return !oct_sampling_is_greedy(s) && (s->top_k > 0 || s->top_p < 1 || s->min_p > 0);
}

// True where the ranks have to agree on the largest logit before candidates are made.
static inline bool oct_sampling_needs_maximum(const oct_sampling *s)
{
    return s->logprobs > 0 || (!oct_sampling_is_greedy(s) && s->top_p < 1);
}

// True where the adjusted logits depend on the tokens so far, so that a history has to be kept.
static inline bool oct_sampling_needs_history(const oct_sampling *s)
{
    return s->repetition_penalty != 1 || s->presence_penalty != 0 || s->frequency_penalty != 0;
}

// 1 / temperature as the law takes it; 1 where greedy.
static inline float oct_sampling_inverse_temperature(const oct_sampling *s)
{
    return oct_sampling_is_greedy(s) ? 1.0f : 1.0f / s->temperature;
}

// Applies bias and penalties to logits [n], the tokens first … first + n − 1, in place, in fp32 with each
// operation rounded:
//   l = l + bias
//   where the token occurs in the prompt or the output (as Hugging Face transformers counts it):
//     l = l < 0 ? l · repetition_penalty : l / repetition_penalty
//   where it occurs c > 0 times in the output (as OpenAI's API counts it):
//     l = l − (presence_penalty + frequency_penalty · c)
// Only the first `length` tokens of the history count (all where it is not longer): those behind are drafts of a step
// whose columns are sampled together. `history` may be NULL where !oct_sampling_needs_history(). Time grows with the
// number of distinct tokens in the history, times that of the tokens behind, not with n.
void oct_sampling_adjust(const oct_sampling *sampling, const oct_history *history, int32_t length, float *logits,
                         int32_t first, int32_t n);

// The largest of n logits, −infinity where n = 0 or nothing is a number.
float oct_sampling_maximum(const float *logits, int32_t n);

// A token with its score and logit; token −1 where there is none.
typedef struct oct_best {
    int32_t token;
    float score; // greedy: the logit
    float logit;
} oct_best;

// The token with the largest score among first … first + n − 1.
oct_best oct_sampling_best(const oct_sampling *sampling, uint64_t position, const float *logits,
                           int32_t first, int32_t n);

typedef struct oct_candidate {
    int32_t token;
    float logit; // adjusted
} oct_candidate;

// What a rank says about a column; a plain struct, of which oct_candidates_bytes() bytes are sent.
typedef struct oct_candidates {
    uint64_t residual_hash; // for the caller (0 when made): rank 0 compares it among the ranks
    int64_t mass;           // Σ mass at the temperature; 0 unless top-p is on
    int64_t unit_mass;      // Σ mass at temperature 1; 0 unless logprobs are on
    oct_best best;
    int32_t not_numbers; // logits that are NaN or +infinity: the model or the machine is broken (0 unless
                         // there is a mass: counted where it costs nothing)
    int32_t whole;       // 1: the list is the whole shard
    int32_t count;       // entries of the list
    oct_candidate list[OCT_MAX_CANDIDATES]; // [count] largest logits: logit descending, token ascending
} oct_candidates;

// Entries that a list needs for these parameters: 0 where the best score is enough, otherwise 64, or top_k or
// logprobs where they are larger, at most 128.
int32_t oct_sampling_list_size(const oct_sampling *sampling);

// Bytes of a candidates struct with a list of up to list_size entries: the same on all ranks, a multiple
// of 8.
size_t oct_candidates_bytes(int32_t list_size);

// Makes the candidates of adjusted logits [n], tokens first … first + n − 1; n may be 0. `maximum` is M
// (ignored unless oct_sampling_needs_maximum()); `best` is what oct_sampling_best() finds in the same logits where
// somebody knows it, or NULL: found here. list_size is oct_sampling_list_size() (tests give less). Writes no more than
// oct_candidates_bytes(list_size) bytes. Reads the logits once for the list, and once for the mass.
void oct_candidates_make(oct_candidates *candidates, const oct_sampling *sampling, uint64_t position,
                         const float *logits, int32_t first, int32_t n, float maximum, const oct_best *best,
                         int32_t list_size);

// Joins the candidates of `parts` disjoint parts of a shard (1 … OCT_MAX_CANDIDATE_LISTS, any order), made
// with the same list_size: the result is what oct_candidates_make() gives for all of them. `out` is none of
// them.
void oct_candidates_merge(oct_candidates *out, const oct_candidates *const parts_list[], int32_t parts,
                          int32_t list_size);

typedef enum oct_decision { OCT_DECIDED, OCT_NEEDS_LOGITS } oct_decision;

typedef struct oct_token_logprob {
    int32_t token;
    float logprob;
} oct_token_logprob;

typedef struct oct_choice {
    int32_t token;
    float logprob;     // of the token; 0 unless logprobs are on
    int32_t top_count; // min(logprobs, vocabulary)
    oct_token_logprob
        top[OCT_MAX_LOGPROBS]; // [top_count] most probable tokens: logit descending, token ascending
} oct_choice;

// Decides a column from the candidates of all ranks (1 … OCT_MAX_CANDIDATE_LISTS, any order, empty shards
// allowed, at least one token in all). OCT_NEEDS_LOGITS, which leaves *choice undefined, where the lists do
// not prove what the law gives.
oct_decision oct_sampling_decide(const oct_sampling *sampling, uint64_t position,
                                 const oct_candidates *const candidates[], int32_t ranks, oct_choice *choice);

// Bytes of scratch memory that oct_sampling_decide_full() needs for n tokens.
size_t oct_sampling_scratch_bytes(int32_t n);

// Decides a column from all its adjusted logits [n], n >= 1: the law itself. `scratch` is 8-byte aligned.
void oct_sampling_decide_full(const oct_sampling *sampling, uint64_t position, const float *logits, int32_t n,
                              void *scratch, oct_choice *choice);

#endif
