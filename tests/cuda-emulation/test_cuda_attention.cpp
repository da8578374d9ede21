// Attention on the device: against double precision with a derived bound, and the same bits whatever
// columns stand together, however many blocks there are and in which order they run. Pages are in random places; what
// nobody has written there is NaN.
#include <algorithm>

#include "kernel_test.h"

#include "kernels/cuda/attention.h"

static void check_same_bits(const std::vector<float> &a, const std::vector<float> &b, const char *what)
{
    if (a.size() != b.size())
        fail("%s: %zu and %zu elements", what, a.size(), b.size());
    for (size_t i = 0; i < a.size() && i < b.size(); i++)
        if (!same_bits(a[i], b[i])) {
            fail("%s: element %zu of %zu differs (%.9g, %.9g)", what, i, a.size(), a[i], b[i]);
            return;
        }
}

static std::vector<float> part(const std::vector<float> &of, size_t begin, size_t end)
{
    return std::vector<float>(of.begin() + (std::ptrdiff_t)begin, of.begin() + (std::ptrdiff_t)end);
}

namespace
{
// A sequence: its keys and values (as bf16) and its pages, for all key-value heads.
struct sequence {
    int32_t positions;
    std::vector<int32_t> pages;
    std::vector<uint16_t> keys, values; // [positions][kv_heads][head_dim]
};

struct setting {
    oct_cuda_heads heads;
    int32_t kv_heads, head_dim, context, layers, layer, pages;
    std::vector<sequence> sequences;
    std::vector<uint16_t> cache;
};

oct_cuda_cache cache_of(const setting &s, uint16_t *memory)
{
    oct_cuda_cache cache = {};
    cache.memory = memory;
    cache.layers = s.layers;
    cache.kv_heads = s.kv_heads;
    cache.head_dim = s.head_dim;
    return cache;
}

void add_sequence(setting &s, std::vector<int32_t> &free_pages, int32_t positions)
{
    sequence one;
    one.positions = positions;
    const size_t count = (size_t)(positions) * s.kv_heads * s.head_dim;
    for (size_t i = 0; i < count; i++) {
        one.keys.push_back(oct_f32_to_bf16(2 * random_number()));
        one.values.push_back(oct_f32_to_bf16(2 * random_number()));
    }
    for (int32_t i = 0; i < oct_page_count(positions); i++) {
        const size_t pick = (size_t)random_below((int)free_pages.size());
        one.pages.push_back(free_pages[pick]);
        free_pages.erase(free_pages.begin() + (std::ptrdiff_t)(pick));
    }
    one.pages.resize((size_t)(oct_page_count(s.context)), -1);
    const oct_cuda_cache cache = cache_of(s, s.cache.data());
    for (int32_t p = 0; p < positions; p++)
        for (int32_t kv = 0; kv < s.kv_heads; kv++)
            for (int32_t d = 0; d < s.head_dim; d++) {
                const int32_t page = one.pages[(size_t)(p / 64)];
                const size_t from = ((size_t)(p) * s.kv_heads + kv) * s.head_dim + d;
                uint16_t *keys = oct_cuda_cache_keys(&cache, page, s.layer, kv);
                uint16_t *values = oct_cuda_cache_values(&cache, page, s.layer, kv);
                keys[oct_cuda_key_place(s.head_dim, p % 64, d)] = one.keys[from];
                values[oct_cuda_value_place(p % 64, d)] = one.values[from];
            }
    s.sequences.push_back(one);
}

// heads of a rank whose first one is the first_in_group'th of its group; sequences of so many positions.
setting make_setting(int32_t heads, int32_t group, int32_t first_in_group, int32_t head_dim, int32_t context,
                     const std::vector<int32_t> &positions)
{
    setting s = {};
    s.heads = {heads, group, first_in_group};
    s.kv_heads = (first_in_group + heads + group - 1) / group;
    s.head_dim = head_dim;
    s.context = context;
    s.layers = 2;
    s.layer = 1;
    s.pages = 3;
    for (int32_t p : positions)
        s.pages += oct_page_count(p);
    const oct_cuda_cache cache = cache_of(s, nullptr);
    s.cache.assign(oct_cuda_cache_bytes(&cache, s.pages) / sizeof(uint16_t), 0xffff);
    std::vector<int32_t> free_pages;
    for (int32_t i = 0; i < s.pages; i++)
        free_pages.push_back(i);
    for (int32_t p : positions)
        add_sequence(s, free_pages, p);
    return s;
}

// A column: which sequence, which position, and its queries [heads][head_dim].
struct column {
    int32_t sequence, position;
    std::vector<uint16_t> queries;
};

column make_column(const setting &s, int32_t sequence, int32_t position, float deviation = 1.0f)
{
    column c = {sequence, position, {}};
    for (int32_t i = 0; i < s.heads.heads * s.head_dim; i++)
        c.queries.push_back(oct_f32_to_bf16(2 * random_number() * deviation));
    return c;
}

// The last `count` positions of a sequence.
void add_last(std::vector<column> &columns, const setting &s, int32_t sequence, int32_t count)
{
    for (int32_t p = s.sequences[(size_t)(sequence)].positions - count;
         p < s.sequences[(size_t)(sequence)].positions; p++)
        columns.push_back(make_column(s, sequence, p));
}

// Launches made for `launched` columns, on a device of so many multiprocessors, with memory of exactly the size needed.
// Narrow ones get queries, keys and values of the columns as qkv that is not rotated, and find a cache without these
// keys and values; others get bf16 queries and a whole cache.
struct attention_launch {
    const setting &s;
    int32_t launched;
    size_t width, qkv_width;
    oct_cuda_device device;
    Array<uint8_t> descriptor;
    Array<uint16_t> cache, queries;
    Array<float> qkv, out;
    oct_cuda_attention a;
    Array<float> states;
    Array<uint32_t> arrivals;
    bool is_written = false; // the cache is as in the setting when all is over

    attention_launch(const setting &of, int32_t columns, int32_t multiprocessors)
        : s(of), launched(columns), width((size_t)of.heads.heads * of.head_dim),
          qkv_width(width + 2 * (size_t)(of.kv_heads * of.head_dim)), device{multiprocessors, 0},
          descriptor(oct_cuda_step_bytes(columns, 0, of.context)), cache(of.cache), queries((size_t)columns * width),
          qkv((size_t)columns * (qkv_width + 4)), out((size_t)columns * (width + 8)), a(operands()),
          states(oct_cuda_attention_states_bytes(&a, columns) / sizeof(float)),
          arrivals(std::vector<uint32_t>(oct_cuda_attention_arrivals(&a, columns), 0))
    {
        a.states = states.at;
        a.arrivals = arrivals.at;
    }

    oct_cuda_attention operands() const
    {
        oct_cuda_attention all = {};
        all.step = oct_cuda_step_place(descriptor.at, launched, 0);
        all.heads = s.heads;
        all.cache = cache_of(s, cache.at);
        all.layer = s.layer;
        all.context = s.context;
        all.queries = queries.at;
        all.qkv = qkv.at;
        all.qkv_stride = (int64_t)qkv_width + 4;
        all.out = out.at;
        all.out_stride = (int64_t)width + 8;
        return all;
    }

    // Nothing of the last step is left.
    void clear()
    {
        queries.poison();
        qkv.poison();
        out.poison();
        states.poison();
    }

    // What column c is made from.
    void put_column(size_t c, const column &of, std::vector<uint16_t> &before)
    {
        const sequence &from = s.sequences[(size_t)of.sequence];
        const size_t of_position = (size_t)(s.kv_heads * s.head_dim), at = (size_t)of.position * of_position;
        if (!oct_cuda_attention_rotates(launched))
            return queries.put(c * width, of.queries.data(), width);
        std::vector<float> row;
        for (uint16_t q : of.queries)
            row.push_back(oct_bf16_to_f32(q));
        for (const std::vector<uint16_t> *list : {&from.keys, &from.values})
            for (size_t i = 0; i < of_position; i++)
                row.push_back(oct_bf16_to_f32((*list)[at + i]));
        qkv.put(c * (qkv_width + 4), row.data(), row.size());
        const oct_cuda_cache all = cache_of(s, before.data());
        const int32_t page = from.pages[(size_t)(of.position / 64)];
        for (int32_t i = 0; i < s.kv_heads * s.head_dim; i++) {
            const int32_t kv = i / s.head_dim, d = i % s.head_dim, p = of.position % 64;
            oct_cuda_cache_keys(&all, page, s.layer, kv)[oct_cuda_key_place(s.head_dim, p, d)] = 0xffff;
            oct_cuda_cache_values(&all, page, s.layer, kv)[oct_cuda_value_place(p, d)] = 0xffff;
        }
    }

    // Another step.
    void write(const std::vector<column> &columns)
    {
        std::vector<int32_t> tokens, positions;
        std::vector<const int32_t *> pages;
        std::vector<uint16_t> before = s.cache;
        clear();
        for (size_t c = 0; c < columns.size(); c++) {
            tokens.push_back(1);
            positions.push_back(columns[c].position);
            pages.push_back(s.sequences[(size_t)columns[c].sequence].pages.data());
            put_column(c, columns[c], before);
        }
        cache.put(0, before.data(), before.size());
        is_written = true;
        send({(int32_t)columns.size(), tokens.data(), positions.data(), pages.data(), 0, nullptr, nullptr});
    }

    void send(const oct_step &step) const
    {
        const int32_t context = s.pages * OCT_PAGE_POSITIONS;
        send_step(descriptor, launched, step, some_run_limits(s.heads, cache_of(s, nullptr), launched, context));
    }

    void run(cudaStream_t stream) const
    {
        must(oct_cuda_attend(&device, &a, stream), "attention");
    }

    // [launched][heads][head_dim]
    std::vector<float> result() const
    {
        std::vector<float> all;
        const std::vector<float> found = out.values();
        for (auto at = found.begin(); at < found.end(); at += (std::ptrdiff_t)a.out_stride)
            all.insert(all.end(), at, at + (std::ptrdiff_t)width);
        for (uint32_t arrived : arrivals.values())
            if (arrived != 0)
                fail("an arrival is %u, not zero again", arrived);
        if (is_written && cache.values() != s.cache)
            fail("%d columns, head_dim %d: the cache is not what it should be", launched, s.head_dim);
        return all;
    }
};

// The attention of columns in one launch.
std::vector<float> attend(const setting &s, const std::vector<column> &columns, int32_t launched,
                          int32_t multiprocessors)
{
    attention_launch launch(s, launched, multiprocessors);
    launch.write(columns);
    launch.run(nullptr);
    return launch.result();
}

const uint16_t *vector_of(const setting &s, const std::vector<uint16_t> &from, int32_t position, int32_t kv)
{
    return from.data() + ((size_t)(position) * s.kv_heads + kv) * s.head_dim;
}

// With u = 2^-24: products of bf16 numbers are exact; a tensor core adds in any order and may cut off instead of
// rounding, 2 u an addition (test_cuda_tensor_core.cpp measures it). So a score is off by delta = (2 head_dim + 1) u
// Σ |q k| · scale, a weight exp(score − maximum) by 2 delta, by the rounding of the difference and by 2 u of exp, and
// by 2^-8 of its rounding to bf16. The sum and the weighted values go through at most 256 additions in a split, and in
// the merges through two roundings, two exponentials and their differences a state. Numerator and denominator both:
// twice that, of Σ w |v| / Σ w.
void check_query(const setting &s, const column &c, int32_t h, const float *out)
{
    const double u = 0x1p-24, scale = 1 / sqrt((double)(s.head_dim));
    const sequence &from = s.sequences[(size_t)(c.sequence)];
    const int32_t kv = (s.heads.first_in_group + h) / s.heads.group, n = c.position + 1;
    std::vector<double> weights((size_t)(n));
    double largest = -INFINITY, smallest = INFINITY, delta = 0, sum = 0;
    for (int32_t p = 0; p < n; p++) {
        double exact = 0, size = 0;
        for (int32_t d = 0; d < s.head_dim; d++) {
            const double term = (double)(oct_bf16_to_f32(c.queries[(size_t)(h) * s.head_dim + d])) *
                                (double)(oct_bf16_to_f32(vector_of(s, from.keys, p, kv)[d]));
            exact += term;
            size += fabs(term);
        }
        weights[(size_t)(p)] = exact * scale;
        largest = fmax(largest, exact * scale);
        smallest = fmin(smallest, exact * scale);
        delta = fmax(delta, (2 * s.head_dim + 2) * u * size * scale);
    }
    for (double &weight : weights)
        sum += weight = exp(weight - largest);
    const double range = largest - smallest + 2 * delta, states = n / 256 + 2;
    const double one_weight = 0x1p-8 + 2 * delta + range * u + 2 * u;
    const double factor = 1.02 * 2 * (one_weight + 513 * u + states * (6 + range) * u) + u;
    for (int32_t d = 0; d < s.head_dim; d++) {
        double exact = 0, size = 0;
        for (int32_t p = 0; p < n; p++) {
            const double term =
                weights[(size_t)(p)] / sum * (double)(oct_bf16_to_f32(vector_of(s, from.values, p, kv)[d]));
            exact += term;
            size += fabs(term);
        }
        if (!(fabs(out[d] - exact) <= factor * size))
            fail("position %d, head %d of %d (%d a group), head_dim %d, dimension %d: %.9g, expected %.9g +- %.3g",
                     c.position, h, s.heads.heads, s.heads.group, s.head_dim, d, out[d], exact,
                     factor * size);
    }
}

void check_columns(const setting &s, const std::vector<column> &columns, const std::vector<float> &out)
{
    const size_t width = (size_t)(s.heads.heads) * s.head_dim;
    for (size_t c = 0; c < columns.size(); c++)
        for (int32_t h = 0; h < s.heads.heads; h++)
            check_query(s, columns[c], h, out.data() + c * width + (size_t)(h) * s.head_dim);
    for (size_t i = columns.size() * width; i < out.size(); i++)
        if (out[i] != 0)
            fail("empty columns are not zero: %.9g", out[i]);
}

// Each column alone gives the bits that it has in `out`.
void check_alone(const setting &s, const std::vector<column> &columns, const std::vector<float> &out)
{
    const size_t width = (size_t)(s.heads.heads) * s.head_dim;
    for (size_t c = 0; c < columns.size(); c++) {
        const std::vector<float> alone = attend(s, {columns[c]}, 1, 1 + random_below(8));
        check_same_bits(alone, part(out, c * width, (c + 1) * width), "a column alone");
    }
}

// One column, then three of two sequences in one step; heads, group, first in its group, head_dim.
void check_head_shape(const int32_t *shape)
{
    const int32_t positions = 1 + random_below(300);
    const setting s = make_setting(shape[0], shape[1], shape[2], shape[3], 512, {positions, 65});
    std::vector<column> columns;
    add_last(columns, s, 0, 1);
    const std::vector<float> one = attend(s, columns, 1, 4);
    check_columns(s, columns, one);
    add_last(columns, s, 1, 2);
    shuffle();
    const std::vector<float> three = attend(s, columns, 4, 4);
    check_columns(s, columns, three);
    check_alone(s, columns, three);
}

// What test_head_shapes() samples: every size of heads with whole groups, cut ones and more queries than a block holds.
void test_all_head_shapes(void)
{
    static const int32_t heads[][3] = {{1, 1, 0}, {9, 3, 0}, {5, 3, 0},  {4, 3, 2},
                                       {3, 4, 1}, {8, 8, 0}, {28, 7, 0}, {40, 40, 0}};
    for (int32_t head_dim : {32, 64, 96, 128, 160, 192, 224, 256})
        for (const int32_t *of : heads) {
            const int32_t shape[] = {of[0], of[1], of[2], head_dim};
            check_head_shape(shape);
        }
}

void test_head_shapes(void)
{
    // SmolLM2 whole and in two parts, 28/4 whole, one head of many,
    // more queries than a block holds
    static const int32_t shapes[][4] = {{9, 3, 0, 64}, {5, 3, 0, 64}, {4, 3, 2, 64},  {28, 7, 0, 128}, {1, 1, 0, 32},
                                        {2, 1, 0, 96}, {3, 4, 1, 160}, {40, 40, 0, 32}, {4, 4, 0, 192},  {2, 2, 0, 224},
                                        {8, 8, 0, 256}};
    for (const int32_t *shape : shapes)
        check_head_shape(shape);
}

void test_borders(int32_t head_dim)
{
    for (int32_t positions : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513}) {
        const setting s = make_setting(2, 2, 0, head_dim, 1024, {positions});
        std::vector<column> columns;
        add_last(columns, s, 0, positions < 3 ? positions : 3);
        shuffle();
        const std::vector<float> out = attend(s, columns, 4, 4);
        check_columns(s, columns, out);
        check_alone(s, columns, out);
    }
}

// Several sequences, drafts and chunks of prompts in one step, 16 columns and more, which take another variant.
void test_ragged_steps(void)
{
    const setting s = make_setting(6, 3, 0, 64, 1024, {300, 70, 1, 520});
    std::vector<column> columns;
    add_last(columns, s, 3, 5);
    add_last(columns, s, 0, 6);
    add_last(columns, s, 2, 1);
    add_last(columns, s, 1, 4);
    const std::vector<float> narrow = attend(s, columns, 16, 4);
    check_columns(s, columns, narrow);
    check_alone(s, columns, narrow);
    const size_t before = columns.size();
    add_last(columns, s, 3, 60);
    shuffle();
    const std::vector<float> wide = attend(s, columns, 80, 2);
    check_columns(s, columns, wide);
    check_same_bits(narrow, part(wide, 0, narrow.size()),
                    "the first 16 columns of a wide step");
    for (size_t pick : {before, before + 30, before + 59}) {
        const size_t width = (size_t)(s.heads.heads) * s.head_dim;
        check_same_bits(attend(s, {columns[pick]}, 1, 4),
                        part(wide, pick * width, (pick + 1) * width), "a column of a chunk alone");
    }
}

// Many columns of a sequence in a narrow step: several runs of them, each of which makes what those in front of it have;
// across a page, a split, a stretch. Heads, group, first in its group, head_dim; then positions and columns.
void test_drafts(void)
{
    static const int32_t shapes[][6] = {{16, 8, 0, 64, 262, 16},  {9, 8, 5, 64, 66, 9},   {40, 40, 0, 32, 257, 3},
                                        {3, 3, 0, 96, 70, 13},    {24, 24, 0, 128, 258, 5}, {4, 2, 1, 160, 260, 7},
                                        {16, 16, 0, 256, 130, 4}, {2, 2, 0, 32, 4100, 8}};
    for (const int32_t *of : shapes) {
        const setting s = make_setting(of[0], of[1], of[2], of[3], 8192, {of[4], 20});
        std::vector<column> columns;
        add_last(columns, s, 0, of[5]);
        shuffle();
        check_alone(s, columns, attend(s, columns, of[5], 4));
        add_last(columns, s, 1, 2);
        shuffle();
        const std::vector<float> out = attend(s, columns, columns.size() > 16 ? 20 : 16, 4);
        check_columns(s, columns, out);
        check_alone(s, columns, out);
    }
}

// More than one stretch of 4096 positions: both ways of merging, and columns that end before and behind a border.
void test_long_contexts(void)
{
    const setting s = make_setting(2, 2, 0, 32, 16384, {4098, 8200});
    std::vector<column> columns;
    add_last(columns, s, 0, 4);
    add_last(columns, s, 1, 2);
    const std::vector<float> few_blocks = attend(s, columns, 8, 1);
    check_columns(s, columns, few_blocks);
    shuffle();
    check_same_bits(few_blocks, attend(s, columns, 8, 100), "as many blocks as splits");
    check_alone(s, columns, few_blocks);
    const std::vector<float> wide = attend(s, columns, 17, 4);
    check_same_bits(part(few_blocks, 0, 6 * 64), part(wide, 0, 6 * 64), "units of whole stretches");
}

// A graph is captured once and replayed with other steps: longer and shorter ones, other columns, none.
void test_replayed_graph(void)
{
    const setting s = make_setting(4, 2, 0, 64, 8192, {600, 40, 4200});
    attention_launch launch(s, 4, 4);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    must(cudaStreamCreate(&stream), "cudaStreamCreate");
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    launch.run(stream);
    must(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    must(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
    for (const std::vector<int32_t> &step : {std::vector<int32_t>{0, 0, 1}, {2, 2, 2, 2}, {}, {1}, {2, 0, 1, 1}}) {
        std::vector<column> columns;
        for (int32_t sequence : step) {
            const bool follows = !columns.empty() && columns.back().sequence == sequence;
            const int32_t most = s.sequences[(size_t)sequence].positions - 4;
            columns.push_back(make_column(s, sequence, follows ? columns.back().position + 1 : random_below(most)));
        }
        launch.write(columns);
        must(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
        const std::vector<float> replayed = launch.result();
        check_columns(s, columns, replayed);
        check_same_bits(attend(s, columns, 4, 9), replayed, "a replayed graph");
    }
    must(cudaGraphExecDestroy(replay), "cudaGraphExecDestroy");
    must(cudaGraphDestroy(graph), "cudaGraphDestroy");
    must(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

// Both operations: a prompt in chunks of so many columns, each launched as if there were one more:
// [positions][heads][head_dim].
std::vector<float> run_in_chunks(const setting &s, const std::vector<float> &qkv, const std::vector<float> &table,
                                 int32_t positions, int32_t chunk)
{
    const size_t width = (size_t)s.heads.heads * s.head_dim, qkv_width = width + 2 * (size_t)(s.kv_heads * s.head_dim);
    attention_launch launch(s, chunk + 1, 4);
    const Array<float> rope(table);
    const Array<float> input((size_t)(chunk + 1) * qkv_width);
    oct_cuda_attention &a = launch.a;
    a.qkv = input.at;
    a.qkv_stride = (int64_t)qkv_width;
    a.rope = rope.at;
    a.rope_dims = s.head_dim;
    std::vector<float> all;
    for (int32_t begin = 0; begin < positions; begin += chunk) {
        const int32_t count = positions - begin < chunk ? positions - begin : chunk;
        launch.clear();
        std::vector<int32_t> tokens((size_t)count, 1), places;
        const std::vector<const int32_t *> pages((size_t)count, s.sequences[0].pages.data());
        for (int32_t c = 0; c < count; c++)
            places.push_back(begin + c);
        const oct_step step = {count, tokens.data(), places.data(), pages.data(), 0, nullptr, nullptr};
        launch.send(step);
        input.put(0, &qkv[(size_t)begin * qkv_width], (size_t)count * qkv_width);
        must(oct_cuda_rope_cache(&a, nullptr), "rotation");
        launch.run(nullptr);
        const std::vector<float> some = launch.result();
        all.insert(all.end(), some.begin(), some.begin() + (std::ptrdiff_t)((size_t)count * width));
    }
    return all;
}

void test_chunks(void)
{
    enum { POSITIONS = 70 };
    setting s = make_setting(4, 2, 0, 64, 256, {POSITIONS});
    std::fill(s.cache.begin(), s.cache.end(), (uint16_t)0xffff); // the launches fill it
    std::vector<float> qkv, table;
    for (int i = 0; i < POSITIONS * 8 * 64; i++)
        qkv.push_back(2 * random_number());
    for (int i = 0; i < 256 * 32; i++) {
        table.push_back((float)cos(i * 0.01));
        table.push_back((float)sin(i * 0.01));
    }
    const std::vector<float> whole = run_in_chunks(s, qkv, table, POSITIONS, POSITIONS);
    for (float value : whole)
        if (!(fabs((double)value) <= 2.01)) { // a mean of values, rounded to bf16
            fail("an attention of values up to 2 is %.9g", value);
            break;
        }
    for (int32_t chunk : {1, 4, 15, 33}) {
        shuffle();
        check_same_bits(whole, run_in_chunks(s, qkv, table, POSITIONS, chunk), "a prompt in chunks");
    }
}

// Equal scores, scores far apart, and a value at the largest number behind a column of the same step.
void test_extremes(void)
{
    setting s = make_setting(1, 1, 0, 32, 512, {300});
    for (float deviation : {0.0f, 1e-30f, 100.0f}) {
        const std::vector<column> columns = {make_column(s, 0, 299, deviation)};
        check_columns(s, columns, attend(s, columns, 1, 4));
    }
    const std::vector<column> columns = {make_column(s, 0, 297), make_column(s, 0, 298), make_column(s, 0, 299)};
    const std::vector<float> before = attend(s, columns, 4, 4);
    const oct_cuda_cache cache = cache_of(s, s.cache.data());
    const int32_t page = s.sequences[0].pages[298 / 64];
    sequence &broken = s.sequences[0];
    std::fill_n(broken.values.begin() + 298 * 32, 32, (uint16_t)0xff7f);
    std::fill_n(broken.keys.begin() + 298 * 32, 32, (uint16_t)0x7fc0);
    for (int32_t d = 0; d < 32; d++) {
        oct_cuda_cache_values(&cache, page, s.layer, 0)[oct_cuda_value_place(298 % 64, d)] = 0xff7f;
        oct_cuda_cache_keys(&cache, page, s.layer, 0)[oct_cuda_key_place(32, 298 % 64, d)] = 0x7fc0;
    }
    const std::vector<float> out = attend(s, columns, 4, 4);
    check_same_bits(part(before, 0, 32), part(out, 0, 32), "a column in front of a broken one");
    if (!std::isnan(out[32]) || !std::isnan(out[64]))
        fail("columns that attend to a broken key are numbers");
}
} // namespace

int main()
{
    begin_tests();
    test_head_shapes();
    test_borders(32);
    if (is_full()) {
        test_all_head_shapes();
        for (int32_t head_dim : {64, 96, 128, 160, 192, 224, 256})
            test_borders(head_dim);
    }
    test_ragged_steps();
    test_drafts();
    test_long_contexts();
    test_extremes();
    test_replayed_graph();
    test_chunks();
    return end_tests("attention");
}
