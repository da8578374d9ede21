// The launches of a step, recorded. Operands point nowhere: a stream that is captured runs nothing.
#include "tests/bench/gpu_launches.h"

#include <cstdio>
#include <cstdlib>

#include <cxxabi.h>
#include <dlfcn.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/head.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/projection.h"
#include "kernels/cuda/reduction.h"
#include "scheduler.h"

namespace
{
// What the launches of an operation move.
struct moved {
    uint64_t weights, cached, others;
};

struct recorder {
    const gpu_shard &shard;
    const gpu_piece &piece;
    oct_cuda_device device;
    cudaStream_t stream;
    std::vector<gpu_launch> launches;
    const oct_operation *operation; // that is being recorded

    const oct_step_program &program() const
    {
        return shard.program;
    }
};

recorder *recording;

[[noreturn]] void stop(const char *what, const char *text)
{
    fprintf(stderr, "bench_gpu_bounds: %s: %s\n", what, text);
    exit(1);
}

void must(oct_status status, const char *what)
{
    if (status != OCT_OK)
        stop(what, oct_failure_text());
}

void must(cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        stop(what, cudaGetErrorString(error));
}

// Somewhere on a device, aligned to 256.
template <class T> T *somewhere(void)
{
    return reinterpret_cast<T *>(uintptr_t(1) << 40);
}

// The kernel's name without its parameters.
std::string name_of(const void *function)
{
    Dl_info info;
    if (dladdr(function, &info) == 0 || info.dli_sname == nullptr)
        stop("a kernel", "it has no name; the program must export its symbols");
    char *text = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr);
    std::string name = text != nullptr ? text : info.dli_sname;
    free(text);
    return name.substr(0, name.find('('));
}

void watch(const void *function, dim3 blocks, dim3 threads, size_t dynamic_bytes)
{
    recording->launches.push_back({recording->operation->kind, recording->operation->layer, name_of(function), blocks,
                                   threads, dynamic_bytes, 0, 0, 0});
}

void add(recorder &r, moved bytes)
{
    r.launches.back().weight_bytes += bytes.weights;
    r.launches.back().cache_bytes += bytes.cached;
    r.launches.back().other_bytes += bytes.others;
}

// --- projections ---------------------------------------------------------------------------------------------------

oct_cuda_plan plan_of(const gpu_shard &shard, int32_t i)
{
    const oct_program_matrix &matrix = shard.program.matrices[i];
    const oct_encoding encoding = shard.encodings[(size_t)i];
    oct_cuda_plan plan;
    if (matrix.spec.split == OCT_SPLIT_COLUMNS)
        oct_cuda_plan_granules(&plan, encoding, matrix.spec.rows, matrix.spec.columns, &matrix.spec.partition,
                               matrix.granules);
    else
        oct_cuda_plan_rows(&plan, encoding, matrix.spec.columns);
    return plan;
}

// A projection without rows moves its input alone; each row also writes its outputs.
moved bytes_of(const oct_cuda_projection &p)
{
    oct_cuda_projection empty = p;
    uint64_t outputs = 0;
    for (int m = 0; m < p.matrix_count; m++) {
        empty.matrices[m].rows = 0;
        if (p.epilogue != OCT_CUDA_SILU_MULTIPLY || m == 0)
            outputs += (uint64_t)p.matrices[m].rows;
    }
    outputs *= (uint64_t)(p.input.columns * p.plan.nodes) * sizeof(float);
    outputs *= p.epilogue == OCT_CUDA_ADD || p.epilogue == OCT_CUDA_SILU_OF_OUT ? 2 : 1;
    const uint64_t input = oct_cuda_project_bytes(&empty);
    return {oct_cuda_project_bytes(&p) - input - outputs, 0, input + outputs};
}

void prepare_input(recorder &r, oct_cuda_projection &p, bool *prepared)
{
    if (oct_cuda_input_fits(&r.device, &p))
        return;
    p.input.prepared = somewhere<void *>();
    if (*prepared)
        return;
    *prepared = true;
    must(oct_cuda_prepare(&p.input, r.stream), "preparing an input");
    add(r, {0, 0, (uint64_t)p.input.columns * (uint64_t)p.input.width * sizeof(float) +
                      oct_cuda_prepared_bytes(p.input.width, p.input.columns)});
}

void project(recorder &r, oct_cuda_projection &p, bool *prepared)
{
    if (p.matrix_count == 0 || p.plan.segment_count == 0)
        return;
    prepare_input(r, p, prepared);
    must(oct_cuda_project(&r.device, &p, r.stream), "a projection");
    add(r, bytes_of(p));
}

oct_cuda_projection projection_of(const recorder &r, int32_t columns, oct_cuda_epilogue epilogue)
{
    oct_cuda_projection p = {};
    p.input.x = somewhere<float>();
    p.input.stride = p.input.width = r.program().model.hidden;
    p.input.columns = columns;
    p.input.norm = somewhere<float>();
    p.epilogue = epilogue;
    p.out_stride = 1;
    return p;
}

void add_matrix(const recorder &r, oct_cuda_projection &p, int32_t i)
{
    const oct_program_matrix &matrix = r.program().matrices[i];
    if (p.matrix_count == 0)
        p.plan = plan_of(r.shard, i);
    if (matrix.rows > 0)
        p.matrices[p.matrix_count++] = {somewhere<void>(), matrix.rows, somewhere<float>()};
}

// Matrices with one input: those of one encoding share a launch.
void project_rows(recorder &r, int32_t columns)
{
    bool prepared = false;
    const int32_t *matrices = r.operation->matrices;
    for (int m = 0; m < OCT_OPERATION_MATRICES && matrices[m] >= 0;) {
        oct_cuda_projection p = projection_of(r, columns, OCT_CUDA_STORE);
        const oct_encoding encoding = r.shard.encodings[(size_t)matrices[m]];
        for (; m < OCT_OPERATION_MATRICES && matrices[m] >= 0; m++) {
            if (r.shard.encodings[(size_t)matrices[m]] != encoding)
                break;
            add_matrix(r, p, matrices[m]);
        }
        project(r, p, &prepared);
    }
}

void project_gate_up(recorder &r)
{
    const int32_t gate = r.operation->matrices[0], up = r.operation->matrices[1];
    bool prepared = false;
    if (r.shard.encodings[(size_t)gate] == r.shard.encodings[(size_t)up]) {
        oct_cuda_projection both = projection_of(r, r.piece.columns, OCT_CUDA_SILU_MULTIPLY);
        add_matrix(r, both, gate);
        add_matrix(r, both, up);
        return project(r, both, &prepared);
    }
    oct_cuda_projection first = projection_of(r, r.piece.columns, OCT_CUDA_STORE);
    oct_cuda_projection second = projection_of(r, r.piece.columns, OCT_CUDA_SILU_OF_OUT);
    add_matrix(r, first, gate);
    add_matrix(r, second, up);
    project(r, first, &prepared);
    project(r, second, &prepared);
}

// Along K; several ranks finish the tree after they have gathered their nodes.
void project_nodes(recorder &r, const oct_tree_finish &tree)
{
    const int32_t ranks = r.program().ranks, hidden = r.program().model.hidden;
    oct_cuda_projection p = projection_of(r, r.piece.columns, ranks > 1 ? OCT_CUDA_NODES : OCT_CUDA_ADD);
    bool prepared = false;
    add_matrix(r, p, r.operation->matrices[0]);
    const int32_t segments = p.plan.segment_count;
    p.input.norm = nullptr;
    p.input.width = segments > 0 ? p.plan.segments[segments - 1].last - p.plan.segments[0].first : 0;
    project(r, p, &prepared);
    if (ranks == 1)
        return;
    std::vector<const float *> nodes((size_t)ranks, somewhere<const float>());
    oct_cuda_finish finish;
    oct_cuda_plan_finish(&finish, &tree, nodes.data(), ranks, r.piece.columns, hidden, somewhere<float>());
    must(oct_cuda_finish_tree(&finish, r.stream), "the end of a reduction");
    add(r, {0, 0, oct_cuda_finish_bytes(&finish)});
}

// --- all else ------------------------------------------------------------------------------------------------------

oct_cuda_step step_of(const recorder &r)
{
    return oct_cuda_step_place(somewhere<void>(), r.piece.columns, r.piece.logit_columns);
}

void embed(recorder &r)
{
    const int32_t hidden = r.program().model.hidden;
    oct_cuda_embedding embedding = {};
    embedding.step = step_of(r);
    embedding.weights = somewhere<void>();
    embedding.encoding = r.shard.encodings[(size_t)r.operation->matrices[0]];
    embedding.tiles = r.program().vocabulary_tiles;
    embedding.hidden = hidden;
    embedding.rows = somewhere<float>();
    must(oct_cuda_embed(&embedding, r.stream), "the embedding");
    const uint64_t rows = (uint64_t)r.piece.columns * (uint64_t)hidden * sizeof(float);
    add(r, {oct_cuda_embed_bytes(&embedding) - rows, 0, rows});
    if (r.program().ranks == 1)
        return;
    oct_cuda_row_choice choice = {};
    choice.step = step_of(r);
    choice.hidden = hidden;
    choice.residual = somewhere<float>();
    oct_cuda_set_token_owners(&choice, &r.program());
    must(oct_cuda_choose_rows(&choice, r.stream), "the choice of rows");
    add(r, {0, 0, oct_cuda_choose_rows_bytes(&choice)});
}

oct_cuda_attention attention_of(const recorder &r)
{
    const oct_model &model = r.program().model;
    oct_cuda_attention a = {};
    a.step = step_of(r);
    a.cache = {somewhere<uint16_t>(), model.layers, r.program().kv_heads.end - r.program().kv_heads.begin,
               model.head_dim};
    a.heads = oct_cuda_heads_of(&r.program());
    a.context = r.shard.context;
    a.rope_dims = model.rope_dims;
    return a;
}

void rotate(recorder &r)
{
    const oct_cuda_attention a = attention_of(r);
    if (a.heads.heads == 0)
        return;
    must(oct_cuda_rope_cache(&a, r.stream), "the rotation");
    add(r, {0, 0, oct_cuda_rope_cache_bytes(&a)});
}

// Keys and values are read once a run of columns, from the second run on perhaps out of a cache.
void attend(recorder &r)
{
    const oct_cuda_attention a = attention_of(r);
    if (a.heads.heads == 0)
        return;
    const int32_t run = oct_cuda_run_columns(&a.heads, a.cache.head_dim, r.piece.columns);
    int64_t positions = 0;
    for (int32_t c = 0; c < r.piece.columns; c += run) {
        const int32_t last = c + run < r.piece.columns ? c + run : r.piece.columns;
        positions += r.piece.positions - r.piece.columns + last;
    }
    must(oct_cuda_attend(&r.device, &a, r.stream), "attention");
    const uint64_t cached = oct_cuda_attention_bytes(&a, r.piece.positions) - oct_cuda_attention_bytes(&a, 0);
    add(r, {0, cached, oct_cuda_attention_bytes(&a, positions) - cached});
}

void select(recorder &r)
{
    const oct_cuda_step step = step_of(r);
    const oct_operation &head = *r.operation;
    if (r.piece.logit_columns == 0)
        return;
    project_rows(r, r.piece.logit_columns);
    must(oct_cuda_hash_columns(&step, somewhere<float>(), r.program().model.hidden, somewhere<uint64_t>(), r.stream),
         "the hash");
    add(r, {0, 0, oct_cuda_hash_bytes(&step, r.program().model.hidden)});
    oct_cuda_selection selection = {};
    selection.logits = somewhere<float>();
    selection.stride = r.program().logits_width;
    selection.first = r.program().vocabulary_tiles.begin * OCT_TILE_ROWS;
    selection.rows = (int32_t)r.program().matrices[head.matrices[0]].rows;
    selection.columns = r.piece.logit_columns;
    must(oct_cuda_select(&selection, r.stream), "the selection");
    add(r, {0, 0, oct_cuda_select_bytes(&selection)});
}

void record(recorder &r)
{
    switch (r.operation->kind) {
    case OCT_OP_EMBED:
        return embed(r);
    case OCT_OP_QKV:
        return project_rows(r, r.piece.columns);
    case OCT_OP_ROPE_CACHE:
        return rotate(r);
    case OCT_OP_ATTENTION:
        return attend(r);
    case OCT_OP_OUTPUT:
        return project_nodes(r, r.program().attention_finish);
    case OCT_OP_GATE_UP:
        return project_gate_up(r);
    case OCT_OP_DOWN:
        return project_nodes(r, r.program().ffn_finish);
    case OCT_OP_HEAD:
        return select(r);
    case OCT_OP_COUNT:
        break;
    }
}
} // namespace

uint64_t gpu_shard::matrix_bytes(int32_t i) const
{
    const oct_program_matrix &matrix = program.matrices[i];
    const oct_encoding encoding = oct_cuda_encoding(encodings[(size_t)i]);
    if (matrix.spec.split == OCT_SPLIT_ROWS)
        return (uint64_t)oct_tile_count(matrix.rows) * oct_strip_bytes(encoding, 0, matrix.spec.columns);
    uint64_t bytes = 0;
    for (int32_t g = matrix.granules.begin; g < matrix.granules.end; g++) {
        const oct_column_run run = oct_program_granule_columns(&matrix, g);
        bytes += (uint64_t)oct_tile_count(matrix.rows) * oct_strip_bytes(encoding, run.begin, run.end);
    }
    return bytes;
}

uint64_t gpu_shard::weight_bytes() const
{
    uint64_t bytes = 0;
    for (int32_t i = 0; i < program.matrix_count; i++)
        bytes += matrix_bytes(i);
    return bytes;
}

uint64_t gpu_shard::operation_weight_bytes(const oct_operation &operation) const
{
    uint64_t bytes = 0;
    for (int32_t matrix : operation.matrices)
        bytes += matrix >= 0 ? matrix_bytes(matrix) : 0;
    return bytes;
}

std::vector<gpu_launch> gpu_launches_of(const gpu_shard &shard, const gpu_piece &piece, int32_t multiprocessors)
{
    recorder r = {shard, piece, {}, nullptr, {}, nullptr};
    cudaGraph_t graph;
    must(oct_cuda_device_read(&r.device), "the device");
    must(oct_cuda_projection_load(&r.device), "loading");
    r.device.multiprocessors = multiprocessors;
    must(cudaStreamCreateWithFlags(&r.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    must(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    recording = &r;
    cuda_emulation::launch_watcher = watch;
    for (int32_t i = 0; i < shard.program.operation_count; i++) {
        r.operation = &shard.program.operations[i];
        record(r);
    }
    cuda_emulation::launch_watcher = nullptr;
    must(cudaStreamEndCapture(r.stream, &graph), "cudaStreamEndCapture");
    must(cudaGraphDestroy(graph), "cudaGraphDestroy");
    must(cudaStreamDestroy(r.stream), "cudaStreamDestroy");
    return r.launches;
}
