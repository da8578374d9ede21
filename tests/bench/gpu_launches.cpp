// The launches of a step, recorded. Operands point nowhere: a stream that is captured runs nothing.
#include "tests/bench/gpu_launches.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <cxxabi.h>
#include <dlfcn.h>

#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/embedding_body.h"
#include "kernels/cuda/head_body.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/projection.h"
#include "kernels/cuda/reduction_body.h"
#include "scheduler.h"
#include "settings.h"

extern "C" {
#include "kernels/cuda/backend_state.h"
}

namespace
{
// A walk on its way.
struct recorder {
    const gpu_shard *shard;
    const gpu_piece *piece;
    oct_cuda_backend backend;
    std::vector<gpu_launch> launches;
    std::vector<int32_t> marks; // [launches] the backend's mark behind each
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

// Somewhere on a device, aligned to 256; matrices have places of their own.
enum { MATRIX_BITS = 40 };

template <class T> T *somewhere(int32_t place = 0)
{
    return reinterpret_cast<T *>(static_cast<uintptr_t>(place + 1) << MATRIX_BITS);
}

// The kernel's name without its parameters.
std::string name_of(const void *function)
{
    Dl_info info;
    if (dladdr(function, &info) == 0 || info.dli_sname == nullptr)
        stop("a kernel", "it has no name; the program must export its symbols");
    char *text = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr);
    const std::string name = text != nullptr ? text : info.dli_sname;
    free(text);
    return name.substr(0, name.find('('));
}

// --- bytes ---------------------------------------------------------------------------------------------------------

// A projection without rows moves its input alone; each row also writes its outputs. What is left are weights.
void count_projection(const oct_cuda_projection &p, gpu_launch &launch)
{
    oct_cuda_projection empty = p;
    empty.epilogue = OCT_CUDA_STORE;
    for (oct_cuda_matrix &matrix : empty.matrices)
        matrix.rows = 0;
    const uint64_t input = oct_cuda_project_bytes(&empty), all = oct_cuda_project_bytes(&p);
    for (int m = 0; m < p.matrix_count; m++) {
        oct_cuda_projection one = empty;
        one.matrices[0] = p.matrices[m];
        one.matrix_count = 1;
        one.epilogue = OCT_CUDA_STORE;
        const int64_t place = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p.matrices[m].weights) >> MATRIX_BITS);
        const uint64_t outputs =
            (uint64_t)(p.input.columns * p.plan.nodes) * (uint64_t)p.matrices[m].rows * sizeof(float);
        launch.reads.push_back({(int32_t)place - 1, oct_cuda_project_bytes(&one) - input - outputs});
    }
    launch.other_bytes = all - launch.weight_bytes();
}

void count_embedding(const oct_cuda_embedding &embedding, gpu_launch &launch)
{
    launch.other_bytes = (uint64_t)embedding.step.columns * (uint64_t)embedding.hidden * sizeof(float);
    launch.reads.push_back(
        {recording->shard->program.operations[0].matrices[0], oct_cuda_embed_bytes(&embedding) - launch.other_bytes});
}

// Keys and values are read once a run of columns, from the second run on perhaps out of a cache.
void count_attention(const oct_cuda_attention &a, gpu_launch &launch)
{
    const int32_t columns = a.step.columns;
    const oct_cuda_run_limits limits = oct_cuda_run_limits_of(&a.heads, &a.cache, columns);
    const int32_t run =
        recording->piece->positions > limits.positions ? limits.columns_beyond : limits.columns_up_to;
    int64_t positions = 0;
    for (int32_t c = 0; c < columns; c += run)
        positions += recording->piece->positions - columns + (c + run < columns ? c + run : columns);
    launch.cache_bytes = oct_cuda_attention_bytes(&a, recording->piece->positions) - oct_cuda_attention_bytes(&a, 0);
    launch.other_bytes = oct_cuda_attention_bytes(&a, positions) - launch.cache_bytes;
}

void count_preparation(const oct_cuda_input &input, gpu_launch &launch)
{
    launch.other_bytes = (uint64_t)input.columns * (uint64_t)input.width * sizeof(float) +
                         oct_cuda_prepared_bytes(input.width, input.columns);
}

void count_bytes(void **arguments, gpu_launch &launch)
{
    const std::string &kernel = launch.kernel;
    const auto is = [&](const char *name) { return kernel.find(name) != std::string::npos; };
    if (is("oct_project_"))
        return count_projection(*static_cast<oct_cuda_projection *>(arguments[0]), launch);
    if (is("oct_embed_kernel"))
        return count_embedding(static_cast<oct_embed_operands *>(arguments[0])->embedding, launch);
    if (is("oct_attention_kernel"))
        return count_attention(static_cast<oct_attention_operands *>(arguments[0])->launch, launch);
    if (is("oct_prepare_kernel"))
        return count_preparation(*static_cast<oct_cuda_input *>(arguments[0]), launch);
    if (is("oct_choose_rows_kernel"))
        launch.other_bytes = oct_cuda_choose_rows_bytes(static_cast<oct_cuda_row_choice *>(arguments[0]));
    else if (is("oct_rope_cache_kernel"))
        launch.other_bytes = oct_cuda_rope_cache_bytes(static_cast<oct_cuda_attention *>(arguments[0]));
    else if (is("oct_finish_kernel"))
        launch.other_bytes = oct_cuda_finish_bytes(static_cast<oct_cuda_finish *>(arguments[0]));
    else if (is("oct_reduce_kernel"))
        launch.other_bytes = oct_cuda_reduce_bytes(static_cast<oct_cuda_reduction *>(arguments[0]));
    else if (is("oct_exchange_rows_kernel"))
        launch.other_bytes = oct_cuda_exchange_rows_bytes(static_cast<oct_cuda_row_exchange *>(arguments[0]));
    else if (is("oct_select_kernel"))
        launch.other_bytes = oct_cuda_select_bytes(&static_cast<oct_select_operands *>(arguments[0])->selection);
    else
        stop(kernel.c_str(), "nothing is known of this kernel's bytes");
}

void watch(const void *, dim3 blocks, dim3 threads, size_t dynamic_bytes)
{
    gpu_launch &launch = recording->launches.back();
    launch.blocks = blocks;
    launch.threads = threads;
    launch.dynamic_bytes = dynamic_bytes;
}

// --- the walk ------------------------------------------------------------------------------------------------------

oct_status gather(void *, void *, const void *, void *, size_t)
{
    return OCT_OK;
}

// What the walk looks at of a backend. The exchange of several ranks does nothing.
struct walk {
    oct_device_exchange exchange;
    std::vector<oct_cuda_shard_matrix> matrices;
    std::vector<float *> vectors;
    std::vector<cudaEvent_t> marks;
    std::vector<int8_t> marked;
    oct_operation_times times;
};

void make_peers(const oct_step_program &program, int32_t columns, oct_cuda_peers &peers)
{
    const int32_t nodes = program.attention_finish.nodes > program.ffn_finish.nodes ? program.attention_finish.nodes
                                                                                    : program.ffn_finish.nodes;
    peers.ranks = program.ranks;
    peers.rank = program.rank;
    peers.hidden = program.model.hidden;
    peers.exchanges = 1 + 2 * (uint32_t)program.model.layers;
    peers.layout = oct_cuda_peer_layout_make(program.ranks, nodes, columns, program.model.hidden);
}

void make_backend(recorder &r, walk &w, int32_t multiprocessors)
{
    const oct_step_program &program = r.shard->program;
    oct_cuda_backend &b = r.backend;
    b.program = &program;
    b.options.context = r.shard->context;
    w.exchange.ranks = program.ranks;
    w.exchange.rank = program.rank;
    w.exchange.gather = gather;
    b.exchange = program.ranks > 1 ? &w.exchange : nullptr;
    if (program.ranks > 1 && !r.shard->gathers)
        make_peers(program, r.piece->columns, b.peers);
    b.nodes.own = b.gathered.own = somewhere<void>();
    w.matrices.resize((size_t)program.matrix_count);
    b.matrices = w.matrices.data();
    oct_cuda_describe(&b, r.shard->encodings.data());
    for (int32_t i = 0; i < program.matrix_count; i++)
        w.matrices[(size_t)i].weights = somewhere<uint8_t>(i);
    w.vectors.assign((size_t)program.vector_count, somewhere<float>());
    b.vectors = w.vectors.data();
    b.two_shot_bytes = SIZE_MAX;
    b.squares = somewhere<float>();
    b.rope = b.residual = b.qkv = b.attention = b.inner = b.logits = b.states = somewhere<float>();
    b.kv_cache = somewhere<uint8_t>();
    b.queries = somewhere<uint16_t>();
    b.prepared = b.selection_scratch = somewhere<void>();
    b.arrivals = b.selection_arrivals = somewhere<uint32_t>();
    cuda_emulation::settings.processors = multiprocessors; // cooperative launches are checked
    must(oct_cuda_device_read(&b.device), "the device");
    must(oct_cuda_projection_load(&b.device), "loading");
    b.device.multiprocessors = multiprocessors;
}

// Marks tell which operation a launch belongs to: one behind its kernels, one behind an exchange, one behind its end.
void make_marks(oct_cuda_backend &b, walk &w, cudaEvent_t event)
{
    w.marks.assign((size_t)(3 * b.program->operation_count + 1), event);
    w.marked.resize(w.marks.size());
    b.times = &w.times;
    b.marks = w.marks.data();
    b.marked = w.marked.data();
}

oct_cuda_piece make_piece(const gpu_piece &of)
{
    oct_cuda_piece piece = {};
    piece.columns = of.columns;
    piece.logit_columns = of.logit_columns;
    piece.step = oct_cuda_step_place(somewhere<void>(), of.columns, of.logit_columns);
    piece.sampled = somewhere<oct_cuda_sampled_column>();
    piece.logits = somewhere<float>();
    piece.results = oct_cuda_results_place(somewhere<void>(), of.logit_columns);
    return piece;
}
} // namespace

namespace cuda_emulation
{
// Called for every launch before watch() is; the compiled kernel stays in its place.
void ptx_body(const void *function, void **arguments, const size_t *, size_t, std::function<void()> *)
{
    gpu_launch launch = {};
    launch.kernel = name_of(function);
    count_bytes(arguments, launch);
    recording->launches.push_back(launch);
    recording->marks.push_back(recording->backend.mark_count);
}
} // namespace cuda_emulation

uint64_t gpu_launch::weight_bytes() const
{
    uint64_t bytes = 0;
    for (const auto &[matrix, of_matrix] : reads)
        bytes += of_matrix;
    return bytes;
}

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

std::vector<gpu_launch> gpu_launches_of(const gpu_shard &shard, const gpu_piece &piece, int32_t multiprocessors)
{
    recorder r = {&shard, &piece, {}, {}, {}};
    walk w = {};
    cudaEvent_t event;
    cudaGraph_t graph;
    const oct_cuda_piece of_walk = make_piece(piece);
    make_backend(r, w, multiprocessors);
    must(cudaEventCreate(&event), "cudaEventCreate");
    make_marks(r.backend, w, event);
    must(cudaStreamCreateWithFlags(&r.backend.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    must(cudaStreamBeginCapture(r.backend.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    recording = &r;
    cuda_emulation::launch_watcher = watch;
    must(oct_cuda_walk(&r.backend, &of_walk), "the walk");
    cuda_emulation::launch_watcher = nullptr;
    must(cudaStreamEndCapture(r.backend.stream, &graph), "cudaStreamEndCapture");
    for (size_t i = 0; i < r.launches.size(); i++) {
        const size_t at = (size_t)r.marks[i];
        const bool exchanges = w.marked[at] == OCT_OP_COUNT; // for the operation that ends with the next mark
        r.launches[i].operation = (oct_operation_kind)w.marked[exchanges ? at + 1 : at];
    }
    must(cudaGraphDestroy(graph), "cudaGraphDestroy");
    must(cudaStreamDestroy(r.backend.stream), "cudaStreamDestroy");
    must(cudaEventDestroy(event), "cudaEventDestroy");
    return r.launches;
}
