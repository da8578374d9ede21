// Encodings: sizes, conversions, and the row decoder against blocks packed by the words of the header.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/encoding.h"

static uint32_t state = 1;
static uint32_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Nearest number of `bits` bits with exponents of at least `least`, ties to even.
static double nearest(double value, int bits, int least)
{
    if (value == 0)
        return value;
    int exponent;
    frexp(value, &exponent);
    exponent = exponent < least ? least : exponent;
    double spacing = ldexp(1, exponent - bits);
    return nearbyint(value / spacing) * spacing;
}

static void test_half_round_trip(void **context)
{
    (void)context;
    for (uint32_t half = 0; half < 65536; half++) {
        float value = oct_f16_to_f32((uint16_t)half);
        int exponent = half >> 10 & 31, mantissa = half & 1023;
        if (exponent == 31 && mantissa) {
            assert_true(isnan(value) && isnan(oct_f16_to_f32(oct_f32_to_f16(value))));
            continue;
        }
        double expected = ldexp(mantissa, -24);
        if (exponent)
            expected = exponent == 31 ? (double)INFINITY : ldexp(1024 + mantissa, exponent - 25);
        assert_true((double)fabsf(value) == expected && !!signbit(value) == (half >> 15));
        assert_int_equal(oct_f32_to_f16(value), half);
    }
}

static void check_rounding(float value)
{
    double infinite = value > 0 ? (double)INFINITY : -(double)INFINITY;
    double half = nearest((double)value, 11, -13);
    if (fabs(half) > 65504)
        half = infinite;
    assert_true((double)oct_f16_to_f32(oct_f32_to_f16(value)) == half);
    double brain = nearest((double)value, 8, -125);
    if (fabs(brain) >= 0x1p128)
        brain = infinite;
    assert_true((double)oct_bf16_to_f32(oct_f32_to_bf16(value)) == brain);
}

static void test_rounding(void **context)
{
    (void)context;
    for (int i = 0; i < 500000; i++) {
        float value = float_of(next_random());
        if (isfinite(value))
            check_rounding(value);
        check_rounding(float_of((next_random() & 0x8fffffff) | 0x30000000)); // the range of f16
    }
    for (uint32_t half = 0; half < 31743; half++) { // the ties between neighbours, and their neighbours
        float middle = (oct_f16_to_f32((uint16_t)half) + oct_f16_to_f32((uint16_t)(half + 1))) / 2;
        check_rounding(middle);
        check_rounding(nextafterf(middle, 0));
        check_rounding(-nextafterf(middle, INFINITY));
    }
    check_rounding(65520);
    check_rounding(nextafterf(65520, 0));
    assert_true(isnan(oct_bf16_to_f32(oct_f32_to_bf16(float_of(0x7f800001)))));
    assert_true(isinf(oct_bf16_to_f32(oct_f32_to_bf16(INFINITY))));
}

static void test_names(void **context)
{
    (void)context;
    for (int i = 0; i < OCT_ENCODING_COUNT; i++)
        assert_int_equal(oct_encoding_find(oct_encoding_describe((oct_encoding)i)->name), i);
    assert_int_equal(oct_encoding_find("q3"), -1);
}

static void test_sizes(void **context)
{
    (void)context;
    // Bits a weight of whole blocks, as the header's rules give them (scales + planes).
    static const struct {
        oct_encoding encoding;
        double bits;
    } cases[] = {{OCT_F32, 32},     {OCT_F16, 16},     {OCT_BF16, 16},     {OCT_Q8, 8.5},
                 {OCT_Q4, 4.5},     {OCT_Q4_1, 5},     {OCT_Q5_0, 5.5},    {OCT_Q5_1, 6},
                 {OCT_IQ4_NL, 4.5}, {OCT_Q2_K, 2.625}, {OCT_Q3_K, 3.5625}, {OCT_Q4_K, 4.625},
                 {OCT_Q5_K, 5.625}, {OCT_Q6_K, 6.5625}, {OCT_Q2, 2.375}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oct_encoding e = cases[i].encoding;
        assert_int_equal(oct_block_bytes(e, 256), (size_t)(cases[i].bits * 512));
        assert_int_equal(oct_strip_bytes(e, 0, 1024), 4 * oct_block_bytes(e, 256));
        assert_int_equal(oct_strip_bytes(e, 96, 600),
                         oct_block_bytes(e, 160) + oct_block_bytes(e, 256) + oct_block_bytes(e, 96));
        assert_int_equal(oct_strip_bytes(e, 32, 40), oct_block_bytes(e, 32));
        assert_int_equal(oct_strip_bytes(e, 64, 64), 0);
    }
}

// One strip under construction: its bytes, and the weights that they stand for.
typedef struct built {
    uint8_t bytes[65536];
    size_t size;
    double weights[16][512];
} built;

static void put_half(built *b, size_t at, double value)
{
    uint16_t half = oct_f32_to_f16((float)value);
    b->bytes[at] = (uint8_t)half;
    b->bytes[at + 1] = (uint8_t)(half >> 8);
}

// A random value that f16 holds exactly.
static double random_half(void)
{
    return (double)((int)(next_random() % 2047) - 1023) / 1024;
}

// Scale and minimum of one group and row, written at `at` of the scale part.
static void build_scale(built *b, oct_scale_kind kind, size_t at, size_t g, size_t row, const double d[2],
                        double *scale, double *minimum)
{
    uint32_t r = next_random();
    *minimum = 0;
    switch (kind) {
    case OCT_SCALE_F16:
        put_half(b, at + g * 32 + row * 2, *scale = random_half());
        break;
    case OCT_SCALE_F16_MIN:
        put_half(b, at + g * 64 + row * 2, *scale = random_half());
        put_half(b, at + g * 64 + 32 + row * 2, *minimum = random_half());
        break;
    case OCT_SCALE_FACTOR_S8:
        b->bytes[at + 32 + g * 16 + row] = (uint8_t)r;
        *scale = d[0] * (int8_t)r;
        break;
    case OCT_SCALE_FACTOR_U8:
        b->bytes[at + 64 + g * 32 + row] = (uint8_t)r;
        b->bytes[at + 64 + g * 32 + 16 + row] = (uint8_t)(r >> 8);
        *scale = d[0] * (uint8_t)r;
        *minimum = d[1] * (uint8_t)(r >> 8);
        break;
    default:
        b->bytes[at + 64 + g * 16 + row] = (uint8_t)r;
        *scale = d[0] * (r & 15);
        *minimum = d[1] * (r >> 4 & 15);
    }
}

static void put_field(built *b, size_t plane, int bits, int row, int column, int value)
{
    int quad = column / 4, per = 8 / bits;
    size_t at = plane + (size_t)(quad / per * 64 + row * 4 + column % 4);
    b->bytes[at] |= (uint8_t)(value << (bits * (quad % per)));
}

static void build_integer_row(built *b, oct_encoding encoding, int from, int n, int row)
{
    static const size_t fixed[] = {0, 0, 0, 32, 64, 64}, per_group[] = {0, 32, 64, 16, 32, 16};
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    size_t start = b->size, lane = (size_t)row, groups = (size_t)(n / info->group);
    size_t low = start + fixed[info->scale] + groups * per_group[info->scale];
    size_t high = low + (size_t)(n * 2 * info->low_bits);
    double d[2] = {random_half(), random_half()}, scale = 0, minimum = 0;
    for (size_t i = 0; i < fixed[info->scale] / 32; i++)
        put_half(b, start + i * 32 + lane * 2, d[i]);
    for (int c = 0; c < n; c++) {
        if (c % info->group == 0)
            build_scale(b, info->scale, start, (size_t)(c / info->group), lane, d, &scale, &minimum);
        int code = (int)(next_random() & ((1u << (info->low_bits + info->high_bits)) - 1));
        put_field(b, low, info->low_bits, row, c, code & ((1 << info->low_bits) - 1));
        if (info->high_bits)
            put_field(b, high, info->high_bits, row, c, code >> info->low_bits);
        int value = (info->codebook ? info->codebook[code] : code) - info->zero;
        b->weights[row][from + c] = (double)(float)(scale * value + minimum);
    }
}

static void build_float(built *b, oct_encoding encoding, int from, int row, int c)
{
    double value = (double)((int)(next_random() % 255) - 127) / 64; // exact in bf16 too
    uint32_t bits;
    float single = (float)value;
    memcpy(&bits, &single, 4);
    size_t at = (size_t)(c * 16 + row) * 4;
    if (encoding != OCT_F32) {
        bits = encoding == OCT_F16 ? oct_f32_to_f16(single) : oct_f32_to_bf16(single);
        at = (size_t)((c / 2 * 16 + row) * 2 + c % 2) * 2;
    }
    memcpy(b->bytes + b->size + at, &bits, encoding == OCT_F32 ? 4 : 2);
    b->weights[row][from + c] = value;
}

// Appends a random block of n columns whose weights go to columns [from, from + n).
static void build_block(built *b, oct_encoding encoding, int from, int n)
{
    for (int row = 0; row < 16; row++) {
        if (!oct_encoding_describe(encoding)->float_bytes)
            build_integer_row(b, encoding, from, n, row);
        else
            for (int c = 0; c < n; c++)
                build_float(b, encoding, from, row, c);
    }
    b->size += oct_block_bytes(encoding, n);
}

static void check_range(built *b, oct_encoding encoding, int64_t first, int64_t last)
{
    int64_t end = first + oct_pad_columns(last - first);
    memset(b, 0, sizeof *b);
    for (int64_t at = first; at < end;) {
        int64_t border = (at / 256 + 1) * 256, to = border < end ? border : end;
        build_block(b, encoding, (int)(at - first), (int)(to - at));
        at = to;
    }
    assert_int_equal(b->size, oct_strip_bytes(encoding, first, last));
    for (int row = 0; row < 16; row++) {
        float out[513];
        out[last - first] = 77;
        oct_strip_decode_row(encoding, b->bytes, first, last, row, out);
        for (int c = 0; c < last - first; c++)
            assert_true((double)out[c] == b->weights[row][c]);
        assert_true(out[last - first] == 77);
    }
}

static void test_decode(void **context)
{
    (void)context;
    static const int64_t ranges[][2] = {{0, 32},    {0, 192},   {64, 320},  {224, 256},
                                        {224, 300}, {512, 611}, {256, 511}, {96, 600}};
    built *b = malloc(sizeof *b);
    for (int e = 0; e < OCT_ENCODING_COUNT; e++)
        for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
            check_range(b, (oct_encoding)e, ranges[i][0], ranges[i][1]);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_half_round_trip),
                                       cmocka_unit_test(test_rounding), cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_sizes), cmocka_unit_test(test_decode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
