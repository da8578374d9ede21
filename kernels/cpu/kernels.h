// The CPU kernels: the inner loops of the step program's operations, as one table of functions for an
// instruction set. The scalar table is the law; the others give its bits. All of them are LOCAL, allocate
// nothing and need the floating-point environment of oct_cpu_enter_thread().
//
// The law (docs/numbers.md): fp32 with explicit fmaf and nothing contracted; 16 virtual lanes; a lane tree
// adds lane i and i + 8, then i + 4, i + 2, i + 1. A matrix has one fp32 accumulator a row and column, taken
// in ascending K:
//   int8 form   per group of 16 or 32 columns: I = Σ (value − zero) · x exactly in int32, A = Σ x;
//               acc = fmaf(scale_w · scale_x, (float)I, acc); where the encoding has minima, then
//               acc = fmaf(minimum · scale_x, (float)A, acc). Each product of two scales is rounded once.
//   bf16 form   per pair of columns: acc = fmaf(w[odd], x[odd], acc); acc = fmaf(w[even], x[even], acc)
//   fp32 form   acc = fmaf(w, x, acc) for each column, w decoded as oct_strip_decode_row() does
// Denormals are flushed to zero, as operands and as results.
#ifndef OCT_KERNELS_CPU_KERNELS_H
#define OCT_KERNELS_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/encoding.h"
#include "runtime/model.h"
#include "runtime/page_table.h"
#include "runtime/partition.h"
#include "runtime/step_program.h"

// The forms in which a matrix can take its input; bits, so that an input can be made in several.
typedef enum oct_activation_form {
    OCT_FORM_F32 = 1,
    OCT_FORM_BF16 = 2,
    OCT_FORM_INT8 = 4
} oct_activation_form;

// The form that an encoding takes: integer ones int8, f16 and bf16 take bf16, f32 takes f32.
oct_activation_form oct_encoding_form(oct_encoding encoding);

// What the int8 form says of 32 inputs besides their codes.
typedef struct oct_activation_group {
    float scale;          // largest magnitude / 127
    int32_t sum;          // of the codes
    int32_t half_sums[2]; // of the first and the last 16 codes
} oct_activation_group;

// The input of matrices: `columns` vectors of `width` elements, width a multiple of 32; elements past the end of K
// are zero. A unit is 32 elements of a column. Units are packed in the order in which kernels read them: columns in
// panels of 16 (the last one as wide as is left), a panel unit by unit, in a unit a column beside the next. So all
// that a pass needs of its columns is one stream at constant distances; with one column the elements are in order.
// Only the arrays of the forms in use are there, each with room for OCT_PANEL_COLUMNS units behind the last: a pass
// may read (not use) columns that its panel lacks.
#define OCT_PANEL_COLUMNS 16
#define OCT_UNIT_COLUMNS 32
typedef struct oct_activations {
    int64_t width;
    int32_t columns;
    float *f32;                   // [units][32]
    float *rounded;               // [units][32] bf16 form: the inputs rounded to bf16
    uint16_t *bf16;               // [units][32] bf16 form: the same as bf16
    int8_t *codes;                // [units][32] int8 form: in −127…127, x ≈ scale · code
    oct_activation_group *groups; // [units] int8 form
} oct_activations;

// Columns of the panel that holds `column`.
static inline int32_t oct_panel_columns(const oct_activations *x, int32_t column)
{
    const int32_t left = x->columns - column / OCT_PANEL_COLUMNS * OCT_PANEL_COLUMNS;
    return left < OCT_PANEL_COLUMNS ? left : OCT_PANEL_COLUMNS;
}

// Where unit `unit` of a column stands.
static inline int64_t oct_activation_unit(const oct_activations *x, int64_t unit, int32_t column)
{
    const int32_t inside = column % OCT_PANEL_COLUMNS;
    return (column - inside) * (x->width / OCT_UNIT_COLUMNS) + unit * oct_panel_columns(x, column) + inside;
}

// Dot products of consecutive strips, for all columns of x, over one granule (all of K) or several that follow each
// other in K. Each granule g has sums of its own,
//   sum[c][16 s + r] = Σ_k W[16 s + r][k] · x[c][x_offset + k − granules[0].begin], k in granules[g],
// which are pushed on a stack; then merges[g] times the two top values are replaced by (lower + upper), as
// oct_tree_schedule says. The nodes that are left go to out[node · node_stride + c · out_stride + 16 s + r].
// Reads strips · strip_bytes of weights once from memory.
typedef struct oct_dot {
    const uint8_t *weights; // strip s at weights + s · strip_bytes: its granules one after another
    size_t strip_bytes;
    int32_t strips;
    const oct_column_run *granules; // K ranges in absolute columns; blocks break at multiples of 256
    const uint8_t *merges;          // [granule_count]
    int32_t granule_count, nodes;
    const uint8_t *next; // weights that this thread reads afterwards, to be fetched in time; NULL: not known
    const oct_activations *x;
    int64_t x_offset; // where the first granule's first column stands in x; a multiple of 32
    float *out;       // [nodes][node_stride], a node [x->columns][out_stride]
    size_t out_stride, node_stride;
} oct_dot;

typedef void (*oct_dot_function)(const oct_dot *dot);

// One attention split of one column: `queries` query heads that share a key-value head.
typedef struct oct_attention {
    const float *q; // [queries][head_dim], rotated
    int32_t queries, head_dim;
    float scale;                            // of the scores, head_dim^-0.5
    const uint16_t *pages[OCT_SPLIT_PAGES]; // f16 page of 64 positions: K [head_dim][64], then V
                                            // [64][head_dim]; pages outside [begin, end) are never touched
    const uint16_t *next;                   // page that is read afterwards, to be fetched in time; NULL: not known
    int32_t begin, end;                     // attended positions inside the split, 0 <= begin < end <= 256
    float *state;                           // out [queries][2 + head_dim]: maximum, sum, weighted values
} oct_attention;

typedef struct oct_cpu_kernels {
    const char *name; // "scalar", "avx2", "avx512"

    oct_dot_function dot[OCT_ENCODING_COUNT];     // with the form of oct_encoding_form()
    oct_dot_function dot_f32[OCT_ENCODING_COUNT]; // fp32 form of every encoding (--activations fp32); may be
                                                  // the scalar functions in every table

    // out[i] = (x[i] · r) · weight[i], r = 1 / sqrtf(S / n + epsilon); S: blocks of 64 elements, in each of
    // which lane j adds squares of elements j, j + 16, j + 32, j + 48 by fmaf and the lane tree adds the
    // lanes; the blocks' sums are added by the halving tree of runtime/partition.h. In place allowed.
    void (*rms_norm)(const float *x, const float *weight, int32_t n, float epsilon, float *out);

    // x [width] (a multiple of 32) → codes, groups: scale = largest / 127, code = rint(x · (127 /
    // largest)) to nearest even; all zero where largest / 127 is flushed; scale NaN and codes 0 where a value
    // is not finite.
    void (*quantize)(const float *x, int64_t width, int8_t *codes, oct_activation_group *groups);
    // To nearest even; denormals to zero with their sign, NaN to a quiet NaN.
    void (*round_bf16)(const float *x, int64_t width, uint16_t *out);

    // out[i] = gate[i] / (1 + exp(−gate[i])) · up[i]
    void (*silu_multiply)(const float *gate, const float *up, int64_t n, float *out);

    // to[i] = to[i] + from[i]
    void (*add)(float *to, const float *from, int64_t n);

    // The end of a reduction: to[i] = to[i] + root[i], n a multiple of 16, count >= 1. The root is added up from the
    // nodes as runtime/partition.h says: push nodes[k][i], then merges[k] times replace the two top values by (lower +
    // upper). Reads and writes each number once.
    void (*add_tree)(float *to, const float *const *nodes, const uint8_t *merges, int32_t count, int64_t n);

    // Rotates the first `dims` values of x in place; table [dims / 2][2] = cos, sin:
    // a' = fmaf(a, cos, −(b · sin)), b' = fmaf(b, cos, a · sin).
    void (*rope)(float *x, const float *table, int32_t dims, oct_rope_convention convention);

    // Writes key and value [head_dim] of one position (0…63) into a page as f16 (nearest even).
    void (*store_key_value)(uint16_t *page, int32_t head_dim, int32_t position, const float *key,
                            const float *value);

    // Scores: ascending fmaf chain over head_dim, then · scale. Maximum over the attended positions; weights
    // exp(score − maximum); their sum: lane j adds positions j, j + 16, … in ascending order, then the lane
    // tree; weighted values: ascending fmaf chain over positions. Positions outside [begin, end) contribute
    // nothing, whatever their bytes are.
    void (*attention_split)(const oct_attention *attention);

    // Merges `splits` states [splits][2 + head_dim] (stride in floats between them) in ascending order and
    // divides: m' = max(m, m_i), a = exp(m − m'), b = exp(m_i − m'), l = fmaf(l_i, b, l · a), v = fmaf(v_i,
    // b, v · a); out[d] = v[d] / l.
    void (*attention_merge)(const float *states, int64_t stride, int32_t splits, int32_t head_dim,
                            float *out);
} oct_cpu_kernels;

// The table of an instruction set, or NULL where this build or this processor lacks it.
const oct_cpu_kernels *oct_cpu_kernels_scalar(void);
const oct_cpu_kernels *oct_cpu_kernels_avx2(void);
const oct_cpu_kernels *oct_cpu_kernels_avx512(void);

// The best table that the processor has, as a level: 0 scalar, 1 avx2, 2 avx512 (F, BW, VL, DQ, VNNI).
// In a build with OCTET_EMULATE_AVX512 (tests) it is 2 on any processor.
int oct_cpu_level(void);

// Sets rounding to nearest and flush-to-zero for operands and results in the calling thread (MXCSR, FPCR).
void oct_cpu_enter_thread(void);

#endif
