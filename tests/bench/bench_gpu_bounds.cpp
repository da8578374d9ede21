// What the CUDA backend's steps cost at least, on GPUs that nobody needs to have: for each operation the bytes that its
// kernels move, launches, grids, blocks an SM, and the time that three GPUs' memory takes to read its weights, keys and
// values once. The backend's own walk over a step program is recorded (gpu_launches.h); registers and shared memory
// come from the table that the build prints (kernels/cuda/print-resources).
//
//   bench_gpu_bounds [--synthetic SHAPE [--encoding NAME] [--embedding NAME] [--ranks N]] [--positions N]
//                    [--prefill-chunk N] [--gathers] [--resources FILE] [--check]
//
// Without a shape: SmolLM2 135M as its GGUF file is (q4_1, embedding q8) on 1 GPU, llama-70b q4 on 8, with --check on 3
// as well. --gathers: NCCL gathers what kernels otherwise exchange. Leaves with 1
// where an operation of a step of 1 … 8 columns reads a weight twice, or a prompt of 2048 tokens in chunks (of 128, as
// octet takes them by itself) reads one more than 32 times; --check does only that.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/cuda/projection.h"
#include "tests/bench/gpu_launches.h"

extern "C" {
#include "checkpoints/synthetic.h"
}

namespace
{
enum { PROMPT_COLUMNS = 2048, PROMPT_READS = 32, NARROW = 8, WARP = 32 };

// CUDA C++ Programming Guide, technical specifications per compute capability; memory and SMs as NVIDIA's data sheets
// say (SXM and HGX modules).
struct gpu {
    const char *name, *architecture;
    double tb_per_s;
    int multiprocessors, threads, blocks, registers;
    size_t shared_bytes;
};
constexpr gpu gpus[] = {
    {"H100", "sm_90a", 3.35, 132, 2048, 32, 65536, 228 << 10},
    {"H200", "sm_90a", 4.8, 132, 2048, 32, 65536, 228 << 10},
    {"B200", "sm_100a", 8.0, 148, 2048, 32, 65536, 228 << 10},
};
enum { GPUS = sizeof gpus / sizeof gpus[0] };
constexpr double reductions_us[] = {3.5, 7, 25};

struct options {
    const char *shape, *encoding, *embedding, *resources;
    int32_t ranks, positions, chunk;
    bool check, gathers;
};

[[noreturn]] void usage(const char *what)
{
    fprintf(stderr,
            "bench_gpu_bounds: %s\nusage: bench_gpu_bounds [--synthetic SHAPE [--encoding NAME] [--embedding NAME] "
            "[--ranks N]] [--positions N] [--prefill-chunk N] [--gathers] [--resources FILE] [--check]\n",
            what);
    exit(2);
}

// --- resources -----------------------------------------------------------------------------------------------------

struct resources {
    int registers, shared_bytes;
};
std::map<std::pair<std::string, std::string>, resources> known; // by architecture and kernel

// Lines of print-resources: registers, shared memory, stack, spills twice, architecture, kernel.
void read_resources(const char *path)
{
    std::ifstream file(path);
    std::string line;
    if (!file)
        usage("--resources FILE cannot be read");
    while (std::getline(file, line)) {
        std::istringstream words(line);
        resources r;
        int stack, stores, loads;
        std::string architecture, kernel;
        if (!(words >> r.registers >> r.shared_bytes >> stack >> stores >> loads >> architecture))
            continue;
        std::getline(words >> std::ws, kernel);
        known[{architecture, kernel}] = r;
    }
    if (known.empty())
        usage("--resources FILE has no line of print-resources");
}

// Blocks of a launch that an SM holds at one time; 0: not known. Registers are given to warps in portions of 256,
// shared memory to blocks with 1 KiB more than they ask for.
int blocks_of_multiprocessor(const gpu &on, const gpu_launch &launch)
{
    const auto found = known.find({on.architecture, launch.kernel});
    if (found == known.end())
        return 0;
    const int threads = (int)(launch.threads.x * launch.threads.y), warps = (threads + WARP - 1) / WARP;
    const int of_warp = (found->second.registers * WARP + 255) / 256 * 256;
    const size_t shared = launch.dynamic_bytes + (size_t)found->second.shared_bytes + 1024;
    const int by_shared = (int)(on.shared_bytes / shared), by_registers = on.registers / of_warp / warps;
    return std::min(std::min(by_shared, by_registers), std::min(on.threads / threads, on.blocks));
}

// --- tables --------------------------------------------------------------------------------------------------------

// Launches of one operation that are alike.
struct row {
    gpu_launch launch; // on the first GPU
    dim3 last_blocks;  // on the last
    int count;
    uint64_t weight_bytes, cache_bytes, other_bytes;
};

bool are_alike(const gpu_launch &a, const gpu_launch &b)
{
    return a.operation == b.operation && a.kernel == b.kernel && a.blocks.x == b.blocks.x && a.blocks.y == b.blocks.y &&
           a.blocks.z == b.blocks.z && a.dynamic_bytes == b.dynamic_bytes;
}

std::vector<row> rows_of(const gpu_shard &shard, const gpu_piece &piece)
{
    const std::vector<gpu_launch> first = gpu_launches_of(shard, piece, gpus[0].multiprocessors);
    const std::vector<gpu_launch> last = gpu_launches_of(shard, piece, gpus[GPUS - 1].multiprocessors);
    std::vector<row> rows;
    for (size_t i = 0; i < first.size(); i++) {
        size_t at = 0;
        while (at < rows.size() && !are_alike(rows[at].launch, first[i]))
            at++;
        if (at == rows.size())
            rows.push_back({first[i], last[i].blocks, 0, 0, 0, 0});
        rows[at].count++;
        rows[at].weight_bytes += first[i].weight_bytes();
        rows[at].cache_bytes += first[i].cache_bytes;
        rows[at].other_bytes += first[i].other_bytes;
    }
    return rows;
}

double microseconds(const gpu &on, uint64_t bytes)
{
    return (double)bytes / on.tb_per_s * 1e-6;
}

std::string grid(dim3 blocks)
{
    char text[48];
    const char *format = blocks.z > 1 ? "%u x %u x %u" : blocks.y > 1 ? "%u x %u" : "%u";
    snprintf(text, sizeof text, format, blocks.x, blocks.y, blocks.z);
    return text;
}

std::string short_name(const std::string &kernel)
{
    std::string name = kernel;
    for (const char *part : {"void ", "oct_weights_", "oct_", "_kernel"})
        for (size_t at = name.find(part); at != std::string::npos; at = name.find(part))
            name.erase(at, strlen(part));
    return name;
}

std::string residents(const gpu &on, const gpu_launch &launch)
{
    const int blocks = blocks_of_multiprocessor(on, launch);
    return blocks > 0 ? std::to_string(blocks) : "?";
}

void print_times(uint64_t bytes)
{
    for (const gpu &on : gpus)
        printf(" %.2f |", microseconds(on, bytes));
    printf("\n");
}

void print_table(const gpu_shard &shard, const gpu_piece &piece)
{
    const gpu &first = gpus[0], &last = gpus[GPUS - 1];
    printf("\n%d column%s, %d of them sampled, behind %lld positions:\n\n", piece.columns, piece.columns > 1 ? "s" : "",
           piece.logit_columns, (long long)piece.positions);
    printf("| operation | kernel | launches | weights, KB | keys and values, KB | other, KB | grid, %d SMs "
           "| grid, %d SMs | threads | shared, KB | blocks an SM, %s | %s |",
           first.multiprocessors, last.multiprocessors, first.architecture, last.architecture);
    for (const gpu &on : gpus)
        printf(" us at %.2f TB/s |", on.tb_per_s);
    printf("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    uint64_t weights = 0, cached = 0, others = 0;
    int launches = 0;
    for (const row &r : rows_of(shard, piece)) {
        printf("| %s | %s | %d | %.1f | %.1f | %.1f | %s | %s | %u | %.1f | %s | %s |",
               oct_operation_name(r.launch.operation), short_name(r.launch.kernel).c_str(), r.count,
               (double)r.weight_bytes / 1e3, (double)r.cache_bytes / 1e3, (double)r.other_bytes / 1e3,
               grid(r.launch.blocks).c_str(), grid(r.last_blocks).c_str(), r.launch.threads.x,
               (double)r.launch.dynamic_bytes / 1024, residents(first, r.launch).c_str(),
               residents(last, r.launch).c_str());
        print_times(r.weight_bytes + r.cache_bytes);
        launches += r.count;
        weights += r.weight_bytes;
        cached += r.cache_bytes;
        others += r.other_bytes;
    }
    printf("| all | | %d | %.1f | %.1f | %.1f | | | | | | |", launches, (double)weights / 1e3, (double)cached / 1e3,
           (double)others / 1e3);
    print_times(weights + cached);
}

// That the memory must deliver.
uint64_t bytes_of_step(const gpu_shard &shard, const gpu_piece &piece)
{
    uint64_t bytes = 0;
    for (const gpu_launch &launch : gpu_launches_of(shard, piece, gpus[0].multiprocessors))
        bytes += launch.weight_bytes() + launch.cache_bytes;
    return bytes;
}

// Two reductions a layer and the exchange of the embedding's rows; a single rank has none.
int reductions_of(const gpu_shard &shard)
{
    return shard.program.ranks > 1 ? 2 * shard.program.model.layers + 1 : 0;
}

// The persistent executor has one operation a launch; with gathers it has none.
void print_barriers(const gpu_shard &shard, int32_t positions)
{
    if (shard.program.ranks > 1 && shard.gathers)
        return;
    printf("\nAs one kernel (--executor persistent):");
    for (int32_t columns : {1, 8})
        printf(" %d barriers of the grid in a step of %d column%s%s",
               (int)gpu_launches_of(shard, {columns, columns, positions}, gpus[0].multiprocessors).size() - 1, columns,
               columns > 1 ? "s" : "", columns > 1 ? ".\n" : ",");
}

void print_totals(const gpu_shard &shard, int32_t positions)
{
    const int reductions = reductions_of(shard);
    printf("\nA step at the least, in us (weights, keys and values over bandwidth; %d exchanges between ranks):\n\n",
           reductions);
    printf("| columns | memory |");
    for (double us : reductions_us)
        printf(" with exchanges of %g us |", us);
    printf(" steps a second, at %g us |\n|---|---|---|---|---|---|\n", reductions_us[0]);
    for (int32_t columns : {1, 8})
        for (const gpu &on : gpus) {
            const double memory = microseconds(on, bytes_of_step(shard, {columns, columns, positions}));
            printf("| %d | %.1f (%s, %.2f TB/s) |", columns, memory, on.name, on.tb_per_s);
            for (double us : reductions_us)
                printf(" %.1f |", memory + reductions * us);
            printf(" %.0f |\n", 1e6 / (memory + reductions * reductions_us[0]));
        }
}

// --- checks --------------------------------------------------------------------------------------------------------

typedef std::map<std::pair<oct_operation_kind, int32_t>, double> matrix_reads;

// Adds how often a piece reads each matrix, by operation: the head may read an embedding's matrix too.
void add_reads(const gpu_shard &shard, const gpu_piece &piece, matrix_reads *reads)
{
    for (const gpu_launch &launch : gpu_launches_of(shard, piece, gpus[0].multiprocessors))
        for (const auto &[matrix, bytes] : launch.reads)
            (*reads)[{launch.operation, matrix}] += (double)bytes / (double)shard.matrix_bytes(matrix);
}

// An embedding reads a row a column; every other operation its matrices whole, and every matrix is read.
bool check_step(const gpu_shard &shard, int32_t columns)
{
    matrix_reads reads;
    std::vector<bool> seen((size_t)shard.program.matrix_count);
    bool good = true;
    add_reads(shard, {columns, columns, columns}, &reads);
    for (const auto &[of, times] : reads) {
        const bool expected = of.first == OCT_OP_EMBED ? times <= 1 : times == 1;
        seen[(size_t)of.second] = true;
        good = good && expected;
        if (!expected)
            fprintf(stderr, "FAILED: %s reads %s %.3f times in a step of %d columns\n", oct_operation_name(of.first),
                    shard.program.matrices[of.second].spec.name, times, columns);
    }
    for (int32_t i = 0; i < shard.program.matrix_count; i++)
        if (!seen[(size_t)i] && shard.matrix_bytes(i) > 0) {
            fprintf(stderr, "FAILED: nothing reads %s\n", shard.program.matrices[i].spec.name);
            good = false;
        }
    return good;
}

bool check_prompt(const gpu_shard &shard, int32_t chunk, double *most)
{
    matrix_reads reads;
    for (int32_t at = 0; at < PROMPT_COLUMNS; at += chunk) {
        const int32_t left = PROMPT_COLUMNS - at, columns = left < chunk ? left : chunk;
        add_reads(shard, {columns, left == columns ? 1 : 0, at + columns}, &reads);
    }
    *most = 0;
    for (const auto &[of, times] : reads)
        *most = std::fmax(*most, times);
    if (*most > PROMPT_READS)
        fprintf(stderr, "FAILED: a prompt of %d tokens reads weights %.1f times, at most %d allowed\n", PROMPT_COLUMNS,
                *most, PROMPT_READS);
    return *most > 0 && *most <= PROMPT_READS;
}

bool check(const gpu_shard &shard, int32_t chunk)
{
    bool once = true;
    double most;
    for (int32_t columns = 1; columns <= NARROW; columns++)
        once = check_step(shard, columns) && once;
    const bool good = check_prompt(shard, chunk, &most);
    printf("\nSteps of 1 to %d columns: %s. A prompt of %d tokens in chunks of %d reads a weight\n"
           "at most %g times.\n",
           NARROW, once ? "every operation reads its weights once" : "FAILED", PROMPT_COLUMNS, chunk, most);
    return once && good;
}

// --- models --------------------------------------------------------------------------------------------------------

oct_encoding encoding_of(const char *name)
{
    const int encoding = oct_encoding_find(name);
    if (encoding < 0)
        usage("an encoding is not known");
    return (oct_encoding)encoding;
}

gpu_shard make_shard(const oct_model &model, const options &o, int32_t rank)
{
    gpu_shard shard = {};
    if (oct_step_program_build(&shard.program, &model, o.ranks, rank) != OCT_OK)
        usage(oct_failure_text());
    for (int32_t i = 0; i < shard.program.matrix_count; i++)
        shard.encodings.push_back(encoding_of(shard.program.matrices[i].spec.layer < 0 ? o.embedding : o.encoding));
    shard.context = model.context < 8192 ? model.context : 8192;
    shard.gathers = o.gathers;
    return shard;
}

// The rank that has most to read, whom the others wait for.
gpu_shard largest_shard(const oct_model &model, const options &o)
{
    gpu_shard largest = make_shard(model, o, 0);
    for (int32_t rank = 1; rank < o.ranks; rank++) {
        gpu_shard shard = make_shard(model, o, rank);
        if (shard.weight_bytes() > largest.weight_bytes())
            std::swap(largest, shard);
        oct_step_program_free(&shard.program);
    }
    return largest;
}

bool run(const options &o)
{
    oct_model model;
    if (oct_synthetic_model(o.shape, &model) != OCT_OK)
        usage(oct_failure_text());
    gpu_shard shard = largest_shard(model, o);
    printf("\n### %s, %s, embedding and head %s, %d GPU%s\n\nrank %d (the one with most to read): %.1f MB of weights\n",
           o.shape, o.encoding, o.embedding, o.ranks, o.ranks > 1 ? "s" : "", shard.program.rank,
           (double)shard.weight_bytes() / 1e6);
    if (!o.check) {
        print_table(shard, {1, 1, o.positions});
        print_table(shard, {NARROW, NARROW, o.positions});
        print_barriers(shard, o.positions);
        print_totals(shard, o.positions);
    }
    const bool good = check(shard, o.chunk);
    oct_step_program_free(&shard.program);
    return good;
}

options parse(int count, char **words)
{
    options o = {nullptr, "q4", nullptr, nullptr, 1, 1024, 128, false, false};
    for (int i = 1; i < count; i++) {
        const std::string word = words[i];
        if (word == "--check") {
            o.check = true;
            continue;
        }
        if (word == "--gathers") {
            o.gathers = true;
            continue;
        }
        const char *value = i + 1 < count ? words[++i] : nullptr;
        if (value == nullptr)
            usage("an option is not known or has no value");
        if (word == "--synthetic")
            o.shape = value;
        else if (word == "--encoding")
            o.encoding = value;
        else if (word == "--embedding")
            o.embedding = value;
        else if (word == "--ranks")
            o.ranks = atoi(value);
        else if (word == "--positions")
            o.positions = atoi(value);
        else if (word == "--prefill-chunk")
            o.chunk = atoi(value);
        else if (word == "--resources")
            o.resources = value;
        else
            usage("an option is not known");
    }
    if (o.embedding == nullptr)
        o.embedding = o.encoding;
    if (o.ranks < 1 || o.positions < NARROW || o.positions > 8192 || o.chunk < 1 || o.chunk > OCT_CUDA_MAX_COLUMNS)
        usage("--ranks takes 1 and more, --positions 8 to 8192, --prefill-chunk 1 to 256");
    return o;
}
} // namespace

int main(int count, char **words)
{
    options o = parse(count, words);
    if (o.resources != nullptr)
        read_resources(o.resources);
    if (o.shape != nullptr)
        return run(o) ? 0 : 1;
    o.shape = "smollm2-135m", o.encoding = "q4_1", o.embedding = "q8", o.ranks = 1;
    bool good = run(o);
    o.shape = "llama-70b", o.encoding = o.embedding = "q4", o.ranks = 8;
    good = run(o) && good;
    o.ranks = 3;
    if (o.check)
        good = run(o) && good;
    return good ? 0 : 1;
}
