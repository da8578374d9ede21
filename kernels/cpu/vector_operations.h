// Operations on vectors, written once over 16 lanes for AVX2 and AVX-512; each gives the bits of its scalar
// namesake in scalar_operations.c, where the formulas are explained. Include lanes_….h first; the including
// file defines OCT_VECTOR_FILL, the name of the function that puts them into a table.
#include <math.h>
#include <string.h>

#include "kernels/cpu/scalar.h"
#include "kernels/cpu/vector_attention.h"
#include "kernels/cpu/vector_math.h"

#define NORM_BLOCK 64
#define QUANTUM 32

// n < 16 numbers and `fill` behind them.
OCT_INLINE lanes load_some(const float *at, int64_t n, float fill)
{
    float all[LANES];
    for (int i = 0; i < LANES; i++)
        all[i] = i < n ? at[i] : fill;
    return lanes_load(all);
}

OCT_INLINE void store_some(float *at, int64_t n, lanes a)
{
    float all[LANES];
    lanes_store(all, a);
    memcpy(at, all, (size_t)n * sizeof *at);
}

static float sum_of_squares(const float *x, int32_t n, int32_t begin, int32_t count)
{
    if (count > 1) {
        int32_t half = (count + 1) / 2;
        float first = sum_of_squares(x, n, begin, half);
        return first + sum_of_squares(x, n, begin + half, count - half);
    }
    lanes sum = lanes_set(0.0f);
    for (int32_t i = begin * NORM_BLOCK; i < (begin + 1) * NORM_BLOCK && i < n; i += LANES) {
        lanes value = n - i < LANES ? load_some(x + i, n - i, 0.0f) : lanes_load(x + i);
        sum = lanes_fma(value, value, sum);
    }
    return lanes_tree(sum);
}

static void rms_norm(const float *x, const float *weight, int32_t n, float epsilon, float *out)
{
    float sum = sum_of_squares(x, n, 0, (n + NORM_BLOCK - 1) / NORM_BLOCK);
    float r = 1.0f / sqrtf(sum / (float)n + epsilon);
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(out + i, lanes_mul(lanes_mul(lanes_load(x + i), lanes_set(r)), lanes_load(weight + i)));
    for (; i < n; i++)
        out[i] = (x[i] * r) * weight[i];
}

static void quantize(const float *x, int64_t width, int8_t *codes, oct_activation_group *groups)
{
    lanes_int magnitude = lanes_int_set(0x7fffffff);
    lanes round = lanes_set(0x1.8p+23f);
    for (int64_t at = 0; at < width; at += QUANTUM) {
        lanes half[2] = {lanes_load(x + at), lanes_load(x + at + LANES)};
        uint32_t largest = (uint32_t)lanes_int_largest(lanes_int_max(
            lanes_int_and(lanes_bits(half[0]), magnitude), lanes_int_and(lanes_bits(half[1]), magnitude)));
        float scale = oct_bits_float(largest) / 127.0f, inverse = 127.0f / oct_bits_float(largest);
        bool zero = !(oct_bits_float(largest) >= OCT_QUANTIZE_SMALLEST), broken = largest >= 0x7f800000u;
        oct_activation_group *group = &groups[at / QUANTUM];
        group->scale = broken ? NAN : zero ? 0.0f : scale;
        for (int i = 0; i < 2; i++) {
            lanes scaled = lanes_add(lanes_mul(half[i], lanes_set(inverse)), round);
            lanes_int code = lanes_int_sub(lanes_bits(scaled), lanes_bits(round));
            if (zero || broken)
                code = lanes_int_set(0);
            lanes_int_store_s8(codes + at + i * LANES, code);
            group->half_sums[i] = lanes_int_sum(code);
        }
        group->sum = group->half_sums[0] + group->half_sums[1];
    }
}

static void round_bf16(const float *x, int64_t width, uint16_t *out)
{
    lanes_int one = lanes_int_set(1), normal = lanes_int_set(0x007fffff),
              infinite = lanes_int_set(0x7f800000);
    for (int64_t i = 0; i < width; i += LANES) {
        lanes_int bits = lanes_bits(lanes_load(x + i)),
                  magnitude = lanes_int_and(bits, lanes_int_set(0x7fffffff));
        lanes_int odd = lanes_int_and(lanes_int_right_zero(bits, 16), one);
        lanes_int rounded = lanes_int_add(lanes_int_add(bits, lanes_int_set(0x7fff)), odd);
        lanes_int sign = lanes_int_and(bits, lanes_int_set((int32_t)0x80000000));
        rounded = lanes_int_select(lanes_int_greater(magnitude, normal), rounded, sign);
        lanes_int quiet = lanes_int_or(bits, lanes_int_set(0x00400000));
        rounded = lanes_int_select(lanes_int_greater(magnitude, infinite), quiet, rounded);
        lanes_int_store_u16(out + i, lanes_int_right_zero(rounded, 16));
    }
}

OCT_INLINE lanes silu(lanes gate, lanes up)
{
    lanes below = lanes_add(lanes_set(1.0f), lanes_exp(lanes_negate(gate)));
    return lanes_mul(lanes_div(gate, below), up);
}

static void silu_multiply(const float *gate, const float *up, int64_t n, float *out)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(out + i, silu(lanes_load(gate + i), lanes_load(up + i)));
    if (i < n)
        store_some(out + i, n - i, silu(load_some(gate + i, n - i, 0.0f), load_some(up + i, n - i, 0.0f)));
}

static void add(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(to + i, lanes_add(lanes_load(to + i), lanes_load(from + i)));
    for (; i < n; i++)
        to[i] = to[i] + from[i];
}

// The usual case: two ranks, a node of each.
static void add_two(float *to, const float *lower, const float *upper, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        lanes_store(to + i, lanes_add(lanes_load(to + i), lanes_add(lanes_load(lower + i), lanes_load(upper + i))));
}

static void add_tree(float *to, const float *const *nodes, const uint8_t *merges, int32_t count, int64_t n)
{
    if (count == 2) {
        add_two(to, nodes[0], nodes[1], n);
        return;
    }
    for (int64_t i = 0; i < n; i += LANES) {
        lanes stack[OCT_MAX_NODES];
        int top = 0;
        for (int32_t k = 0; k < count; k++) {
            stack[top++] = lanes_load(nodes[k] + i);
            for (int merge = 0; merge < merges[k]; merge++, top--)
                stack[top - 2] = lanes_add(stack[top - 2], stack[top - 1]);
        }
        lanes_store(to + i, lanes_add(lanes_load(to + i), stack[0]));
    }
}

OCT_INLINE void turn(lanes *a, lanes *b, lanes cosine, lanes sine)
{
    lanes turned = lanes_fma(*a, cosine, lanes_negate(lanes_mul(*b, sine)));
    *b = lanes_fma(*b, cosine, lanes_mul(*a, sine));
    *a = turned;
}

static void rope(float *x, const float *table, int32_t dims, oct_rope_convention convention)
{
    int32_t half = dims / 2;
    if (half % LANES != 0) {
        oct_scalar_rope(x, table, dims, convention);
        return;
    }
    for (int32_t i = 0; i < half; i += LANES) {
        lanes a, b, cosine, sine;
        lanes_load_pairs(table + 2 * i, &cosine, &sine);
        if (convention == OCT_ROPE_PAIRS) {
            lanes_load_pairs(x + 2 * i, &a, &b);
            turn(&a, &b, cosine, sine);
            lanes_store_pairs(x + 2 * i, a, b);
        } else {
            a = lanes_load(x + i);
            b = lanes_load(x + half + i);
            turn(&a, &b, cosine, sine);
            lanes_store(x + i, a);
            lanes_store(x + half + i, b);
        }
    }
}

void OCT_VECTOR_FILL(oct_cpu_kernels *table)
{
    table->rms_norm = rms_norm;
    table->quantize = quantize;
    table->round_bf16 = round_bf16;
    table->silu_multiply = silu_multiply;
    table->add = add;
    table->add_tree = add_tree;
    table->rope = rope;
    table->store_key_value = store_key_value;
    table->attention_split = attention_split;
    table->attention_merge = attention_merge;
}
