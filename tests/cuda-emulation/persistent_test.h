// What the tests of the persistent kernel share: the step of a layer that is launched kernel by kernel, or recorded for
// it, and all that such a step leaves to others.
#ifndef OCT_TESTS_CUDA_EMULATION_PERSISTENT_TEST_H
#define OCT_TESTS_CUDA_EMULATION_PERSISTENT_TEST_H

#include "kernel_test.h"

#include <algorithm>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/persistent.h"
#include "kernels/cuda/projection.h"
#include "kernels/cuda/reduction.h"

static oct_cuda_device device;

enum {
    HEADS = 3,
    KV_HEADS = 1,
    INNER = 96,
    VOCABULARY = 160,
    CONTEXT = 576, // three splits
    PAGES = CONTEXT / OCT_PAGE_POSITIONS,
    LIST = 8,
    RECORDS = 24
};

// A matrix on the device, split by rows or, in granules of 32 columns, along K.
struct matrix {
    oct_cuda_plan plan;
    std::vector<uint8_t> bytes;
    int64_t rows;

    matrix(oct_encoding encoding, int64_t row_count, int64_t columns, bool along_k) : rows(row_count)
    {
        const oct_partition partition = oct_partition_make((int32_t)(columns / 32), 32, OCT_MAX_GRANULES);
        if (along_k)
            oct_cuda_plan_granules(&plan, encoding, rows, columns, &partition, {0, partition.granules});
        else
            oct_cuda_plan_rows(&plan, encoding, columns);
        for (int g = 0; g < (along_k ? partition.granules : 1); g++)
            for (int64_t tile = 0; tile < oct_tile_count(rows); tile++)
                add_strip(encoding, along_k ? g * 32 : 0, along_k ? g * 32 + 32 : columns);
    }

    void add_strip(oct_encoding encoding, int64_t first, int64_t last)
    {
        const std::vector<uint8_t> strip = random_strip(encoding, first, last);
        const size_t at = bytes.size();
        bytes.resize(at + oct_strip_bytes(oct_cuda_encoding(encoding), first, last));
        oct_cuda_layout_strip(encoding, first, last, strip.data(), &bytes[at]);
    }
};

static std::vector<float> random_floats(size_t count)
{
    std::vector<float> values(count);
    for (float &value : values)
        value = random_number();
    return values;
}

static std::vector<uint16_t> random_cache(size_t count)
{
    std::vector<uint16_t> values(count);
    for (uint16_t &value : values)
        value = oct_f32_to_bf16(random_number());
    return values;
}

// What both executors begin with.
struct layer {
    int32_t columns, head_dim, hidden;
    oct_encoding encoding; // of the attention's matrices and the gates
    oct_encoding table;    // of the embedding, the other matrices too
    matrix qkv, output, gate, up, down, head;
    std::vector<float> norm, rope;
    std::vector<uint16_t> cache;
    std::vector<int32_t> tokens, positions, pages;

    layer(oct_encoding a, oct_encoding b, int32_t dim, int32_t column_count)
        : columns(column_count), head_dim(dim), hidden(dim * HEADS), encoding(a), table(b),
          qkv(a, (HEADS + 2 * KV_HEADS) * dim, hidden, false), output(a, hidden, hidden, true),
          gate(a, INNER, hidden, false), up(a, INNER, hidden, false), down(b, hidden, INNER, true),
          head(b, VOCABULARY, hidden, false), norm(random_floats((size_t)hidden)),
          rope(random_floats((size_t)(CONTEXT * dim))),
          cache(random_cache((size_t)(PAGES * KV_HEADS * 2 * OCT_PAGE_POSITIONS * dim)))
    {
        const int32_t first = CONTEXT - columns - random_below(CONTEXT / 2);
        for (int32_t c = 0; c < columns; c++) {
            tokens.push_back(random_below(VOCABULARY));
            positions.push_back(first + c);
        }
        for (int32_t i = 0; i < PAGES; i++)
            pages.push_back((i * 5 + 2) % PAGES);
    }
};

// Another rank on the same device, as rank 0 sees it: what rank 0 sends it may, and nothing comes from it.
struct peer {
    Array<uint8_t> own, others;
    Array<uint32_t> step, abort;
    oct_partition partition;
    oct_tree_finish tree;
    oct_cuda_peers peers = {};

    static oct_partition granules_of(const layer &l)
    {
        return oct_partition_make(l.hidden / 32, 32, OCT_MAX_GRANULES);
    }

    static uint64_t bytes_of(const layer &l)
    {
        oct_tree_finish tree;
        oct_tree_schedule_finish(&tree, granules_of(l).granules, 2);
        return oct_cuda_peer_layout_make(2, tree.nodes, l.columns, l.hidden).bytes;
    }

    peer(const layer &l, uint64_t patience_ns)
        : own(std::vector<uint8_t>(bytes_of(l))), others(std::vector<uint8_t>(bytes_of(l))),
          step(std::vector<uint32_t>{0}), abort(std::vector<uint32_t>{OCT_DEVICE_WAITS}), partition(granules_of(l))
    {
        oct_tree_schedule_finish(&tree, partition.granules, 2);
        peers.ranks = 2;
        peers.hidden = l.hidden;
        peers.exchanges = 1;
        peers.step = step.at;
        peers.abort = abort.at;
        peers.patience_ns = patience_ns;
        peers.layout = oct_cuda_peer_layout_make(2, tree.nodes, l.columns, l.hidden);
        peers.memory[0] = own.at;
        peers.memory[1] = others.at;
    }

    // Makes the projection of all granules that of rank 0, with the reduction.
    void share(oct_cuda_projection *p, oct_encoding encoding, float *residual) const
    {
        const oct_run run = oct_partition_cut(partition.granules, 2, 0);
        p->plan = {};
        oct_cuda_plan_granules(&p->plan, encoding, peers.hidden, peers.hidden, &partition, run);
        p->input.width = run.end * 32;
        p->epilogue = OCT_CUDA_REDUCE;
        must(oct_cuda_plan_reduction(&p->reduction, &peers, &tree, p->input.columns, 0, SIZE_MAX, residual, nullptr),
             "planning a reduction");
    }
};

// The layer on the device, and what a step leaves there.
struct on_device {
    const layer &of;
    size_t columns, hidden, heads;
    Array<uint8_t> qkv, output, gate, up, down, head, descriptor;
    Array<float> norm, rope, residual, qkv_out, attended, inner, logits, states, maxima;
    Array<uint16_t> cache, queries;
    Array<uint8_t> prepared, scratch, candidates;
    Array<uint32_t> arrivals, chosen;
    Array<uint64_t> hashes;
    Array<oct_cuda_sampled_column> sampled;
    Array<int32_t> logit_column;
    oct_cuda_attention attention = {};
    const peer *other = nullptr; // that the output is reduced with

    static std::vector<oct_cuda_sampled_column> describe(const layer &l)
    {
        std::vector<oct_cuda_sampled_column> columns((size_t)l.columns);
        for (size_t c = 0; c < columns.size(); c++) {
            columns[c] = {};
            columns[c].seed = 17 + c;
            columns[c].position = (uint64_t)l.positions[c];
            columns[c].inverse_temperature = 1.25f;
            columns[c].repetition = 1;
            columns[c].sampled = 1;
            columns[c].greedy = c % 2;
            columns[c].list_size = LIST;
        }
        return columns;
    }

    static std::vector<int32_t> count_up(int32_t count)
    {
        std::vector<int32_t> numbers;
        for (int32_t i = 0; i < count; i++)
            numbers.push_back(i);
        return numbers;
    }

    explicit on_device(const layer &l)
        : of(l), columns((size_t)l.columns), hidden((size_t)l.hidden), heads(HEADS), qkv(l.qkv.bytes),
          output(l.output.bytes), gate(l.gate.bytes), up(l.up.bytes), down(l.down.bytes), head(l.head.bytes),
          descriptor(oct_cuda_step_bytes(l.columns, 0, CONTEXT)), norm(l.norm), rope(l.rope),
          residual(columns * hidden), qkv_out(columns * (HEADS + 2 * KV_HEADS) * (size_t)l.head_dim),
          attended(columns * hidden), inner(columns * INNER), logits(columns * VOCABULARY),
          states(columns * HEADS * 16 * (size_t)(l.head_dim + 8)), maxima(columns), cache(l.cache),
          queries(columns * hidden), prepared(oct_cuda_prepared_bytes(l.hidden, l.columns)),
          scratch(oct_cuda_selection_scratch_bytes(VOCABULARY, l.columns)),
          candidates(columns * sizeof(oct_candidates)), arrivals(std::vector<uint32_t>(columns * 8)),
          chosen(std::vector<uint32_t>(columns)), hashes(columns), sampled(describe(l)),
          logit_column(count_up(l.columns))
    {
        attention.step = oct_cuda_step_place(descriptor.at, l.columns, 0);
        attention.cache = {cache.at, 1, KV_HEADS, l.head_dim};
        attention.heads = {HEADS, HEADS / KV_HEADS, 0};
        attention.context = CONTEXT;
        attention.qkv = qkv_out.at;
        attention.qkv_stride = (HEADS + 2 * KV_HEADS) * l.head_dim;
        attention.norm_epsilon = 1e-5f;
        attention.rope = rope.at;
        attention.rope_dims = l.head_dim;
        attention.rope_convention = OCT_ROPE_HALVES;
        attention.queries = queries.at;
        attention.out = attended.at;
        attention.out_stride = l.hidden;
        attention.states = states.at;
        attention.arrivals = arrivals.at;
        if (oct_cuda_attention_states_bytes(&attention, l.columns) > states.bytes() ||
            oct_cuda_attention_arrivals(&attention, l.columns) > arrivals.count)
            fail("the test has too little memory for the attention");
        std::vector<const int32_t *> tables(columns, l.pages.data());
        oct_step step = {};
        step.columns = l.columns;
        step.tokens = l.tokens.data();
        step.positions = l.positions.data();
        step.pages = tables.data();
        send_step(descriptor, l.columns, step, some_run_limits(attention.heads, attention.cache, l.columns, CONTEXT));
    }

    oct_cuda_projection projection(const matrix &m, const uint8_t *weights, const float *x, int64_t width,
                                   oct_cuda_epilogue epilogue, float *out, int64_t stride) const
    {
        oct_cuda_projection p = {};
        p.plan = m.plan;
        p.input.x = x;
        p.input.stride = width;
        p.input.width = (int32_t)width;
        p.input.columns = of.columns;
        p.input.epsilon = 1e-5f;
        p.matrices[p.matrix_count++] = {weights, m.rows, out};
        p.epilogue = epilogue;
        p.out_stride = stride;
        return p;
    }

    // The step, in the order of a step program; the input of the gates is made once for all blocks.
    void issue(cudaStream_t stream)
    {
        const oct_cuda_embedding embedding = {attention.step, head.at, of.table, {0, VOCABULARY / 16}, of.hidden,
                                              residual.at};
        must(oct_cuda_embed(&embedding, stream), "embed");
        oct_cuda_projection p = projection(of.qkv, qkv.at, residual.at, of.hidden, OCT_CUDA_STORE, qkv_out.at,
                                           attention.qkv_stride);
        p.input.norm = norm.at;
        must(oct_cuda_project(&device, &p, stream), "qkv");
        must(oct_cuda_rope_cache(&attention, stream), "rope_cache");
        must(oct_cuda_attend(&device, &attention, stream), "attention");
        p = projection(of.output, output.at, attended.at, of.hidden, OCT_CUDA_ADD, residual.at, of.hidden);
        if (other != nullptr)
            other->share(&p, of.encoding, residual.at);
        must(oct_cuda_project(&device, &p, stream), "output");
        p = projection(of.gate, gate.at, residual.at, of.hidden, OCT_CUDA_SILU_MULTIPLY, inner.at, INNER);
        p.matrices[p.matrix_count++] = {up.at, of.up.rows, inner.at};
        p.input.norm = norm.at;
        p.input.prepared = prepared.at;
        must(oct_cuda_prepare(&p.input, stream), "prepare");
        must(oct_cuda_project(&device, &p, stream), "gate and up");
        p = projection(of.down, down.at, inner.at, INNER, OCT_CUDA_ADD, residual.at, of.hidden);
        must(oct_cuda_project(&device, &p, stream), "down");
        p = projection(of.head, head.at, residual.at, of.hidden, OCT_CUDA_STORE, logits.at, VOCABULARY);
        p.input.norm = norm.at;
        p.input.column_of = logit_column.at;
        must(oct_cuda_project(&device, &p, stream), "head");
        select(stream);
    }

    void select(cudaStream_t stream)
    {
        oct_cuda_selection s = {};
        s.logits = logits.at;
        s.stride = VOCABULARY;
        s.rows = VOCABULARY;
        s.columns = of.columns;
        s.sampled = sampled.at;
        s.scratch = scratch.at;
        s.candidates = reinterpret_cast<oct_candidates *>(candidates.at);
        s.maxima = maxima.at;
        s.arrivals = chosen.at;
        s.hash = {logit_column.at, residual.at, of.hidden, hashes.at};
        must(oct_cuda_select(&s, stream), "selection");
    }

    // Every byte that a step leaves to others.
    std::vector<uint8_t> results() const
    {
        std::vector<uint8_t> all;
        const auto add = [&](const auto &array) {
            const auto values = array.values();
            const uint8_t *bytes = reinterpret_cast<const uint8_t *>(values.data());
            all.insert(all.end(), bytes, bytes + values.size() * sizeof values[0]);
        };
        add(residual), add(qkv_out), add(attended), add(inner), add(logits), add(cache), add(hashes), add(candidates),
            add(maxima), add(arrivals), add(chosen);
        return all;
    }
};

// A layer that is recorded, as far as that goes, for a device whose blocks may have so many bytes of shared memory.
struct recording {
    on_device memory;
    Array<uint8_t> records;
    Array<uint32_t> words;
    uint32_t *gave_up = nullptr;
    oct_cuda_program program = {};
    oct_status status;

    explicit recording(const layer &l, const peer *other = nullptr, size_t shared_bytes = device.shared_bytes)
        : memory(l), records(RECORDS * oct_cuda_program_record_bytes()),
          words(std::vector<uint32_t>(OCT_CUDA_GRID_WORDS))
    {
        must(cudaMallocHost(reinterpret_cast<void **>(&gave_up), sizeof *gave_up), "cudaMallocHost");
        *gave_up = 0;
        memory.other = other;
        program.capacity = RECORDS;
        program.columns = l.columns;
        program.on_device = records.at;
        program.words = {words.at, gave_up, other != nullptr ? other->abort.at : nullptr};
        must(oct_cuda_program_begin(&program, nullptr), "recording");
        memory.issue(nullptr);
        oct_cuda_device room = device;
        room.shared_bytes = shared_bytes;
        status = oct_cuda_program_end(&program, &room, nullptr, OCT_OK);
    }

    recording(const recording &) = delete;
    recording &operator=(const recording &) = delete;

    ~recording()
    {
        must(cudaFreeHost(gave_up), "cudaFreeHost");
    }

    std::vector<uint8_t> run()
    {
        must(status, "the end of recording");
        must(oct_cuda_program_launch(&program, nullptr), "the persistent kernel");
        std::vector<uint8_t> results = memory.results();
        must(oct_cuda_program_check(&program.words), "the persistent kernel");
        for (uint32_t word : words.values())
            if (word != 0)
                fail("the words of the grid are not 0 behind a launch");
        return results;
    }
};
#endif
