// Bias, head norm, rotation and the KV cache on the device: against double precision with a derived
// bound; what no column writes stays as it is; a column has the same bits whatever stands beside it, and where the
// attention does all that itself.
#include <algorithm>

#include "kernel_test.h"

#include "kernels/cuda/attention.h"

namespace
{
struct shape {
    int32_t heads, group, first_in_group, head_dim, rope_dims;
    oct_rope_convention convention;
    bool bias, norm;
};

enum { CONTEXT = 300, LAYERS = 3, LAYER = 1, SEQUENCES = 3, NARROW = 8, WIDE = OCT_CUDA_NARROW_COLUMNS + 1 };

struct setting {
    shape of;
    int32_t kv_heads, width;
    std::vector<float> bias[3], norm[2], rope;
    std::vector<int32_t> pages[SEQUENCES]; // of each sequence
    int32_t page_count;
};

struct column {
    int32_t sequence, position;
    std::vector<float> qkv;
};

std::vector<float> numbers(int32_t n)
{
    std::vector<float> list;
    for (int32_t i = 0; i < n; i++)
        list.push_back(2 * random_number());
    return list;
}

setting make_setting(const shape &of)
{
    setting s = {};
    s.of = of;
    s.kv_heads = (of.first_in_group + of.heads + of.group - 1) / of.group;
    s.width = (of.heads + 2 * s.kv_heads) * of.head_dim;
    for (int part = 0; part < 3; part++)
        s.bias[part] = numbers((part == 0 ? of.heads : s.kv_heads) * of.head_dim);
    for (int part = 0; part < 2; part++)
        s.norm[part] = numbers(of.head_dim);
    for (int32_t i = 0; i < CONTEXT * of.rope_dims / 2; i++) {
        const double angle = 3 * random_number();
        s.rope.push_back((float)cos(angle));
        s.rope.push_back((float)sin(angle));
    }
    const int32_t each = oct_page_count(CONTEXT);
    s.page_count = SEQUENCES * each + 2;
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < s.page_count; i++)
        ids.insert(ids.begin() + random_below(i + 1), i);
    for (int32_t i = 0; i < SEQUENCES; i++)
        s.pages[i].assign(ids.begin() + i * each, ids.begin() + (i + 1) * each);
    return s;
}

// What launches leave: queries [launched][heads][head_dim], attention [launched][heads · head_dim] and the whole cache.
// Queries and attention are poisoned before.
struct outcome {
    std::vector<uint16_t> queries, cache;
    std::vector<float> attended;
};

size_t cache_elements(const setting &s)
{
    oct_cuda_cache cache = {};
    cache.layers = LAYERS;
    cache.kv_heads = s.kv_heads;
    cache.head_dim = s.of.head_dim;
    return oct_cuda_cache_bytes(&cache, s.page_count) / sizeof(uint16_t);
}

outcome run(const setting &s, const std::vector<column> &columns, int32_t launched,
            const std::vector<uint16_t> &cached)
{
    Array<uint8_t> descriptor(oct_cuda_step_bytes(launched, 0, CONTEXT));
    oct_cuda_attention a = {};
    a.cache.layers = LAYERS;
    a.cache.kv_heads = s.kv_heads;
    a.cache.head_dim = s.of.head_dim;
    Array<uint16_t> cache(cached);
    Array<uint16_t> queries((size_t)launched * s.of.heads * s.of.head_dim);
    Array<float> attended(queries.count);
    const int64_t stride = s.width + 4;
    Array<float> qkv((size_t)(launched * stride)), rope(s.rope);
    const Array<float> bias[3] = {Array<float>(s.bias[0]), Array<float>(s.bias[1]), Array<float>(s.bias[2])};
    const Array<float> norm[2] = {Array<float>(s.norm[0]), Array<float>(s.norm[1])};
    std::vector<int32_t> tokens(columns.size(), 5), positions;
    std::vector<const int32_t *> pages;
    for (size_t c = 0; c < columns.size(); c++) {
        positions.push_back(columns[c].position);
        pages.push_back(s.pages[columns[c].sequence].data());
        qkv.put(c * (size_t)stride, columns[c].qkv.data(), columns[c].qkv.size());
    }
    const oct_step step = {(int32_t)columns.size(), tokens.data(), positions.data(), pages.data(), 0, nullptr, nullptr};
    a.step = oct_cuda_step_place(descriptor.at, launched, 0);
    a.cache.memory = cache.at;
    a.heads = {s.of.heads, s.of.group, s.of.first_in_group};
    send_step(descriptor, launched, step, some_run_limits(a.heads, a.cache, launched, CONTEXT));
    a.layer = LAYER;
    a.context = CONTEXT;
    a.qkv = qkv.at;
    a.qkv_stride = stride;
    for (int part = 0; part < 3; part++)
        a.bias[part] = s.of.bias ? bias[part].at : nullptr;
    for (int part = 0; part < 2; part++)
        a.norm[part] = s.of.norm ? norm[part].at : nullptr;
    a.norm_epsilon = 1e-5f;
    a.rope = rope.at;
    a.rope_dims = s.of.rope_dims;
    a.rope_convention = s.of.convention;
    a.queries = queries.at;
    a.out = attended.at;
    a.out_stride = s.of.heads * s.of.head_dim;
    const Array<float> states(oct_cuda_attention_states_bytes(&a, launched) / sizeof(float));
    const Array<uint32_t> arrivals(std::vector<uint32_t>(oct_cuda_attention_arrivals(&a, launched), 0));
    a.states = states.at;
    a.arrivals = arrivals.at;
    const oct_cuda_device device = {4, 0};
    must(oct_cuda_rope_cache(&a, nullptr), "rotation");
    must(oct_cuda_attend(&device, &a, nullptr), "attention");
    return {queries.values(), cache.values(), attended.values()};
}

// The rotation by itself, from an empty cache.
outcome rotate_columns(const setting &s, const std::vector<column> &columns)
{
    return run(s, columns, WIDE, std::vector<uint16_t>(cache_elements(s), 0xffff));
}

// A narrow step, whose attention rotates, leaves the same bits as the two launches of a wide one.
void check_narrow(const setting &s, const std::vector<column> &columns)
{
    std::vector<uint16_t> cached(cache_elements(s));
    for (uint16_t &number : cached)
        number = oct_f32_to_bf16(random_number());
    const outcome apart = run(s, columns, WIDE, cached);
    shuffle();
    const outcome together = run(s, columns, NARROW, cached);
    if (together.cache != apart.cache)
        fail("head_dim %d: the attention writes other keys or values", s.of.head_dim);
    for (size_t i = 0; i < columns.size() * (size_t)(s.of.heads * s.of.head_dim); i++)
        if (!same_bits(together.attended[i], apart.attended[i])) {
            fail("head_dim %d: an attention that rotates differs (%zu: %.9g, %.9g)", s.of.head_dim, i,
                 together.attended[i], apart.attended[i]);
            break;
        }
}

// A number and how far off the device may be, in front of its rounding to bf16.
struct bounded {
    double value, error;
};

// Bias: one rounding. Norm: sums of squares go through at most 4 fmaf, 4 levels of lanes and 2 of blocks, all terms
// positive; half of that in r, and a division, an addition, a square root and a division; two products: 12 u in all.
std::vector<bounded> before_rotation(const setting &s, int part, int32_t head, const float *x)
{
    const int32_t n = s.of.head_dim;
    std::vector<bounded> result((size_t)n);
    double squares = 0;
    for (int32_t d = 0; d < n; d++) {
        const double value = (double)x[d] + (s.of.bias ? (double)s.bias[part][(size_t)(head * n + d)] : 0);
        result[(size_t)d] = {value, s.of.bias ? 0x1p-24 * fabs(value) : 0};
        squares += value * value;
    }
    const double r = 1 / sqrt(squares / n + (double)1e-5f);
    for (int32_t d = 0; d < n && s.of.norm && part < 2; d++) {
        bounded &b = result[(size_t)d];
        b.value *= r * (double)s.norm[part][(size_t)d];
        b.error = 14 * 0x1p-24 * fabs(b.value);
    }
    return result;
}

void rotate(const setting &s, int32_t position, std::vector<bounded> &x)
{
    const int32_t half = s.of.rope_dims / 2;
    for (int32_t i = 0; i < half; i++) {
        bounded &a = x[(size_t)(s.of.convention == OCT_ROPE_PAIRS ? 2 * i : i)];
        bounded &b = x[(size_t)(s.of.convention == OCT_ROPE_PAIRS ? 2 * i + 1 : i + half)];
        const double cosine = (double)s.rope[(size_t)(position * half + i) * 2];
        const double sine = (double)s.rope[(size_t)(position * half + i) * 2 + 1];
        const bounded first = a, second = b;
        const double size = fabs(first.value) + fabs(second.value);
        const double error = first.error + second.error + 3 * 0x1p-24 * size;
        a = {first.value * cosine - second.value * sine, error};
        b = {second.value * cosine + first.value * sine, error};
    }
}

// bf16 has 8 significant bits: it rounds by 2^-8 of the number at most.
void check_number(const setting &s, const char *what, int32_t d, uint16_t found, const bounded &expected)
{
    const double value = (double)oct_bf16_to_f32(found);
    const double error = expected.error * 1.01 + 0x1p-8 * fabs(expected.value) * 1.01;
    if (!(fabs(value - expected.value) <= error))
        fail("%s, dimension %d of %d (bias %d, norm %d, %d rotated): %.9g, expected %.9g +- %.3g", what, d,
             s.of.head_dim, s.of.bias, s.of.norm, s.of.rope_dims, value, expected.value, error);
}

oct_cuda_cache cache_at(const setting &s, uint16_t *memory)
{
    oct_cuda_cache cache = {};
    cache.memory = memory;
    cache.layers = LAYERS;
    cache.kv_heads = s.kv_heads;
    cache.head_dim = s.of.head_dim;
    return cache;
}

void check_column(const setting &s, const column &c, size_t index, outcome &found)
{
    const int32_t n = s.of.head_dim, page = s.pages[c.sequence][(size_t)(c.position / 64)], place = c.position % 64;
    const oct_cuda_cache cache = cache_at(s, found.cache.data());
    for (int32_t h = 0; h < s.of.heads + 2 * s.kv_heads; h++) {
        const int part = h < s.of.heads ? 0 : h < s.of.heads + s.kv_heads ? 1 : 2;
        const int32_t head = part == 0 ? h : (h - s.of.heads) % s.kv_heads;
        std::vector<bounded> expected = before_rotation(s, part, head, c.qkv.data() + h * n);
        if (part < 2)
            rotate(s, c.position, expected);
        uint16_t *of_head = part == 0   ? &found.queries[(index * (size_t)s.of.heads + (size_t)head) * (size_t)n]
                            : part == 1 ? oct_cuda_cache_keys(&cache, page, LAYER, head)
                                        : oct_cuda_cache_values(&cache, page, LAYER, head);
        for (int32_t d = 0; d < n; d++) {
            uint16_t *at = of_head + (part == 0   ? d
                                      : part == 1 ? oct_cuda_key_place(n, place, d)
                                                  : oct_cuda_value_place(place, d));
            check_number(s, part == 0 ? "query" : part == 1 ? "key" : "value", d, *at, expected[(size_t)d]);
            *at = 0xffff; // what is left must be poison
        }
    }
}

column make_column(const setting &s, int32_t sequence, int32_t position)
{
    return {sequence, position, numbers(s.width)};
}

void check_shape(const shape &of)
{
    const setting s = make_setting(of);
    std::vector<column> columns;
    for (int32_t position : {62, 63, 64, 65})
        columns.push_back(make_column(s, 1, position));
    columns.push_back(make_column(s, 0, 0));
    columns.push_back(make_column(s, 2, random_below(CONTEXT)));
    shuffle();
    const outcome together = rotate_columns(s, columns);
    outcome rest = together;
    for (size_t c = 0; c < columns.size(); c++)
        check_column(s, columns[c], c, rest);
    for (const std::vector<uint16_t> *list : {&rest.queries, &rest.cache})
        for (size_t i = 0; i < list->size(); i++)
            if ((*list)[i] != 0xffff) {
                fail("head_dim %d: something was written where nothing belongs (%zu)", of.head_dim, i);
                break;
            }
    const outcome alone = rotate_columns(s, {columns[3]});
    const std::ptrdiff_t width = of.heads * of.head_dim;
    if (!std::equal(alone.queries.begin(), alone.queries.begin() + width, together.queries.begin() + 3 * width))
        fail("head_dim %d: a column alone has other queries", of.head_dim);
    for (size_t i = 0; i < alone.cache.size(); i++)
        if (alone.cache[i] != 0xffff && alone.cache[i] != together.cache[i]) {
            fail("head_dim %d: a column alone has other keys or values", of.head_dim);
            break;
        }
    check_narrow(s, columns);
    columns.resize(1);
    for (int32_t position : {254, 255, 256, 257, 258})
        columns.push_back(make_column(s, 0, position));
    check_narrow(s, columns);
}

void test_shapes(void)
{
    static const shape shapes[] = {
        {9, 3, 0, 64, 64, OCT_ROPE_PAIRS, false, false},  {4, 3, 2, 64, 64, OCT_ROPE_HALVES, true, false},
        {28, 7, 0, 128, 128, OCT_ROPE_HALVES, true, false}, {4, 2, 0, 128, 128, OCT_ROPE_HALVES, false, true},
        {2, 2, 0, 32, 16, OCT_ROPE_PAIRS, true, true},    {3, 1, 0, 96, 64, OCT_ROPE_HALVES, false, true},
        {2, 1, 0, 160, 40, OCT_ROPE_PAIRS, true, true},   {4, 4, 1, 192, 64, OCT_ROPE_HALVES, false, true},
        {1, 1, 0, 256, 256, OCT_ROPE_HALVES, false, true}};
    for (const shape &of : shapes)
        check_shape(of);
}

// Values that are not finite become the largest finite number; keys and queries stay what they are.
void test_broken_numbers(void)
{
    const shape of = {1, 1, 0, 32, 32, OCT_ROPE_HALVES, false, false};
    const setting s = make_setting(of);
    column c = make_column(s, 0, 7);
    const float broken[] = {INFINITY, -INFINITY, NAN, 3.4e38f, -3.4e38f};
    const uint16_t expected[] = {0x7f7f, 0xff7f, 0x7f7f, 0x7f7f, 0xff7f};
    for (int i = 0; i < 5; i++)
        c.qkv[(size_t)(64 + i)] = broken[i];
    c.qkv[32] = NAN;
    outcome found = rotate_columns(s, {c});
    const oct_cuda_cache cache = cache_at(s, found.cache.data());
    for (int i = 0; i < 5; i++) {
        const uint16_t value = oct_cuda_cache_values(&cache, s.pages[0][0], LAYER, 0)[oct_cuda_value_place(7, i)];
        if (value != expected[i])
            fail("value %g is kept as %04x", broken[i], value);
    }
    const uint16_t key = oct_cuda_cache_keys(&cache, s.pages[0][0], LAYER, 0)[oct_cuda_key_place(32, 7, 0)];
    if (!std::isnan(oct_bf16_to_f32(key)))
        fail("a key that is not a number became one");
    const outcome narrow = run(s, {c}, 1, std::vector<uint16_t>(cache_elements(s), 0xffff));
    if (narrow.cache != found.cache)
        fail("an attention that rotates keeps other broken numbers");
}

// Runs: every column in one, neighbours of one sequence only, no longer than asked for; the page ids that they need.
void test_descriptor(void)
{
    const int32_t lists[3][2] = {{7, 3}, {1, 4}, {9, 8}}, tokens[] = {3, 1, 4, 1, 5, 9, 2};
    const int32_t positions[] = {62, 63, 64, 65, 5, 0, 100}, needing[] = {3, 6};
    const int32_t *pages[] = {lists[0], lists[0], lists[0], lists[0], lists[1], lists[2], lists[0]};
    const oct_step step = {7, tokens, positions, pages, 2, needing, nullptr};
    std::vector<uint8_t> memory(oct_cuda_step_bytes(9, 4, 128));
    const oct_cuda_step s = oct_cuda_step_place(memory.data(), 9, 4);
    const oct_cuda_run_limits halves = {65, 3, 2}, limits = {66, 3, 1};
    oct_cuda_step_write(&s, &step, &halves);
    if (s.runs[0].columns != 2 || s.runs[1].column != 2 || s.runs[1].fresh != 4 || s.runs[2].column != 4)
        fail("the runs of a sequence beyond the limit are wrong");
    if (oct_cuda_step_write(&s, &step, &limits) != (size_t)((uint8_t *)(s.pages + 6) - memory.data()))
        fail("the descriptor is not as long as it has to be");
    static const oct_cuda_run runs[] = {{0, 3, 65, 0, 3},  {3, 1, 66, 0, 4}, {4, 1, 6, 2, 1},
                                        {5, 1, 1, 3, 1},   {6, 1, 101, 4, 1}, {7, 1, 0, 0, 0},
                                        {8, 1, 0, 0, 0},   {0, 0, 0, 0, 0},  {0, 0, 0, 0, 0}};
    static const int32_t ids[] = {7, 3, 1, 9, 7, 3}, begins[] = {0, 0, 0, 0, 2, 3, 4, 0, 0};
    static const int32_t wanted[] = {3, 6, -1, -1};
    if (memcmp(s.runs, runs, sizeof runs) != 0)
        fail("the runs are wrong");
    if (memcmp(s.pages, ids, sizeof ids) != 0 || memcmp(s.page_lists, begins, sizeof begins) != 0)
        fail("the page ids are wrong");
    if (memcmp(s.logit_column, wanted, sizeof wanted) != 0)
        fail("the logit columns are wrong");
    for (int c = 0; c < 9; c++)
        if (s.tokens[c] != (c < 7 ? tokens[c] : -1) || s.positions[c] != (c < 7 ? positions[c] : -1))
            fail("column %d has token %d at %d", c, s.tokens[c], s.positions[c]);
}
} // namespace

int main()
{
    begin_tests();
    test_shapes();
    test_broken_numbers();
    test_descriptor();
    return end_tests("rotation");
}
