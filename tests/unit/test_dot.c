// Dot products: the scalar table against double precision through an independent decoder
// (oct_strip_decode_row), the other tables against the scalar one bit for bit, extremes, padding, K ranges at
// any granule, several granules against each of them alone and their tree.
#include "tests/unit/kernel_checks.h"

#include <math.h>

#include "kernels/cpu/scalar_unit.h"
#include "tests/unit/kernel_tables.h"

typedef struct dot_case {
    oct_encoding encoding;
    int64_t first, last; // columns of all granules
    oct_column_run granules[OCT_MAX_GRANULES];
    oct_tree_schedule tree;
    oct_dot dot;
    oct_activations x;
    uint8_t *weights;
    size_t out_floats;
} dot_case;

static void put_f16(uint8_t *at, float value)
{
    uint16_t half = oct_f32_to_f16(value);
    memcpy(at, &half, sizeof half);
}

// Random codes, and scales of any sign and of sizes that make rounding matter.
static void fill_block(oct_encoding encoding, uint8_t *block, int n)
{
    const oct_encoding_info *info = oct_encoding_describe(encoding);
    size_t bytes = oct_block_bytes(encoding, n);
    for (size_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)check_random();
    int halves = 0; // f16 numbers at the block's front
    if (info->scale == OCT_SCALE_F16)
        halves = n / info->group * 16;
    else if (info->scale == OCT_SCALE_F16_MIN)
        halves = n / info->group * 32;
    else if (info->scale == OCT_SCALE_FACTOR_S8)
        halves = 16;
    else if (info->scale != OCT_SCALE_NONE)
        halves = 32;
    else if (info->float_bytes == 2)
        halves = n * 16;
    for (int i = 0; i < halves; i++) {
        float value = check_normal() * (check_below(8) == 0 ? 1e-5f : 0.02f);
        if (encoding == OCT_BF16) {
            uint16_t bits = oct_f32_to_bf16(check_below(50) == 0 ? value * 1e-36f : value);
            memcpy(block + 2 * i, &bits, 2);
        } else {
            put_f16(block + 2 * i, value);
        }
    }
    for (int i = 0; info->float_bytes == 4 && i < n * 16; i++) {
        float value = check_normal() * (check_below(50) == 0 ? 1e-38f : 1.0f);
        memcpy(block + 4 * i, &value, 4);
    }
}

static void fill_weights(dot_case *c)
{
    for (int32_t s = 0; s < c->dot.strips; s++) {
        uint8_t *block = c->weights + (size_t)s * c->dot.strip_bytes;
        for (int32_t g = 0; g < c->dot.granule_count; g++) {
            const int64_t end = c->granules[g].begin + oct_pad_columns(c->granules[g].end - c->granules[g].begin);
            for (int64_t at = c->granules[g].begin; at < end;) {
                int n = oct_block_columns(at, end);
                fill_block(c->encoding, block, n);
                block += oct_block_bytes(c->encoding, n);
                at += n;
            }
        }
    }
}

static void allocate_inputs(oct_activations *x)
{
    const size_t units = (size_t)(x->width / 32 * x->columns + OCT_PANEL_COLUMNS);
    x->f32 = check_allocate(units * 32 * sizeof *x->f32);
    x->rounded = check_allocate(units * 32 * sizeof *x->rounded);
    x->bf16 = check_allocate(units * 32 * sizeof *x->bf16);
    x->codes = check_allocate(units * 32);
    x->groups = check_allocate(units * sizeof *x->groups);
}

// Copies column `from` of one input to column `to` of another.
static void copy_column(oct_activations *x, int32_t to, const oct_activations *source, int32_t from)
{
    for (int64_t unit = 0; unit < x->width / 32; unit++) {
        const int64_t here = oct_activation_unit(x, unit, to), there = oct_activation_unit(source, unit, from);
        memcpy(x->f32 + here * 32, source->f32 + there * 32, 32 * sizeof *x->f32);
        memcpy(x->rounded + here * 32, source->rounded + there * 32, 32 * sizeof *x->rounded);
        memcpy(x->bf16 + here * 32, source->bf16 + there * 32, 32 * sizeof *x->bf16);
        memcpy(x->codes + here * 32, source->codes + there * 32, 32);
        x->groups[here] = source->groups[there];
    }
}

static void free_inputs(oct_activations *x)
{
    free(x->f32);
    free(x->rounded);
    free(x->bf16);
    free(x->codes);
    free(x->groups);
}

// Inputs in all forms; zero past the end of the K range, as the contract says, and filled elsewhere.
static void fill_inputs(dot_case *c)
{
    const oct_cpu_kernels *scalar = oct_cpu_kernels_scalar();
    const int64_t used = c->last - c->first, width = c->x.width;
    oct_activations alone = {.width = width, .columns = 1};
    allocate_inputs(&c->x);
    allocate_inputs(&alone);
    for (int32_t column = 0; column < c->x.columns; column++) {
        for (int64_t i = 0; i < width; i++) {
            const int64_t place = i - c->dot.x_offset;
            alone.f32[i] = place >= used && place < oct_pad_columns(used) ? 0.0f : check_normal();
        }
        scalar->quantize(alone.f32, width, alone.codes, alone.groups);
        scalar->round_bf16(alone.f32, width, alone.bf16);
        for (int64_t i = 0; i < width; i++)
            alone.rounded[i] = oct_bf16_to_f32(alone.bf16[i]);
        copy_column(&c->x, column, &alone, 0);
    }
    free_inputs(&alone);
}

// A case whose granules are those of `own` among `leaves` in the reduction tree, cut at random.
static void make_tree_case(dot_case *c, oct_encoding encoding, int64_t first, int64_t last, int32_t leaves, oct_run own,
                           int32_t strips, int32_t columns)
{
    const int32_t count = own.end - own.begin, units = (int32_t)(oct_pad_columns(last - first) / 32);
    *c = (dot_case){.encoding = encoding, .first = first, .last = last};
    oct_tree_schedule_leaves(&c->tree, leaves, own);
    for (int32_t g = 0; g < count; g++) {
        c->granules[g].begin = first + (int64_t)g * units / count * 32;
        c->granules[g].end = g + 1 < count ? first + (int64_t)(g + 1) * units / count * 32 : last;
        c->dot.strip_bytes += oct_strip_bytes(encoding, c->granules[g].begin, c->granules[g].end);
    }
    c->dot.granules = c->granules;
    c->dot.merges = c->tree.merges;
    c->dot.granule_count = count;
    c->dot.nodes = c->tree.nodes;
    c->dot.strips = strips;
    c->dot.x = &c->x;
    c->dot.x_offset = check_below(3) * 32;
    c->dot.out_stride = (size_t)strips * OCT_TILE_ROWS + (size_t)check_below(2) * 16;
    c->dot.node_stride = c->dot.out_stride * (size_t)columns;
    c->x.width = c->dot.x_offset + oct_pad_columns(last - first) + check_below(2) * 32;
    c->x.columns = columns;
    c->weights = check_allocate(c->dot.strip_bytes * (size_t)strips);
    c->dot.weights = c->weights;
    c->out_floats = c->dot.node_stride * (size_t)c->dot.nodes;
    fill_weights(c);
    fill_inputs(c);
}

static void make_case(dot_case *c, oct_encoding encoding, int64_t first, int64_t last, int32_t strips,
                      int32_t columns)
{
    make_tree_case(c, encoding, first, last, 1, (oct_run){0, 1}, strips, columns);
}

static void free_case(dot_case *c)
{
    free(c->weights);
    free_inputs(&c->x);
}

// Runs a function over a canary; the gaps between columns must stay.
static float *run(dot_case *c, oct_dot_function function)
{
    float *out = check_allocate(c->out_floats * sizeof *out);
    memset(out, 0x5a, c->out_floats * sizeof *out);
    c->dot.out = out;
    function(&c->dot);
    const uint8_t *bytes = (const uint8_t *)out;
    size_t used = (size_t)c->dot.strips * OCT_TILE_ROWS;
    for (size_t i = 0; i < c->out_floats; i++)
        if (i % c->dot.out_stride >= used)
            for (size_t b = 0; b < 4; b++)
                assert_int_equal(bytes[4 * i + b], 0x5a);
    return out;
}

// The input of one column as the form gives it, in double.
static double input(const dot_case *c, oct_activation_form form, int32_t column, int64_t k)
{
    const int64_t at = c->dot.x_offset + k;
    const int64_t i = oct_activation_unit(&c->x, at / 32, column) * 32 + at % 32;
    if (form == OCT_FORM_F32)
        return (double)c->x.f32[i];
    if (form == OCT_FORM_BF16)
        return (double)c->x.rounded[i];
    return (double)c->x.groups[i / 32].scale * (double)c->x.codes[i];
}

// |scale · value| + |minimum| of the weights of one row of a strip: what the roundings are relative to, which
// is more than the weight itself where the two cancel. Only the bound's size comes from the kernels' own
// unpacking.
static void weigh_row(const dot_case *c, const uint8_t *strip, int row, double *size)
{
    const oct_encoding_info *info = oct_encoding_describe(c->encoding);
    const oct_traits t = {info->low_bits, info->high_bits, info->group,
                          info->scale,    info->zero,      info->codebook};
    int64_t end = c->first + oct_pad_columns(c->last - c->first);
    for (int64_t at = c->first; at < end;) {
        int n = oct_block_columns(at, end);
        for (int k = 0; k < n; k++) {
            static oct_unit unit;
            if (k % 32 == 0)
                oct_unit_unpack(&unit, t, info->codebook, strip, n, k / 32);
            double value = unit.values[k % 32 / 4][row][k % 4];
            int group = k % 32 / t.group;
            size[at - c->first + k] =
                fabs((double)unit.scale[group][row] * value) + fabs((double)unit.minimum[group][row]);
        }
        strip += oct_block_bytes(c->encoding, n);
        at += n;
    }
}

// With u = 2^-24 and m the number of fmaf in a row's chain, the chain's error is at most (m + 1) u times the
// sum of the magnitudes of its terms (Higham, "Accuracy and Stability", section 3.1: each term goes through
// at most m roundings, and the product of two scales through one more). The exact value is taken from the
// decoder's weights, which are rounded once: m + 2. The factor 1.001 covers the second order. Flushing loses
// at most 2^-126 an operation, and where an operand is flushed 2^-126 times the other.
static void check_row(const dot_case *c, oct_activation_form form, const float *w, const double *size,
                      const float *out, int32_t column)
{
    int64_t n = c->last - c->first;
    const oct_encoding_info *info = oct_encoding_describe(c->encoding);
    double chain = form == OCT_FORM_INT8 ? ceil((double)n / 32) * 32 / info->group * 2 : (double)n;
    double exact = 0, terms = 0, biggest = 0;
    for (int64_t k = 0; k < n; k++) {
        double x = input(c, form, column, k);
        exact += (double)w[k] * x;
        terms += size[k] * fabs(x);
        biggest = fmax(biggest, fmax(fabs(x), fabs((double)w[k])));
    }
    double bound = 1.001 * (chain + 2) * 0x1p-24 * terms + (double)n * 0x1p-125 * (1 + biggest);
    if (!(fabs((double)*out - exact) <= bound))
        fail_msg("%s form %d [%lld, %lld) column %d: %.9g, expected %.9g +- %.3g", info->name, form,
                 (long long)c->first, (long long)c->last, column, (double)*out, exact, bound);
}

static void check_bound(const dot_case *c, oct_activation_form form, const float *out)
{
    int64_t n = c->last - c->first;
    float *w = check_allocate((size_t)n * sizeof *w);
    double *size = check_allocate((size_t)oct_pad_columns(n) * sizeof *size);
    for (int32_t s = 0; s < c->dot.strips; s++)
        for (int row = 0; row < OCT_TILE_ROWS; row++) {
            const uint8_t *strip = c->weights + (size_t)s * c->dot.strip_bytes;
            oct_strip_decode_row(c->encoding, strip, c->first, c->last, row, w);
            if (oct_encoding_describe(c->encoding)->float_bytes == 0)
                weigh_row(c, strip, row, size);
            else
                for (int64_t k = 0; k < n; k++)
                    size[k] = fabs((double)w[k]);
            for (int32_t column = 0; column < c->x.columns; column++)
                check_row(c, form, w, size,
                          out + (size_t)column * c->dot.out_stride + s * OCT_TILE_ROWS + row, column);
        }
    free(w);
    free(size);
}

static void check_same(const dot_case *c, const float *law, const float *out, const char *table)
{
    if (memcmp(law, out, c->out_floats * sizeof *law) == 0)
        return;
    for (size_t i = 0; i < c->out_floats; i++)
        if (memcmp(law + i, out + i, sizeof *law) != 0)
            fail_msg("%s %s [%lld, %lld) %d strips %d columns: element %zu is %a, the scalar table has %a",
                     table, oct_encoding_describe(c->encoding)->name, (long long)c->first,
                     (long long)c->last, c->dot.strips, c->x.columns, i, (double)out[i],
                     (double)law[i]);
}

// All tables, both forms; against double where `bounded`.
static void check_case(dot_case *c, bool bounded)
{
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int n = kernel_tables(tables);
    for (int form = 0; form < 2; form++) {
        oct_dot_function scalar = form ? tables[0]->dot_f32[c->encoding] : tables[0]->dot[c->encoding];
        float *law = run(c, scalar);
        check_note(law, c->out_floats * sizeof *law);
        if (bounded)
            check_bound(c, form ? OCT_FORM_F32 : oct_encoding_form(c->encoding), law);
        for (int t = 1; t < n; t++) {
            float *out = run(c, form ? tables[t]->dot_f32[c->encoding] : tables[t]->dot[c->encoding]);
            check_same(c, law, out, tables[t]->name);
            free(out);
        }
        free(law);
    }
}

static void test_traits_are_the_encodings(void **state)
{
    (void)state;
#define CHECK(encoding, name_, low_, high_, group_, scale_, zero_, codebook_)                                \
    {                                                                                                        \
        const oct_encoding_info *info = oct_encoding_describe(encoding);                                     \
        oct_traits t = {low_, high_, group_, scale_, zero_, codebook_};                                      \
        assert_true(info->low_bits == t.low_bits && info->high_bits == t.high_bits);                         \
        assert_true(info->group == t.group && info->scale == t.scale && info->zero == t.zero);               \
        assert_true((info->codebook != NULL) == t.codebook);                                                 \
        for (int n = 32; n <= 256; n += 32)                                                                  \
            assert_true((size_t)oct_traits_block_bytes(t, n) == oct_block_bytes(encoding, n));               \
    }
    OCT_INTEGER_ENCODINGS(CHECK)
}

static void test_every_encoding_and_column_count(void **state)
{
    (void)state;
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int columns = 1; columns <= 17; columns++) {
            int64_t first = check_below(24) * 32, last = first + 1 + check_below(columns <= 4 ? 600 : 200);
            dot_case c;
            make_case(&c, (oct_encoding)encoding, first, last, 1 + (int32_t)check_below(9), columns);
            check_case(&c, true);
            free_case(&c);
        }
}

// One granule of a matrix that is split along K: one or a few groups, many strips.
static void test_short_ranges_of_many_strips(void **state)
{
    (void)state;
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int granule = 0; granule < 10; granule++) {
            dot_case c;
            int64_t first = granule * 32, last = first + 32 * (1 + granule % 3);
            make_case(&c, (oct_encoding)encoding, first, last, 7 + granule, 1 + granule % 4 * 5);
            check_case(&c, granule == 7);
            free_case(&c);
        }
}

// What a function of the scalar table makes of granule g alone, from strips of its own: [columns][out_stride].
static float *granule_alone(dot_case *c, oct_dot_function scalar, int32_t g)
{
    const oct_column_run granule = c->granules[g];
    const oct_dot whole = c->dot;
    const size_t strip_bytes = oct_strip_bytes(c->encoding, granule.begin, granule.end);
    size_t before = 0;
    for (int32_t i = 0; i < g; i++)
        before += oct_strip_bytes(c->encoding, c->granules[i].begin, c->granules[i].end);
    uint8_t *weights = check_allocate(strip_bytes * (size_t)whole.strips);
    for (int32_t s = 0; s < whole.strips; s++)
        memcpy(weights + (size_t)s * strip_bytes, c->weights + (size_t)s * whole.strip_bytes + before, strip_bytes);
    const uint8_t none = 0;
    c->dot.weights = weights;
    c->dot.strip_bytes = strip_bytes;
    c->dot.granules = &granule;
    c->dot.merges = &none;
    c->dot.granule_count = c->dot.nodes = 1;
    c->dot.x_offset += granule.begin - c->granules[0].begin;
    c->out_floats = whole.node_stride;
    float *out = run(c, scalar);
    c->dot = whole;
    c->out_floats = whole.node_stride * (size_t)whole.nodes;
    free(weights);
    return out;
}

// The sums of the leaves [begin, end) by halves, the first of which has one more where they are odd, into
// leaves[begin]; a subtree that `own` does not hold whole is left as its parts, whose first leaves are noted in nodes
// [*count].
static void add_by_halves(float **leaves, oct_run own, int32_t begin, int32_t end, size_t floats, int32_t *nodes,
                          int32_t *count)
{
    if (end <= own.begin || begin >= own.end)
        return;
    const bool whole = begin >= own.begin && end <= own.end;
    const int32_t middle = begin + (end - begin + 1) / 2, before = *count;
    if (end - begin > 1) {
        add_by_halves(leaves, own, begin, middle, floats, nodes, count);
        add_by_halves(leaves, own, middle, end, floats, nodes, count);
        for (size_t i = 0; whole && i < floats; i++)
            leaves[begin - own.begin][i] += leaves[middle - own.begin][i];
    }
    if (whole) {
        *count = before;
        nodes[(*count)++] = begin - own.begin;
    }
}

// Of the granules `own` of `leaves`: each node has the bits that the granules have alone, added by halves.
static void check_tree(dot_case *c, oct_dot_function scalar, int32_t leaves, oct_run own)
{
    float *alone[OCT_MAX_GRANULES];
    for (int32_t g = 0; g < c->dot.granule_count; g++)
        alone[g] = granule_alone(c, scalar, g);
    int32_t nodes[OCT_MAX_GRANULES], count = 0;
    add_by_halves(alone, own, 0, leaves, c->dot.node_stride, nodes, &count);
    assert_int_equal(count, c->dot.nodes);
    float *all = run(c, scalar);
    for (int32_t node = 0; node < count; node++)
        for (int32_t column = 0; column < c->x.columns; column++)
            assert_true(memcmp(all + (size_t)node * c->dot.node_stride + (size_t)column * c->dot.out_stride,
                               alone[nodes[node]] + (size_t)column * c->dot.out_stride,
                               (size_t)c->dot.strips * OCT_TILE_ROWS * sizeof *all) == 0);
    for (int32_t g = 0; g < c->dot.granule_count; g++)
        free(alone[g]);
    free(all);
}

static void test_granules_are_added_by_the_tree(void **state)
{
    (void)state;
    const oct_cpu_kernels *scalar = oct_cpu_kernels_scalar();
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int columns = 1; columns <= 19; columns += 1 + columns / 6) {
            const int32_t leaves = 1 + (int32_t)check_below(OCT_MAX_GRANULES);
            const int32_t begin = (int32_t)check_below(leaves), own = 1 + (int32_t)check_below(leaves - begin);
            const oct_run run_of_rank = {begin, begin + own};
            const int64_t first = check_below(12) * 32, last = first + 32 * own + check_below(64 * own);
            dot_case c;
            make_tree_case(&c, (oct_encoding)encoding, first, last, leaves, run_of_rank, 1 + (int32_t)check_below(9),
                           columns);
            check_tree(&c, scalar->dot[encoding], leaves, run_of_rank);
            check_tree(&c, scalar->dot_f32[encoding], leaves, run_of_rank);
            check_case(&c, false);
            free_case(&c);
        }
}

// Codes all zero or all at their largest, activations all −127 or 127 or alternating: integer sums reach
// their extremes, where an instruction that saturates would show.
static void test_extremes(void **state)
{
    (void)state;
    for (int encoding = OCT_Q8; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int pattern = 0; pattern < 16; pattern++) {
            dot_case c;
            make_case(&c, (oct_encoding)encoding, 224, 224 + 320, 2, 1 + pattern % 5);
            const oct_encoding_info *info = oct_encoding_describe(c.encoding);
            for (int64_t i = 0; i < c.x.width * c.x.columns; i++) {
                int sign = pattern / 4 == 0 || (pattern / 4 == 1 && i % 2) || (pattern / 4 == 3 && i % 4 < 2);
                c.x.codes[i] = (int8_t)(sign ? 127 : -127);
            }
            for (int64_t i = 0; i < c.x.width / 32 * c.x.columns; i++) {
                int32_t *sums = c.x.groups[i].half_sums;
                sums[0] = sums[1] = 0;
                for (int j = 0; j < 32; j++)
                    sums[j / 16] += c.x.codes[i * 32 + j];
                c.x.groups[i].sum = sums[0] + sums[1];
            }
            for (int32_t s = 0; s < c.dot.strips; s++) {
                uint8_t *block = c.weights + (size_t)s * c.dot.strip_bytes;
                for (int64_t at = 224; at < 544;) {
                    int n = oct_block_columns(at, 544);
                    size_t planes = (size_t)(n * 2 * (info->low_bits + info->high_bits));
                    size_t begin = oct_block_bytes(c.encoding, n) - planes;
                    static const uint8_t bytes[4] = {0x00, 0xff, 0x55, 0x0f};
                    memset(block + begin, bytes[pattern % 4], planes);
                    block += begin + planes;
                    at += n;
                }
            }
            check_case(&c, true);
            free_case(&c);
        }
}

// Each column has the bits that it has alone, and K in two pieces of one strip is not the same as K whole:
// only the first is promised.
static void test_a_column_has_the_bits_it_has_alone(void **state)
{
    (void)state;
    const oct_cpu_kernels *tables[KERNEL_TABLES];
    int n = kernel_tables(tables);
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int t = 0; t < n; t++) {
            dot_case c;
            const int32_t columns = 1 + (int32_t)check_below(40), strips = 1 + (int32_t)check_below(9);
            make_case(&c, (oct_encoding)encoding, 32, 32 + 288, strips, columns);
            float *all = run(&c, tables[t]->dot[encoding]);
            oct_activations single = {.width = c.x.width, .columns = 1};
            allocate_inputs(&single);
            c.dot.x = &single;
            c.out_floats = c.dot.out_stride;
            for (int32_t column = 0; column < columns; column++) {
                copy_column(&single, 0, &c.x, column);
                float *alone = run(&c, tables[t]->dot[encoding]);
                assert_true(memcmp(alone, all + (size_t)column * c.dot.out_stride,
                                   (size_t)strips * OCT_TILE_ROWS * sizeof *all) == 0);
                free(alone);
            }
            free_inputs(&single);
            free(all);
            free_case(&c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traits_are_the_encodings),
        cmocka_unit_test(test_every_encoding_and_column_count),
        cmocka_unit_test(test_short_ranges_of_many_strips),
        cmocka_unit_test(test_granules_are_added_by_the_tree),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_a_column_has_the_bits_it_has_alone),
    };
    return check_finish(cmocka_run_group_tests(tests, check_begin, NULL));
}
